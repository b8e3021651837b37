"""Pages of the dashboard with 10,000 nodes, 1,000 sessions and 100,000 events: time to the first byte, size.

The web server is the Procfile's; no worker runs, so nothing moves meanwhile. Requests go in turn, one to each
page and round again, over connections of their own, compressed as for a browser.
"""

from __future__ import annotations

import http.client
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from benchmarks.report import ROOT, BenchOptions, Report
from benchmarks.stand import Stand, stand
from tests.browser.site import PASSWORD

LIST_MS, SESSION_MS, SESSION_KIB = 300.0, 500.0, 300.0
ROUNDS = 7  # for each of `repeat`
KIB = 1024


@dataclass
class Page:
    """One page, and what its requests took."""

    name: str
    path: str
    limit: float
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
        before = one.cpu("web")
        rounds = ROUNDS * options.repeat
        for number in range(rounds + 1):
            for page in pages:
                ask(one, page, cookies, counts=number > 0)  # the first round warms templates up
        spent = one.cpu("web") - before
    for page in pages:
        p95 = statistics.quantiles(page.first_byte_ms, n=20)[-1]
        report.add(f"{page.name}: p95", p95, "ms", reference=page.limit, against="limit")
    shown = [page for page in pages if page.name in {"session", "its map"}]
    size = sum(page.size for page in shown) / KIB
    report.add("session with its map, gzipped", size, "KiB", reference=SESSION_KIB, against="limit")
    report.add("CPU of a page", 1000 * spent / (len(pages) * (rounds + 1)), "ms")
    report.notes.append(f"Database: {options.database}. {rounds} requests to each page.")
    return report


def pages_of(session: str, task: str) -> list[Page]:
    """Lists, and the pages of a session of 10,238 nodes."""
    return [
        Page("overview", "/", LIST_MS),
        Page("sessions", "/sessions/", LIST_MS),
        Page("nodes", "/nodes/", LIST_MS),
        Page("nodes by range", "/nodes/?" + urlencode({"nodes": "x[1000-1010]c0s*b0n0"}), LIST_MS),
        Page("tasks", "/tasks/", LIST_MS),
        Page("task", f"/tasks/{task}/", LIST_MS),
        Page("workflows", "/workflows/", LIST_MS),
        Page("activity", "/activity/", LIST_MS),
        Page("session", f"/sessions/{session}/", SESSION_MS),
        Page("its map", f"/sessions/{session}/map.json", SESSION_MS),
        Page("its live part", f"/sessions/{session}/live", LIST_MS),
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
