"""A web server of Muster's own with rows in a database of its own, and a browser that looks at it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.base import PROJECT, request, wait_until

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PASSWORD = "a long enough one"


def chromium() -> str | None:
    """Debian's Chromium, or what MUSTER_CHROMIUM names; None where there is none."""
    return shutil.which(os.environ.get("MUSTER_CHROMIUM", "chromium"))


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Site:
    """One web process on a free port; may be killed and started again."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
        self.env |= {"MUSTER_HOME": str(home), "MUSTER_URL": self.url, "MUSTER_LOG_LEVEL": "WARNING"}
        self.process: subprocess.Popen[bytes] | None = None
        self.session = self.task = ""  # ids of a running session and of a task whose plan waits

    def python(self, *arguments: str) -> str:
        """Run a module or a manage.py command against this site's database; answers what it printed."""
        done = subprocess.run(
            [sys.executable, *arguments], cwd=PROJECT, env=self.env, check=True, stdout=subprocess.PIPE
        )
        return done.stdout.decode().strip()

    def start(self) -> None:
        """Start the web process and wait until it answers."""
        log = (self.home / "web.log").open("ab")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "config.server", "--bind", "127.0.0.1"),
                *("--port", str(self.port), "config.asgi:application"),
            ],
            cwd=PROJECT,
            env=self.env,
            stdout=log,
            stderr=log,
        )
        wait_until(self._answers, 120, "the web process")

    def _answers(self) -> bool:
        try:
            return request(f"{self.url}/healthz", timeout=5).status == 200
        except OSError:
            return False

    def kill(self) -> None:
        """End the web process without a word."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None


@contextmanager
def site(kind: str) -> Iterator[Site]:
    """A running site with `empty`, `small` or `large` rows."""
    home = Path(tempfile.mkdtemp(prefix="muster-b-", dir="/tmp"))
    place = Site(home)
    try:
        place.python("manage.py", "migrate", "--verbosity", "0")
        made = place.python("-m", "tests.browser.seed", kind).split()
        place.session, place.task = made or ("", "")
        place.start()
        yield place
    finally:
        place.kill()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def browser() -> Iterator[Any]:
    """Debian's Chromium under Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        try:
            yield started
        finally:
            started.close()


def sign_in(page: Any, url: str, name: str = "olga") -> None:
    """By the form, as a person."""
    page.goto(f"{url}/login")
    page.fill("#id_username", name)
    page.fill("#id_password", PASSWORD)
    page.click("button.main")
    page.wait_for_url(f"{url}/")
