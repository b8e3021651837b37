"""The management commands as real processes: killed, told to stop, started again.

No broker and no worker: run_runtimes takes the steps where nobody else does.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.base import PROJECT, wait_until
from workflows_app.drivers.process import MARK

pytestmark = pytest.mark.process
OLGA = "from accounts_app.models import User; User.objects.create_superuser('olga', '', 'x' * 20)"


class Installation:
    """A Muster of which only the parts under test run."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")},
            "MUSTER_HOME": str(home),
            "MUSTER_REDIS_URL": f"unix://{home}/nobody.sock",
            "MUSTER_DATABASE_URL": f"sqlite:///{home}/muster.sqlite3",
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    def manage(self, *arguments: str) -> str:
        """Run a management command to its end; what it said."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env=self.environment,
            capture_output=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a long-lived management command."""
        process = subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=(self.home / f"{arguments[0]}.log").open("ab"),
        )
        self._processes.append(process)
        return process

    def runs(self, process: subprocess.Popen[bytes]) -> bool:
        """True; AssertionError with its last words where a process that should run has ended."""
        words = "".join(path.read_text()[-2000:] for path in self.home.glob("run_*.log"))
        assert process.poll() is None, words
        return True

    def end(self) -> None:
        """End everything that was started here, by number and by mark."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for process in self.replicas():
            process.kill()

    def replicas(self) -> list[psutil.Process]:
        """Shims and programs of this installation."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK, "").startswith(str(self.home)):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def programs(self) -> set[int]:
        """Numbers of the sample's servers."""
        found = set()
        for process in self.replicas():
            try:
                if any(word.endswith("sample/server.py") for word in process.cmdline()):
                    found.add(process.pid)
            except psutil.Error:
                continue
        return found

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Straight from the database."""
        with sqlite3.connect(f"file:{self.home}/muster.sqlite3?mode=ro", uri=True, timeout=30) as database:
            return database.execute(query).fetchall()

    def green(self) -> bool:
        """Whether the sample is GREEN with all its three instances seen."""
        actual = self.rows("SELECT sum(actual), sum(desired) FROM workflows_app_service")
        return self.rows("SELECT colour FROM workflows_app_deployment") == [("GREEN",)] and actual == [(3, 3)]


@pytest.fixture(scope="module")
def installation(tmp_path_factory) -> Iterator[Installation]:
    world = Installation(tmp_path_factory.mktemp("home"))
    world.manage("migrate", "--verbosity", "0")
    world.manage("shell", "--command", OLGA)
    yield world
    world.end()


def test_the_sample_survives_every_kill_and_leaves_nothing_behind(installation):
    runtimes, gateway = installation.start("run_runtimes"), installation.start("run_gateway")
    assert "Workflow word-count is GREEN." in installation.manage("sample_workflow", "--wait", "120")
    wait_until(installation.green, limit=60)
    pids = installation.programs()
    assert len(pids) == 3
    with pytest.raises(AssertionError, match="There is no user nobody"):
        installation.manage("sample_workflow", "--user", "nobody")
    # Published again: nothing changes.
    installation.manage("sample_workflow")
    assert installation.rows("SELECT generation FROM workflows_app_deployment") == [(1,)]
    # Through the stream, from one service to the other.
    ((url,),) = installation.rows("SELECT url FROM workflows_app_gateway")
    ((token,),) = installation.rows("SELECT token FROM workflows_app_deployment")
    with urllib.request.urlopen(f"{url}/stream/{token}/entry/", data=b"one two three", timeout=60) as answer:
        assert json.load(answer)["words"] == 3
    # The supervisor is killed: what runs goes on; one that ends meanwhile is started by the next.
    runtimes.send_signal(signal.SIGKILL)
    runtimes.wait()
    assert installation.programs() == pids
    victim = min(pids)
    os.kill(victim, signal.SIGKILL)
    runtimes = installation.start("run_runtimes")

    def third() -> bool:
        return installation.runs(runtimes) and len(installation.programs() - {victim}) == 3

    wait_until(third, limit=120, what="the third")
    assert installation.programs() >= pids - {victim}
    wait_until(installation.green, limit=60)
    # A second gateway is reached at the address that the services know; then the first is killed.
    installation.start("run_gateway")
    wait_until(lambda: len(installation.rows("SELECT url FROM workflows_app_gateway")) == 2, limit=60)
    assert set(installation.rows("SELECT url FROM workflows_app_gateway")) == {(url,)}
    gateway.send_signal(signal.SIGKILL)
    gateway.wait()
    with urllib.request.urlopen(f"{url}/stream/{token}/entry/", data=b"one two", timeout=60) as answer:
        assert json.load(answer)["words"] == 2
    # Told to stop: nothing is left. Started again: all comes back by itself.
    runtimes.send_signal(signal.SIGTERM)
    assert runtimes.wait(60) == 0
    assert installation.replicas() == []
    runtimes = installation.start("run_runtimes")
    wait_until(lambda: installation.runs(runtimes) and len(installation.programs()) == 3, limit=120)
    wait_until(installation.green, limit=60)
    # Told to stop and leave: they stay.
    runtimes.send_signal(signal.SIGTERM)
    runtimes.wait(60)
    keeper = installation.start("run_runtimes", "--keep-replicas")
    wait_until(lambda: installation.runs(keeper) and len(installation.programs()) == 3, limit=120)
    wait_until(installation.green, limit=60)
    pids = installation.programs()
    keeper.send_signal(signal.SIGTERM)
    keeper.wait(60)
    assert installation.programs() == pids
