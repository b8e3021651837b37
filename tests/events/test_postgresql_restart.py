"""PostgreSQL goes away and comes back under open streams."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests import postgres
from tests.base import PROJECT, RedisServer, wait_until
from tests.events.wire import Web, data_of

MAKE_KEY = """
from accounts_app.models import User
from accounts_app.services import issue_key
user = User.objects.create_user("olga", role="superadmin")
print(issue_key(user=user, actor=None).token)
"""
TELL = """
from events_app.services import record_event
for name in {names}:
    print(record_event(name="session_started", area="session", subject_name=name, subject_id=name).number)
"""


def _as_whom() -> dict[str, Any]:
    """PostgreSQL refuses root."""
    return postgres._another_user() if os.getuid() == 0 else {}


class Postgres:
    """A server of the test's own, to be stopped hard and started again."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._base = Path(unquote(urlsplit(url).netloc.rpartition("@")[2]))
        self._again: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """As a crash would: connections break, the next start recovers."""
        process = int((self._base / "data" / "postmaster.pid").read_text().split()[0])
        subprocess.run(["kill", f"-{signal.SIGQUIT.value}", str(process)], check=True)
        wait_until(lambda: not (self._base / "data" / "postmaster.pid").exists(), what="PostgreSQL to end")

    def start(self) -> None:
        """With the options of the first time."""
        command = shlex.split((self._base / "data" / "postmaster.opts").read_text())
        with (self._base / "log").open("a") as log:
            self._again = subprocess.Popen(command, cwd=self._base, stdout=log, stderr=log, **_as_whom())

    def end(self) -> None:
        """For the end of the test."""
        if self._again is not None:
            self._again.send_signal(signal.SIGINT)
            self._again.wait(30)


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A PostgreSQL; the test is skipped where this machine has none."""
    try:
        with postgres.server() as url:
            made = Postgres(url)
            yield made
            made.end()
    except postgres.Unavailable as reason:
        pytest.skip(f"There is no PostgreSQL for this test: {reason}")


def ask_product(web: Web, code: str) -> list[str]:
    """Run code with the product set up as that web server has it; the lines that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", f"import django; django.setup()\n{code}"],
        cwd=PROJECT, env={**web.env, "DJANGO_SETTINGS_MODULE": "config.settings"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.process
@pytest.mark.usefixtures("transactional_db")
def test_streams_outlive_a_restart_of_the_database(
    server: Postgres, redis_server: RedisServer, tmp_path: Path
):
    web: Any = Web(tmp_path, MUSTER_DATABASE_URL=server.url)
    ask_product(web, "from django.core.management import call_command; call_command('migrate', verbosity=0)")
    key = {"Authorization": f"Bearer {ask_product(web, MAKE_KEY)[0]}"}
    web.start()
    try:
        with web.listen("/events/session", key) as stream:
            numbers = ask_product(web, TELL.format(names=["before"]))
            stream.wait_for(1)
            server.stop()
            wait_until(lambda: "Events can't be read" in web.said, what="the hub to notice")
            status, headers, body = web.ask("/events/session", headers=key)
            assert status == 503
            assert headers["content-type"].startswith("application/problem+json")
            assert json.loads(body)["title"] == "Service unavailable."
            server.start()
            wait_until(lambda: web.ask("/events/session?foo", headers=key)[0] == 400, what="the database")
            numbers += ask_product(web, TELL.format(names=["after", "later"]))
            events = stream.wait_for(3)
            assert [event["id"] for event in events] == numbers
            assert [data_of(event)["sessionName"] for event in events] == ["before", "after", "later"]
    finally:
        if web.process is not None:
            web.kill()
