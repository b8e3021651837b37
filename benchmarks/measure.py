"""What benchmarks measure with: CPU and memory of a process, a fleet larger than one process, waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.fleet import FleetProcess

BMCS_PER_PROCESS = 5_000  # by address each takes two descriptors, and 20,000 is a common limit


def wait_for(check: Callable[[], object], limit: float = 60) -> None:
    """Ask until `check()` is true. Raises TimeoutError after `limit` seconds."""
    end = time.monotonic() + limit
    while not check():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {limit:g} s")
        time.sleep(0.05)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, threads that have ended included, its children not.

    By the process's own clock (clock_getcpuclockid(3) computes its number so): /proc tells hundredths.
    Raises OSError where the process has ended.
    """
    return time.clock_gettime((~pid << 3) | 2)


def memory_mb(pid: int | str) -> tuple[float, float]:
    """Resident memory of a process (or "self") now and at its peak, in MB (10^6 bytes)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    lines = dict(line.split(":", 1) for line in status.splitlines())
    now, peak = (int(lines[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
    return now, peak


@contextmanager
def fleets(count: int, *arguments: str, log: str = "") -> Iterator[list[FleetProcess]]:
    """As many fleet processes as `count` BMCs need, one after the other numbered; `log` names a folder."""
    with ExitStack() as stack:
        started = []
        for first in range(0, count, BMCS_PER_PROCESS):
            size = min(BMCS_PER_PROCESS, count - first)
            more = ["--log", str(Path(log) / f"witness-{first}.jsonl")] if log else []
            fleet = FleetProcess("--first", str(first), "--count", str(size), *more, *arguments)
            started.append(stack.enter_context(fleet))
        yield started


def joined_authorities(parts: list[FleetProcess]) -> str:
    """A file with the CAs of all processes of a fleet."""
    first = parts[0].ready["ca"]
    joined = first + ".all"
    with open(joined, "w", encoding="ascii") as target:
        for part in parts:
            with open(part.ready["ca"], encoding="ascii") as source:
                target.write(source.read())
    return joined
