"""The keeper of one process: restarts it, passes its words on, leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.base import PROJECT, wait_until

# The keeper with a Procfile of the test's own.
PROGRAM = """
import sys
from pathlib import Path
from deploy.local import keep
keep.PROCFILE = Path(sys.argv.pop())
sys.exit(keep.main())
"""


class Kept:
    """A keeper, its command and its supervisor (any process that lives)."""

    def __init__(self, directory: Path, command: str) -> None:
        self.home = directory / "home"
        for name in ("log", "run", "fleet"):
            (self.home / name).mkdir(parents=True)
        procfile = directory / "Procfile"
        procfile.write_text(f"thing: {command}\n")
        self.supervisor = subprocess.Popen(["sleep", "600"])
        env = {**os.environ, "MUSTER_HOME": str(self.home), "MUSTER_SUPERVISOR": str(self.supervisor.pid)}
        self.keeper = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "thing", str(procfile)],
            cwd=PROJECT,
            env=env,
            stdout=subprocess.PIPE,
        )

    @property
    def pid(self) -> int:
        """Of the command; 0 before it was started."""
        try:
            return json.loads((self.home / "run" / "thing.pid.json").read_text())["pid"]
        except (OSError, ValueError):
            return 0

    @property
    def log(self) -> str:
        """All that it said."""
        path = self.home / "log" / "thing.log"
        return path.read_text() if path.exists() else ""

    def end(self) -> None:
        """For the end of a test."""
        tree = [process for root in (self.keeper.pid, self.supervisor.pid) for process in _tree(root)]
        for process in tree:
            with_no_fuss(process.kill)
        self.keeper.wait(10)
        self.supervisor.wait(10)


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def with_no_fuss(act: Callable[[], Any]) -> None:
    """Do it to a process that may be gone."""
    try:
        act()
    except psutil.NoSuchProcess:
        return


def gone(pid: int) -> bool:
    """Whether a process has ended (one that nobody has waited for yet counts)."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Callable[[str], Kept]]:
    """Start a keeper for a shell command, or for Python code given as text."""
    started: list[Kept] = []

    def start(command: str) -> Kept:
        script = tmp_path / "thing.py"
        script.write_text(textwrap.dedent(command))
        started.append(Kept(tmp_path, f"{sys.executable} {script}"))
        return started[-1]

    yield start
    for kept in started:
        kept.end()


SLEEPER = """
    import subprocess, sys, time
    # One child in the same process group, one in a session of its own.
    near = subprocess.Popen(["sleep", "600"])
    far = subprocess.Popen(["sleep", "600"], start_new_session=True)
    print("children", near.pid, far.pid, flush=True)
    time.sleep(600)
"""
STUBBORN = """
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
    time.sleep(600)
"""


def children_of(kept: Kept) -> list[int]:
    """The numbers that the latest SLEEPER printed."""
    lines = [line for line in kept.log.splitlines() if line.startswith("children")]
    return [int(number) for number in lines[-1].split()[1:]] if lines else []


def test_what_ends_is_started_again_and_its_words_are_in_the_log(keep: Callable[[str], Kept]) -> None:
    kept = keep("import os, sys; print('I am', os.getpid(), flush=True); sys.exit(3)")
    wait_until(lambda: kept.log.count("I am") >= 2, what="a second start")
    assert "thing ended (exit code 3); it starts again in 0.5 s" in kept.log
    pids = {line for line in kept.log.splitlines() if line.startswith("I am")}
    assert len(pids) >= 2


def test_kill_9_of_the_command_takes_its_children_along(keep: Callable[[str], Kept]) -> None:
    kept = keep(SLEEPER)
    first = wait_until(lambda: children_of(kept), what="the children")
    killed = kept.pid
    os.kill(killed, signal.SIGKILL)
    wait_until(
        lambda: kept.pid != killed and len(set(children_of(kept)) - set(first)) == 2, what="a new start"
    )
    wait_until(lambda: all(gone(pid) for pid in [killed, *first]), what="the old ones to be gone")
    assert "SIGKILL" in kept.log


def test_told_to_stop_it_ends_the_command_and_all_below(keep: Callable[[str], Kept]) -> None:
    kept = keep(SLEEPER)
    children = wait_until(lambda: children_of(kept), what="the children")
    pid = kept.pid
    kept.keeper.terminate()
    assert kept.keeper.wait(20) == 0
    wait_until(lambda: all(gone(number) for number in [pid, *children]), what="all to be gone")


def test_a_command_that_ignores_sigterm_is_killed(keep: Callable[[str], Kept]) -> None:
    kept = keep(STUBBORN)
    wait_until(lambda: "deaf" in kept.log)
    pid = kept.pid
    kept.keeper.terminate()
    assert kept.keeper.wait(30) == 0
    assert gone(pid)


def test_kill_9_of_the_supervisor_ends_everything(keep: Callable[[str], Kept]) -> None:
    kept = keep(SLEEPER)
    children = wait_until(lambda: children_of(kept), what="the children")
    pid = kept.pid
    kept.supervisor.kill()
    kept.supervisor.wait()
    kept.keeper.wait(30)
    wait_until(lambda: all(gone(number) for number in [pid, *children]), what="all to be gone")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_kill_9_of_the_keeper_ends_the_command(keep: Callable[[str], Kept]) -> None:
    kept = keep(STUBBORN)
    wait_until(lambda: "deaf" in kept.log)
    pid = kept.pid
    kept.keeper.kill()
    wait_until(lambda: gone(pid), what="the command to be gone")


def test_its_own_command_line_does_not_name_the_command() -> None:
    from deploy.local.supervisor import command_of

    assert "celery" not in command_of("worker")
    assert "daphne" not in command_of("web")
