"""Who works on a run: this process, so that another one of the same machine can see whether it lives."""

from __future__ import annotations

import os
import socket
import threading
from functools import cache
from pathlib import Path

_stopping = threading.Event()


@cache
def _host() -> str:
    """This machine since it was started: process numbers mean nothing after that."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()}/{boot}"


def me() -> str:
    """`host|pid|start` of this process."""
    return f"{_host()}|{os.getpid()}|{_started(os.getpid())}"


def is_dead(worker: str) -> bool:
    """Whether a worker is a process of this machine that is no more. False where that can't be known."""
    parts = worker.split("|")
    if len(parts) != 3 or parts[0] != _host():
        return False
    return not parts[1].isdigit() or _started(int(parts[1])) != parts[2]


def _started(pid: int) -> str:
    """When a process began, in ticks since the machine did: numbers are used again, this pair is not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    # A zombie has ended; nobody has asked for its exit code yet.
    return "" if fields[0] in {"Z", "X"} else fields[19]


def stop_soon() -> None:
    """This process goes down: what runs is interrupted and given back."""
    _stopping.set()


def shutting_down() -> bool:
    """Whether `stop_soon` was called."""
    return _stopping.is_set()
