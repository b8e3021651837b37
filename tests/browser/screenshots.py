"""Pictures of every page: `bin/screenshots [--out DIR] [--data large,small,empty] [--only NAME]`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tests.base import PROJECT
from tests.browser.site import Site, browser, chromium, sign_in, site

SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
NODE = "x1000c0s1b0n0"


def pages(place: Site) -> dict[str, str]:
    """Path by name of the picture."""
    found = {
        "overview": "/",
        "sessions": "/sessions/",
        "session-start": "/sessions/start",
        "nodes": "/nodes/",
        "tasks": "/tasks/",
        "workflows": "/workflows/",
        "activity": "/activity/",
        "background-tasks": "/activity/background/",
        "keys": "/keys/",
        "admin": "/admin/",
        "admin-nodes": "/admin/sessions_app/node/",
        "admin-workflow": "/admin/workflows_app/workflow/add/",
        "not-found": "/nothing/",
    }
    session = place.session
    if session:
        found |= {
            "task": f"/tasks/{place.task}/",
            "run": f"/tasks/{place.task}/runs/7/",
            "workflow": "/workflows/night-report/",
            "session": f"/sessions/{session}/?node={NODE}",
            "session-errors": f"/sessions/{session}/?tab=errors#details",
            "session-timeline": f"/sessions/{session}/?tab=timeline#details",
            "session-log": f"/sessions/{session}/?tab=log#details",
            "session-cancel": f"/sessions/{session}/cancel",
            "node": f"/nodes/{NODE}/",
            "nodes-range": "/nodes/?nodes=x1000c[0-3]s*b0n0",
            "search": "/search?q=x1000c0",
        }
    return found


def main() -> None:
    """Take them all."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, default=PROJECT / "docs" / "screenshots")
    options.add_argument("--data", default="large")
    options.add_argument("--only", default="")
    options.add_argument("--full", action="store_true", help="the whole page, not only what fits the screen")
    asked = options.parse_args()
    if chromium() is None:
        raise SystemExit("bin/screenshots needs Chromium: apt-get install chromium")
    with browser() as started:
        for data in asked.data.split(","):
            with site(data) as place:
                _take(started, place, asked.out / data, asked)


def _take(started: Any, place: Site, folder: Path, asked: argparse.Namespace) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    url = place.url
    for theme in ("light", "dark"):
        for size, (width, height) in SIZES.items():
            context = started.new_context(
                viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce"
            )
            page = context.new_page()
            page.goto(f"{url}/login")
            if not asked.only:
                page.screenshot(path=folder / f"login-{size}-{theme}.png")
            sign_in(page, url, "ada")
            for name, path in pages(place).items():
                if asked.only and name not in asked.only.split(","):
                    continue
                page.goto(url + path)
                page.wait_for_load_state("load")
                if page.locator("[data-map]").count():
                    page.wait_for_selector("[data-map] canvas:not([hidden])")
                if "#" in path:  # anew, for the map above has its height by now
                    page.evaluate("document.querySelector(location.hash).scrollIntoView()")
                page.wait_for_timeout(300)
                page.screenshot(path=folder / f"{name}-{size}-{theme}.png", full_page=asked.full)
            context.close()


if __name__ == "__main__":
    main()
