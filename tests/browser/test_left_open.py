"""A session's page left open while all moves and the network is cut: nothing is missed."""

import pytest

from tests.base import wait_until
from tests.browser.proxy import wire
from tests.browser.site import sign_in, site

pytestmark = pytest.mark.browser

NODES = 2_000
# Rows of the map that are not as the database has them.
WRONG = """async () => {
  const root = document.querySelector("[data-map]");
  const map = await (await fetch(root.dataset.map)).json();
  let wrong = 0;
  for (const set of map.sets) {
    set.nodes.split(" ").forEach((name, place) => {
      const node = root.nodeMap.byName.get(`${set.name} ${name}`);
      for (const phase of set.phases) wrong += node?.phases[phase.name] !== phase.letters[place];
    });
  }
  return wrong;
}"""


@pytest.fixture(scope="module")
def place():
    with site(f"wide:{NODES}") as started:
        yield started


@pytest.fixture
def page(context, place):
    with wire(place.port) as line:
        page = context.new_page()
        page.line = line
        sign_in(page, line.url)
        page.goto(f"{line.url}/sessions/{place.session}/")
        live(page)
        page.wait_for_selector("[data-map] canvas:not([hidden])")
        yield page


def live(page):
    page.wait_for_selector("#live[data-state=live]")


def churn(place, count):
    place.python("-m", "tests.browser.act", "churn", place.session, str(count))


def exact(page):
    wait_until(lambda: page.evaluate(WRONG) == 0, limit=60, what="the map to be as the database is")


def test_the_map_is_exact_after_the_network_was_cut_twice(page, place):
    page.evaluate("window.loads = 0; addEventListener('muster:gap', () => window.loads++, true)")
    for _ in range(2):
        page.line.cut()
        page.wait_for_selector("#live[data-state=reconnecting]")
        churn(place, 2_000)
        page.line.mend()
        live(page)
        exact(page)
    churn(place, 1_000)
    exact(page)
    # By the events that were missed, not by fetching all anew.
    assert page.evaluate("window.loads") == 0


def test_what_changes_while_the_map_is_on_its_way_is_put_on_top_and_said(page, place):
    name = page.evaluate(
        "document.querySelector('[data-map]').nodeMap.nodes.find(node => node.phases.boot !== 'f').name"
    )
    held = []
    page.route("**/map.json", lambda route: held.append((route, route.fetch())))
    page.goto(f"{page.url}?node={name}")
    live(page)
    wait_until(lambda: page.title() and held, what="the map as it was before the change")
    place.python("-m", "tests.browser.act", "fail", place.session, name)
    page.wait_for_selector("text=The node fell over.")
    for route, answer in held:
        route.fulfill(response=answer)
    page.unroute("**/map.json")
    page.locator("[data-said]", has_text="boot ✕ failed").wait_for(state="attached")
    exact(page)


def test_a_long_cut_is_said_and_what_the_page_could_not_fetch_comes_later(page, place):
    page.line.cut()
    page.locator("#live", has_text="stale since").wait_for()
    # The map is asked for while nobody answers: it is asked for again until somebody does.
    page.evaluate("document.dispatchEvent(new CustomEvent('muster:gap'))")
    churn(place, 500)
    page.line.mend()
    live(page)
    exact(page)
