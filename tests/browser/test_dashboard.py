"""The dashboard in a real browser: live, by keyboard, without script, readable for everybody."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error

from tests.base import wait_until
from tests.browser.screenshots import NODE, pages
from tests.browser.site import sign_in

pytestmark = pytest.mark.browser

LIVE = "#live[data-state=live]"


def open_session(page, place):
    page.goto(f"{place.url}/sessions/{place.session}/")
    page.wait_for_selector(LIVE)
    page.wait_for_selector("[data-map] canvas:not([hidden])")


def said_of(page, keys):
    """What the map says of the node that these keys lead to."""
    page.focus("[data-map] canvas")
    for key in keys:
        page.keyboard.press(key)
    return page.inner_text("[data-said]")


def serious(result, where):
    """What axe holds against a page: {where and rule: the first parts that break it}."""
    return {
        f"{where} {violation['id']}": [node["html"][:160] for node in violation["nodes"][:3]]
        for violation in result.response["violations"]
        if violation["impact"] in {"serious", "critical"}
    }


# -- every page ----------------------------------------------------------------------------------------


def test_no_page_breaks_the_policy_or_says_an_error_and_axe_finds_nothing_serious(context, place):
    page = context.new_page()
    complaints = []
    page.on(
        "console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    sign_in(page, place.url, "ada")
    found = {}
    more = {
        "audit": "/activity/audit/",
        "import": "/nodes/import",
        "nodes-filtered": "/nodes/?state=failed",
        "retry": f"/sessions/{place.session}/retry",
        "approve": f"/tasks/{place.task}/runs/7/approve",
    }
    for name, path in (pages(place) | more).items():
        complaints.clear()
        page.goto(place.url + path)
        page.wait_for_load_state("load")
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            # Without `preload`, by which axe writes the sheets that are imported into the page.
            options = {"resultTypes": ["violations"], "preload": False}
            found |= serious(Axe().run(page, options=options), f"{name} {theme}")
        page.emulate_media(color_scheme="light")
        if name != "not-found" and complaints:  # Chromium reports the 404 of the page itself
            found[f"{name} console"] = list(complaints)
    assert found == {}


def test_at_390_pixels_nothing_sticks_out(context, place):
    page = context.new_page()
    page.set_viewport_size({"width": 390, "height": 844})
    sign_in(page, place.url, "ada")
    wide = {}
    for name, path in pages(place).items():
        page.goto(place.url + path)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 390:
            wide[name] = width
    assert wide == {}


def test_the_api_docs_are_drawn_from_our_own_files(context, place):
    page = context.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    sign_in(page, place.url, "ada")
    page.goto(f"{place.url}/api/docs/")
    page.wait_for_selector(".swagger-ui .info")
    assert [url for url in asked if not url.startswith((place.url, "data:"))] == []


def test_without_script_everything_is_readable_and_can_be_done(chrome, place):
    context = chrome.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, place.url)
    page.goto(f"{place.url}/sessions/{place.session}/?tab=errors")
    assert "The BMC does not answer." in page.inner_text("main")
    page.click("text=The same in words")
    assert "x1000" in page.inner_text(".cabinets")
    page.click("text=Cancel…")
    assert "Back, do nothing" in page.inner_text("main")
    page.goto(f"{place.url}/nodes/?nodes=x1000c0s1")
    assert page.locator("tbody tr").count() == 4
    context.close()


# -- live ----------------------------------------------------------------------------------------------


def test_the_map_and_the_counts_follow_the_stream(olga, place):
    open_session(olga, place)
    assert "boot ◐ in progress" in said_of(olga, ["Home"])
    place.python("-m", "tests.browser.act", "fail", place.session, "x1000c0s0b1n0")
    olga.wait_for_selector("text=The node fell over.")
    assert "boot ✕ failed" in olga.inner_text("[data-said]")  # without a key


def test_what_happens_while_the_web_process_is_gone_is_not_missed(olga, place):
    open_session(olga, place)
    place.kill()
    olga.wait_for_selector("#live[data-state=reconnecting]")
    place.python("-m", "tests.browser.act", "fail", place.session, "x1000c0s0b1n1")
    place.start()
    olga.wait_for_selector(LIVE)
    olga.locator("#session-live", has_text="2 of 14 failed: The node fell over.").wait_for()
    assert "boot ✕ failed" in said_of(olga, ["Home", "ArrowRight"])


def test_a_part_that_could_not_be_fetched_is_fetched_again_without_another_event(olga, context, place):
    open_session(olga, place)
    context.set_offline(True)  # of the page alone: the shared worker keeps its stream
    with olga.expect_event("requestfailed", lambda request: request.url.endswith("/live")):
        place.python("-m", "tests.browser.act", "fail", place.session, "x1000c0s2b0n1")
    context.set_offline(False)
    olga.locator("#session-live", has_text="x1000c0s2b0n1").wait_for()


def test_two_tabs_share_one_stream_and_both_are_live(olga, context, place):
    open_session(olga, place)
    second = context.new_page()
    open_session(second, place)
    devtools = context.browser.new_browser_cdp_session()
    workers = [
        target
        for target in devtools.send("Target.getTargets")["targetInfos"]
        if target["type"] == "shared_worker" and target["url"].startswith(place.url)
    ]
    assert len(workers) == 1
    place.python("-m", "tests.browser.act", "fail", place.session, "x1000c0s2b1n0")
    for page in (olga, second):
        page.locator("#session-live", has_text="x1000c0s2b1n0").wait_for()


TABS = """() => new Promise((told) => {
  const url = new URL("/static/js/stream-worker.js", location);
  const { port } = new SharedWorker(url, { type: "module", name: "muster" });
  port.onmessage = ({ data }) => told(data.tabs);
  port.postMessage({ kind: "tabs" });
})"""


def test_a_tab_that_crashes_leaves_the_shared_worker(olga, context, place):
    open_session(olga, place)
    second = context.new_page()
    open_session(second, place)
    assert olga.evaluate(TABS) == 2
    with second.expect_event("crash"), pytest.raises(Error):
        second.goto("chrome://crash")
    wait_until(lambda: olga.evaluate(TABS) == 1, what="the worker to forget the tab")
    place.python("-m", "tests.browser.act", "fail", place.session, "x1000c0s3b0n0")
    olga.locator("#session-live", has_text="x1000c0s3b0n0").wait_for()


def test_a_session_is_started_and_watched_to_its_end_though_the_web_process_dies(olga, place):
    olga.goto(f"{place.url}/sessions/start")
    olga.select_option("#id_template", "compute-25.11")
    olga.check("input[value=shutdown]")
    olga.fill("#id_nodes", "x1000c0s3")
    olga.click("text=Preview")
    assert "Shut down 4 nodes?" in olga.inner_text("main")
    olga.click("button[name=confirm]")
    olga.wait_for_selector("text=was accepted")
    olga.wait_for_selector("text=Waiting for a worker")
    olga.wait_for_selector(LIVE)
    place.kill()
    place.python("-m", "tests.browser.act", "work")
    place.start()
    olga.wait_for_selector(".heading .badge:has-text('succeeded')")


# -- hands ---------------------------------------------------------------------------------------------


def test_a_confirmation_in_the_dialog_names_the_nodes_and_escape_does_nothing(olga, place):
    olga.goto(f"{place.url}/sessions/{place.session}/")
    olga.click("text=Cancel…")
    olga.wait_for_selector("dialog[open] .preview")
    assert "x1000c0s" in olga.inner_text("dialog .preview")
    # Enter twice cancels nothing.
    assert olga.evaluate("document.activeElement.innerText") == "Back, do nothing"
    olga.keyboard.press("Escape")
    assert olga.locator("dialog[open]").count() == 0
    olga.wait_for_function("document.activeElement.innerText === 'Cancel…'")
    olga.reload()
    assert "in progress" in olga.inner_text(".heading")


def test_everything_by_keyboard(olga, place):
    olga.goto(f"{place.url}/")
    olga.keyboard.press("/")
    assert olga.evaluate("document.activeElement.id") == "search"
    olga.keyboard.type("x1000c0s1b0n0")
    olga.keyboard.press("Enter")
    olga.wait_for_url(f"{place.url}/nodes/x1000c0s1b0n0/")
    olga.keyboard.press("?")
    assert olga.locator("#help[open]").count() == 1
    olga.keyboard.press("Escape")
    olga.keyboard.press("g")
    olga.keyboard.press("s")
    olga.wait_for_url(f"{place.url}/sessions/")
    open_session(olga, place)
    olga.focus("[data-map] canvas")
    olga.keyboard.press("Home")
    olga.keyboard.press("ArrowRight")
    olga.keyboard.press("Enter")
    olga.wait_for_selector("#node-panel h2:has-text('x1000c0s0b1n1')")
    assert "node=x1000c0s0b1n1" in olga.url


def tab_to(page, selector):
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"The key Tab does not lead to {selector}.")


def test_a_session_is_started_by_keyboard_alone(olga, place):
    olga.goto(f"{place.url}/sessions/start")
    tab_to(olga, "#id_template")
    olga.keyboard.type("compute")
    tab_to(olga, "input[name=operation]:checked")
    olga.keyboard.press("ArrowUp")
    tab_to(olga, "#id_nodes")
    olga.keyboard.type("x1000c0s3b1n1")
    tab_to(olga, "main button.main")
    olga.keyboard.press("Enter")
    olga.wait_for_selector("h1:has-text('Boot 1 node?')")
    tab_to(olga, "button[name=confirm]")
    olga.keyboard.press("Enter")
    olga.wait_for_selector("text=was accepted")


def test_filters_stand_in_the_url_and_a_link_shows_the_same(olga, context, place):
    olga.goto(f"{place.url}/sessions/")
    olga.select_option("#result", "succeeded")
    olga.wait_for_url(re.compile("result=succeeded"))
    assert "status=" not in olga.url
    other = context.new_page()
    other.goto(olga.url)
    assert "first-boot" in other.inner_text("main")
    assert "reboot-after-maintenance" not in other.inner_text("#session-table")


def test_the_switches_are_kept(olga, place):
    olga.goto(f"{place.url}/nodes/{NODE}/")
    olga.click("[data-switch=theme] button")
    assert olga.get_attribute("html", "data-theme") == "light"
    olga.click("[data-switch=theme] button")
    olga.reload()
    assert olga.get_attribute("html", "data-theme") == "dark"
    assert olga.evaluate("getComputedStyle(document.body).color") == "rgb(228, 233, 239)"


def test_typing_above_the_map_dims_the_rest(olga, place):
    open_session(olga, place)
    olga.fill("[data-map-find]", "x1000c0s[1-2]b0")
    wait_until(lambda: "4 of 14 nodes match" in olga.inner_text("[data-said]"), what="the map to say it")


def test_a_viewer_sees_no_action(context, place):
    page = context.new_page()
    sign_in(page, place.url, "victor")
    open_session(page, place)
    assert page.locator("main .button.main, main .button.danger, main form[method=post]").count() == 0
