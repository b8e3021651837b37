"""Run one command under a guard: lines as they come, gentle stop, no two commands in one directory."""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .base import DirectoryBusy, Stopped, Watch

GUARD = Path(__file__).with_name("guard.py")
GUARDED = ".muster"  # directory of the guard's own files, in the task's directory
LOCKED = 75
LONGEST_LINE = 1_000_000  # bytes; a longer one is cut


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended."""

    code: int
    stopped: str = ""


def run_command(
    command: Sequence[str],
    *,
    directory: Path,
    environment: Mapping[str, str],
    watch: Watch,
    name: str,
    hear: Callable[[str, int], None],
    grace: float = 20.0,
) -> Finished:
    """Run `command` in `directory`; `hear(line, offset)` gets each line of its output.

    Asks `watch.stop()` at least twice a second; told to stop it interrupts the command (SIGINT) and kills it
    when it has not ended `grace` seconds later. Raises Stopped then, and DirectoryBusy where another
    command is at work in the directory.
    """
    guarded = directory / GUARDED
    guarded.mkdir(mode=0o700, parents=True, exist_ok=True)
    watch.begin(name)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(GUARD), str(guarded), str(grace), *command],
        cwd=directory,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C at our terminal is ours to pass on
    )
    try:
        stopped = _follow(process, watch, hear, grace)
        code = process.wait()
    finally:
        # Whatever happens to the caller, the guard sees the end of its input and ends the command.
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
    if code == LOCKED:
        raise DirectoryBusy("Another process works in the task's directory.")
    if stopped and code != 0:  # what has ended well all the same, has ended well
        raise Stopped(stopped)
    return Finished(code)


def _follow(
    process: subprocess.Popen[bytes], watch: Watch, hear: Callable[[str, int], None], grace: float
) -> str:
    reader = _Lines(hear)
    stopped, kill_at = "", 0.0
    descriptor = process.stdout.fileno()  # type: ignore[union-attr]
    while True:
        ready, _, _ = select.select([descriptor], [], [], 0.5)
        if ready:
            data = os.read(descriptor, 65536)
            if not data:
                reader.end()
                return stopped
            reader.feed(data)
        if not stopped:
            stopped = watch.stop()
            if stopped:
                _tell(process, b"I")
                kill_at = time.monotonic() + grace
        elif time.monotonic() > kill_at:
            _tell(process, b"K")
            kill_at = time.monotonic() + grace


def _tell(process: subprocess.Popen[bytes], word: bytes) -> None:
    try:
        process.stdin.write(word)  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    except OSError:  # the guard has ended already
        return


class _Lines:
    """Cuts a stream into lines; knows at which byte each ends."""

    def __init__(self, hear: Callable[[str, int], None]) -> None:
        self.hear = hear
        self.rest = b""
        self.offset = 0

    def feed(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.offset += len(line) + 1
            self.hear(line[:LONGEST_LINE].decode("utf-8", "replace"), self.offset)
        if len(self.rest) > LONGEST_LINE:
            self.offset += len(self.rest)
            self.hear(self.rest.decode("utf-8", "replace"), self.offset)
            self.rest = b""

    def end(self) -> None:
        if self.rest:
            self.feed(b"\n")


def is_at_work(directory: Path) -> bool:
    """Whether a guard holds the lock of the directory, on this machine."""
    try:
        descriptor = os.open(directory / GUARDED / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def exit_code(directory: Path) -> int | None:
    """Of the last command, where its guard lived to see its end."""
    try:
        return int((directory / GUARDED / "exit").read_text())
    except (OSError, ValueError):
        return None


def unread_lines(directory: Path, offset: int) -> list[str]:
    """Whole lines of the last command's output beyond `offset`."""
    try:
        with (directory / GUARDED / "output").open("rb") as file:
            file.seek(offset)
            text = file.read(4_000_000)
    except OSError:
        return []
    return [line.decode("utf-8", "replace") for line in text.split(b"\n")[:-1]]
