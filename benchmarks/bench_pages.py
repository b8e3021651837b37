"""Pages of the dashboard: time to the first byte, CPU, size; and how long changes of the node map take.

With 10,000 nodes, 1,000 sessions and 100,000 events; 1,000 changes at once on the map.

The web server is the Procfile's; no worker runs, so nothing moves meanwhile. Requests go in turn, one to each
page and round again, over connections of their own, compressed as for a browser.
"""

from __future__ import annotations

import http.client
import importlib.util
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from benchmarks.report import ROOT, BenchOptions, Report
from benchmarks.stand import Stand, stand
from tests.browser.site import PASSWORD, browser, chromium
from tests.browser.site import sign_in as sign_in_page

LIST_MS, SESSION_MS, SESSION_KIB = 300.0, 500.0, 300.0
LIST_CPU, SESSION_CPU, DRAWN_MS = 100.0, 200.0, 100.0
CHANGES, DRAWINGS = 1000, 5
ROUNDS = 7  # for each of `repeat`
KIB = 1024


@dataclass
class Page:
    """One page, and what its requests took."""

    name: str
    path: str
    limit: float
    cpu_limit: float = LIST_CPU
    cpu_ms: float = 0.0  # of the web process, over all counted requests
    first_byte_ms: list[float] = field(default_factory=list)
    size: int = 0  # bytes on the wire


def run(options: BenchOptions) -> Report:
    """Fill the database, sign in, ask for all pages in turn."""
    report = Report("pages")
    with stand(database=options.database, keep=options.keep, processes=("redis", "web"), traced=()) as one:
        seeded = subprocess.run(
            [sys.executable, "-m", "tests.browser.seed", "full"],
            cwd=ROOT,
            env=one.environment,
            check=True,
            capture_output=True,
            text=True,
        )
        session, task = seeded.stdout.split()
        cookies = sign_in(one)
        pages = pages_of(session, task)
        rounds = ROUNDS * options.repeat
        for number in range(rounds + 1):
            for page in pages:
                ask(one, page, cookies, counts=number > 0)  # the first round warms templates up
        drawn = drawing_of(one, session)
    for page in pages:
        p95 = statistics.quantiles(page.first_byte_ms, n=20)[-1]
        report.add(f"{page.name}: median", statistics.median(page.first_byte_ms), "ms")
        report.add(f"{page.name}: p95", p95, "ms", reference=page.limit, against="limit")
        # What stays true on a machine that others use, too.
        cpu = page.cpu_ms / rounds
        report.add(f"{page.name}: CPU", cpu, "ms", reference=page.cpu_limit, against="limit")
    shown = [page for page in pages if page.name in {"session", "its map"}]
    size = sum(page.size for page in shown) / KIB
    report.add("session with its map, gzipped", size, "KiB", reference=SESSION_KIB, against="limit")
    if drawn is None:
        report.notes.append("The map was not measured: there is no Chromium, or no Playwright, here.")
    else:
        name = f"{CHANGES} changes on the map until they are drawn, slowest of {DRAWINGS}"
        report.add(name, max(drawn), "ms", reference=DRAWN_MS, against="limit")
    report.notes.append(f"Database: {options.database}. {rounds} requests to each page.")
    return report


