"""What hands do on pages: without script, by ticks, by the clipboard; and what eyes see meanwhile."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.site import sign_in
from tests.browser.test_dashboard import serious

pytestmark = pytest.mark.browser


@pytest.fixture
def plain(chrome, place):
    """A page without script on which Olga is signed in."""
    context = chrome.new_context(java_script_enabled=False, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    sign_in(page, place.url)
    yield page
    context.close()


def test_each_action_can_be_done_without_script(plain, place):
    def said():
        return plain.inner_text("main") + plain.inner_text("#toasts")

    plain.goto(f"{place.url}/sessions/start")
    plain.select_option("#id_template", "compute-25.11")
    plain.check("input[value=shutdown]")
    plain.fill("#id_nodes", "x1000c0s3b1")
    plain.click("main button.main")
    assert "Shut down 2 nodes?" in said()
    plain.click("button[name=confirm]")
    assert "was accepted" in said()
    plain.click("text=Cancel…")
    plain.click("main button.main")
    assert "cancelled" in plain.inner_text(".heading")

    plain.goto(f"{place.url}/sessions/{place.session}/")
    plain.click("text=/^Retry [0-9]+ failed/")
    plain.click("main button.main")
    assert plain.url == f"{place.url}/sessions/{place.session}/"
    assert plain.locator("text=/^Retry [0-9]+ failed/").count() == 0

    plain.goto(f"{place.url}/nodes/x1000c0s0b0n0/")
    plain.click("text=Switch on…")
    assert "x1000c0s0b0n0" in plain.inner_text(".preview")
    plain.click("main button.main")
    assert "switch on" in said().lower()

    plain.goto(f"{place.url}/tasks/{place.task}/runs/7/")
    plain.click("text=Apply this plan…")
    plain.click("main button.main")
    assert plain.locator("text=Apply this plan…").count() == 0

    plain.goto(f"{place.url}/workflows/archive/")
    plain.locator("text=Publish…").first.click()
    plain.click("main button.main")
    assert plain.locator("text=Unpublish…").count() == 1


def test_only_ticked_rows_are_acted_on(olga, place):
    olga.goto(f"{place.url}/nodes/?state=booted")
    olga.check("[data-tick=x1000c0s0b0n1]")
    assert olga.inner_text(".bulk strong") == "1 ticked"
    olga.click(".bulk >> text=By hand…")
    olga.click(".bulk .menu a >> text=Shut down gracefully…")
    preview = olga.locator("dialog[open] .preview")
    assert preview.locator(".big").inner_text().startswith("1 node")
    assert preview.locator(".names").inner_text() == "x1000c0s0b0n1"
    olga.keyboard.press("Escape")
    olga.click(".bulk >> text=By hand…")
    olga.keyboard.press("Escape")
    assert olga.locator(".by-hand[open]").count() == 0
    assert olga.evaluate("document.activeElement.innerText") == "By hand…"
    olga.uncheck("[data-tick=x1000c0s0b0n1]")
    assert "pick=state%3Dbooted" in olga.get_attribute(".bulk >> text=Reboot…", "href")


def test_what_a_browser_ticks_by_itself_is_not_ticked(olga, place):
    """Some restore a form on the way back: a row that looks ticked while the bar acts on all nodes."""
    olga.goto(f"{place.url}/nodes/")
    olga.evaluate(
        """() => {
          document.querySelector("[data-tick=x1000c0s0b0n1]").checked = true;
          dispatchEvent(new PageTransitionEvent("pageshow"));
        }"""
    )
    assert not olga.is_checked("[data-tick=x1000c0s0b0n1]")
    assert "ticked" not in olga.inner_text(".bulk strong")


def test_names_go_to_the_clipboard(olga, context, place):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    olga.goto(f"{place.url}/nodes/x1000c0s1b0n0/")
    olga.click("h1 [data-copy]")
    olga.wait_for_selector("h1 [data-done]")
    assert olga.evaluate("navigator.clipboard.readText()") == "x1000c0s1b0n0"


def test_the_tabs_icon_says_that_something_needs_a_person(olga, place):
    olga.goto(f"{place.url}/")
    assert re.match(r"\(\d+\) ", olga.title())
    assert "favicon-attention" in olga.get_attribute("link[rel=icon]", "href")


def test_a_change_of_theme_shows_no_frame_with_the_ink_of_the_one_and_the_ground_of_the_other(olga, place):
    olga.goto(f"{place.url}/")
    assert olga.evaluate("matchMedia('(prefers-reduced-motion: reduce)').matches")
    for theme in ("dark", "light"):
        olga.emulate_media(color_scheme=theme)
        assert olga.evaluate("document.getAnimations().length") == 0


def test_a_number_that_flashes_keeps_its_ground(olga, place):
    olga.goto(f"{place.url}/")
    olga.emulate_media(reduced_motion="no-preference")
    frames = olga.evaluate(
        """() => {
          const number = document.querySelector("[data-key=n-booted]");
          const look = () => [getComputedStyle(number).color, getComputedStyle(number).backgroundColor];
          const still = look();
          number.classList.add("flash");
          const [flash] = number.getAnimations();
          flash.pause();
          return [0, 400, 1200].map((at) => ((flash.currentTime = at), [still, look()]));
        }"""
    )
    assert all(still == flashing for still, flashing in frames)


ADMIN = {
    "index": "/admin/",
    "nodes": "/admin/sessions_app/node/",
    "sessions": "/admin/sessions_app/bootsession/",
    "audit": "/admin/accounts_app/auditentry/",
    "import": "/admin/sessions_app/bmc/import/",
    "add": "/admin/accounts_app/user/add/",
}
FORMS = ("sessions_app/node", "sessions_app/bmc", "workflows_app/workflow", "accounts_app/user")


def test_axe_finds_nothing_serious_in_the_admin_and_the_phone_has_no_sideways(context, place):
    page = context.new_page()
    sign_in(page, place.url, "ada")
    found = {}
    paths = dict(ADMIN)
    for model in FORMS:
        page.goto(f"{place.url}/admin/{model}/")
        paths[model] = page.get_attribute("#result_list tbody th a", "href").split("?")[0]
    paths["delete"] = paths["sessions_app/node"].replace("/change/", "/delete/")
    for name, path in paths.items():
        page.goto(place.url + path)
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            found |= serious(Axe().run(page, options={"resultTypes": ["violations"]}), f"{name} {theme}")
        page.set_viewport_size({"width": 390, "height": 844})
        if page.evaluate("document.documentElement.scrollWidth") > 390:
            found[f"{name} wide"] = page.evaluate("document.documentElement.scrollWidth")
        page.set_viewport_size({"width": 1440, "height": 900})
    assert found == {}


def test_nothing_that_counts_seconds_is_read_out(olga, place):
    olga.goto(f"{place.url}/sessions/{place.session}/?node=x1000c0s1b0n0")
    assert olga.locator("#node-panel time").count() > 0
    spoken = "[aria-live], [role=status], [role=alert]"
    assert olga.locator(f":is({spoken}) :is(time, [data-running-since], [data-key])").count() == 0
