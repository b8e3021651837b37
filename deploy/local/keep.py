"""Keeps one process of the Procfile running: `python -m deploy.local.keep NAME`.

honcho starts one of these per line. It starts the command again when that has ended, writes what it says to
HOME/log/NAME.log, and leaves nothing behind: not when it is told to stop, not when the supervisor is killed,
not when it is killed itself. Its own command line does not contain the command, so that whoever looks for
"celery" or "daphne" finds the process meant and not its keeper.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from honcho.environ import parse_procfile

from deploy.local.environment import PROJECT
from deploy.local.home import Home, identity

PROCFILE = PROJECT / "Procfile"
GRACE = 5.0  # seconds between "please end" and the end
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
STEADY = 30.0  # seconds after which a process counts as having started well
LOG_BYTES = 10_000_000  # kept twice: the file and its predecessor
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


class Keeper:
    """One command, restarted until told to stop."""

    def __init__(self, name: str, home: Home, supervisor: int) -> None:
        self.name = name
        self.home = home
        self.supervisor = supervisor
        self.supervisor_identity = identity(supervisor)
        self.command = lines()[line_name(name)]
        self.log = Log(home.log / f"{name}.log")
        self.stopping = False
        self._wake, self._woken = os.pipe()
        for end in (self._wake, self._woken):
            os.set_blocking(end, False)

    def run(self) -> None:
        """Until told to stop, or until the supervisor is gone."""
        signal.set_wakeup_fd(self._woken)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to be woken
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        # Orphans of the command become children of this process, which can then end them all.
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
        pause = FIRST_PAUSE
        while not self._over():
            began = time.monotonic()
            code = self._run_once()
            if self._over():
                break
            if time.monotonic() - began > STEADY:
                pause = FIRST_PAUSE
            self._say(f"{self.name} ended ({_how(code)}); it starts again in {pause:.1f} s")
            self._wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _run_once(self) -> int:
        """Start the command, pass on what it says, and clear up after it."""
        output, its_end = os.pipe()
        child = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {self.command}"],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=its_end,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,  # safe: this process has one thread
        )
        os.close(its_end)
        self.home.write_json(f"run/{self.name}.pid.json", {"pid": child.pid, "keeper": os.getpid()})
        try:
            self._follow(child, output)
        finally:
            os.close(output)
            _end_descendants(child.pid, spare=not self._over())
        return child.wait()

    def _follow(self, child: subprocess.Popen[bytes], output: int) -> None:
        """Until the command has ended; when told to stop, see to it that it does."""
        os.set_blocking(output, False)
        speaks = True
        patience_ends: float | None = None
        while True:
            ended = child.poll() is not None
            speaks = speaks and self._copy(output)
            if ended:
                return
            if self._over() and patience_ends is None:
                child.terminate()
                patience_ends = time.monotonic() + GRACE
            if patience_ends is not None and time.monotonic() > patience_ends:
                _kill_group(child.pid)
            self._wait(0.2 if patience_ends else 1.0, *([output] if speaks else []))

    def _copy(self, output: int) -> bool:
        """What the command said, into the log; answers whether it may say more."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(output, 65536):
                self.log.write(data)
            return False
        return True

    def _wait(self, seconds: float, *more: int) -> None:
        """Until something is to be read, a signal came, or the time is over."""
        select.select([self._wake, *more], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)

    def _over(self) -> bool:
        # The supervisor killed: nobody else would ever tell this process to stop.
        return self.stopping or identity(self.supervisor) != self.supervisor_identity

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def _say(self, sentence: str) -> None:
        self.log.write(f"--- {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: {sentence}\n".encode())
        with contextlib.suppress(OSError):
            print(sentence, flush=True)


class Log:
    """A file that is put aside when it has grown large."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)

    def write(self, data: bytes) -> None:
        # A full disk must not stop the product: its words are lost, the work goes on.
        with contextlib.suppress(OSError):
            if self._file.tell() > LOG_BYTES:
                self._file.close()
                self.path.replace(self.path.with_suffix(".log.1"))
                self._file = self.path.open("ab", buffering=0)
            self._file.write(data)


def lines() -> dict[str, str]:
    """The Procfile: shell command by name."""
    return dict(parse_procfile(PROCFILE.read_text()).processes)


def line_name(process: str) -> str:
    """The Procfile's name for a process: `gateway-2` is one more `gateway`."""
    return process.partition("-")[0]


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the watch on the supervisor and the process group have to do."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def die_with_parent() -> None:
    """For `preexec_fn`: the kernel kills the new process when the one that started it has ended."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _end_descendants(group: int, *, spare: bool) -> None:
    """What the command left behind: its process group, and its orphans, which are our children by now.

    `spare`: replicas of workflows live on; the command finds them when it starts again.
    """
    _kill_group(group)
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        left = [pid for pid in _children() if not (spare and _is_replica(pid))]
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not left:
            return
        time.sleep(0.02)


def _is_replica(pid: int) -> bool:
    try:
        return b"\0MUSTER_REPLICA=" in b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def _children() -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:
        return []


def main() -> int:
    """Environment: MUSTER_HOME, MUSTER_SUPERVISOR (the process without which this one has no business)."""
    home = Home(Path(os.environ["MUSTER_HOME"]))
    Keeper(sys.argv[1], home, int(os.environ["MUSTER_SUPERVISOR"])).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
