"""One site for all browser tests, one browser; without Chromium they are skipped, saying so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.site import Site, browser, chromium, sign_in, site


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests need a browser."""
    if chromium() is not None:
        return
    missing = pytest.mark.skip(reason="Chromium is not installed (apt-get install chromium).")
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(missing)


@pytest.fixture(scope="package")
def place() -> Iterator[Site]:
    """16 nodes, a running session, tasks and workflows."""
    with site("small") as started:
        yield started


@pytest.fixture(scope="package")
def chrome() -> Iterator[Any]:
    """Ends with these tests: while it lives Playwright keeps an event loop running in the main thread, and
    no other test could start one."""
    with browser() as started:
        yield started


@pytest.fixture
def context(chrome: Any, place: Site) -> Iterator[Any]:
    """A browser profile of its own, nobody signed in."""
    made = chrome.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    made.set_default_timeout(60_000)
    yield made
    made.close()


@pytest.fixture
def olga(context: Any, place: Site) -> Any:
    """A page on which Olga is signed in."""
    page = context.new_page()
    sign_in(page, place.url)
    return page