def pages_of(session: str, task: str) -> list[Page]:
    """Lists, the pages of a session of 10,238 nodes, and what asks about all nodes at once."""
    every = urlencode({"pick": "role=Compute"})
    return [
        Page("overview", "/", LIST_MS),
        Page("sessions", "/sessions/", LIST_MS),
        Page("sessions by text", "/sessions/?q=older-05&order=name", LIST_MS),
        Page("nodes", "/nodes/", LIST_MS),
        Page("nodes by range", "/nodes/?" + urlencode({"nodes": "x[1000-1010]c0s*b0n0"}), LIST_MS),
        Page("node", "/nodes/x1001c0s0b0n0/", LIST_MS),
        Page("tasks", "/tasks/", LIST_MS),
        Page("task", f"/tasks/{task}/", LIST_MS),
        Page("workflows", "/workflows/", LIST_MS),
        Page("activity", "/activity/", LIST_MS),
        Page("activity by text", "/activity/?q=reboot-25", LIST_MS),
        Page("session", f"/sessions/{session}/", SESSION_MS, SESSION_CPU),
        Page("its map", f"/sessions/{session}/map.json", SESSION_MS, SESSION_CPU),
        Page("its live part", f"/sessions/{session}/live", LIST_MS),
        Page("its counts by cabinet", f"/sessions/{session}/?words", SESSION_MS, SESSION_CPU),
        Page("its timeline", f"/sessions/{session}/tab/timeline", LIST_MS),
        Page("question to cancel it", f"/sessions/{session}/cancel", SESSION_MS, SESSION_CPU),
        Page("question to switch all nodes", f"/nodes/act/cycle?{every}", SESSION_MS, SESSION_CPU),
    ]


def sign_in(one: Stand) -> str:
    """The cookies of somebody who may see everything."""
    connection = http.client.HTTPConnection(urlsplit(one.url).netloc, timeout=60)
    connection.request("GET", "/login", headers={"Accept": "text/html"})
    answer = connection.getresponse()
    token = re.search(rb'name="csrfmiddlewaretoken" value="([^"]+)"', answer.read())
    if token is None:
        raise RuntimeError("The login page has no form.")
    cookie = answer.getheader("Set-Cookie", "").partition(";")[0]
    body = urlencode({"username": "ada", "password": PASSWORD, "csrfmiddlewaretoken": token[1].decode()})
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie, "Referer": one.url}
    connection.request("POST", "/login", body, headers)
    answer = connection.getresponse()
    answer.read()
    cookies = [value.partition(";")[0] for name, value in answer.getheaders() if name.lower() == "set-cookie"]
    if answer.status != 302:
        raise RuntimeError(f"Signing in was answered by {answer.status}.")
    return "; ".join(cookies)


def ask(one: Stand, page: Page, cookies: str, *, counts: bool) -> None:
    """One request; time until the first byte of the body."""
    connection = http.client.HTTPConnection(urlsplit(one.url).netloc, timeout=60)
    before = one.cpu("web")
    headers = {"Cookie": cookies, "Accept": "text/html", "Accept-Encoding": "gzip"}
    began = time.perf_counter()
    connection.request("GET", page.path, headers=headers)
    answer = connection.getresponse()
    first = answer.read(1)
    took = 1000 * (time.perf_counter() - began)
    page.size = len(first) + len(answer.read())
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{page.path} was answered by {answer.status}.")
    if counts:
        page.first_byte_ms.append(took)
        page.cpu_ms += 1000 * (one.cpu("web") - before)


# Applies so many changes and waits until the frame that shows them has been made.
DRAW = """async (count) => {
  const map = document.querySelector("[data-map]").nodeMap;
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const names = map.nodes.slice();
  for (let place = names.length - 1; place > 0; place--) {
    const other = Math.floor(Math.random() * (place + 1));
    [names[place], names[other]] = [names[other], names[place]];
  }
  const half = count / 2;
  const changes = { succeeded: names.slice(0, half), failed: names.slice(half, count) };
  for (const word of Object.keys(changes)) changes[word] = changes[word].map((node) => node.name);
  await frame();
  const began = performance.now();
  map.apply({ "compute/boot": changes });
  map.pen.getImageData(0, 0, 1, 1);
  return performance.now() - began;
}"""


def drawing_of(one: Stand, session: str) -> list[float] | None:
    """Milliseconds from the changes of 1,000 nodes to their pixels, several times, on the session's map in
    Chromium; None where there is none."""
    if chromium() is None or importlib.util.find_spec("playwright") is None:
        return None
    with browser() as started:
        page = started.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(120_000)
        sign_in_page(page, one.url, "ada")
        page.goto(f"{one.url}/sessions/{session}/")
        page.wait_for_selector("[data-map] canvas:not([hidden])")
        return [page.evaluate(DRAW, CHANGES) for _ in range(DRAWINGS)]
