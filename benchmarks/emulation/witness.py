"""The request log of a fleet, and what it proves: that no contradictory actions happened.

One JSON object per line, appended unbuffered, so that a killed fleet loses nothing:

    {"kind": "request", "bmc": xname, "received": s, "left": s or null, "at": s, "wall": unix s,
     "method", "path", "body", "status": HTTP status or 0 for "no answer", "applied": bool,
     "fault": word or null, "before": PowerState, "after": PowerState,
     "pending": "on" | "off" | "restart" | null}
    {"kind": "settled", "bmc", "at", "wall", "before", "after"}
    {"kind": "script" | "reported", "bmc", "at", "wall", "status"}

`received`, `left` and `at` are of the fleet's monotonic clock: the request was read; its client went away
before it was decided (where that happened); it was decided. A BMC carries out what it has read, whether or
not anybody waits for the answer. `pending` is the direction of the power change that an earlier request had
begun and that was not settled when this one was decided. Requests are logged when they would change a
System (Reset, PATCH), refused ones too.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIRECTIONS = {"On": "on", "ForceOff": "off", "GracefulShutdown": "off", "ForceRestart": "restart"}


class WitnessLog:
    """Appends lines to a file; each is one write(2), so several readers and a kill do no harm."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if path else None

    def write(self, **line: Any) -> None:
        """Append one line with the time of now."""
        if self._fd is not None:
            line |= {"at": round(time.monotonic(), 6), "wall": round(time.time(), 6)}
            os.write(self._fd, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One finding: `kind` is crossed, overlapping or reversed; `line` counts from 1."""

    kind: str
    bmc: str
    line: int
    text: str


def read_log(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line of a log with its number. Raises ValueError for a line that is no JSON object."""
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            yield number, json.loads(line)


def check_witness(path: str | Path, *, reversals: int | None = None) -> list[Contradiction]:
    """Find contradictory actions in a fleet's log; an empty list is the proof that there were none.

    Looked at are the Reset requests that reached a BMC, per BMC in the order in which they were decided.
    A direction is "on" (On), "off" (ForceOff, GracefulShutdown) or "restart" (ForceRestart). Contradictory
    is:

    crossed      a request with a direction other than that of a power change still pending, i.e. begun by
                 an earlier request and not settled: On while the node is on its way off, off while it is on
                 its way on, a restart into either. It counts even when the BMC refused it. Repeating the
                 same direction, and ForceOff after GracefulShutdown, are no contradiction: actions happen
                 at least once.
    overlapping  a changing request (PATCH too) read while another of the same BMC was not yet decided and
                 its client still waited: two hands at one BMC at the same time. A request that the fleet
                 deliberately leaves hanging counts as decided at once.
    reversed     looked for only where `reversals` is given: the directions of one node changed more often
                 than so. A shutdown or a boot session changes none, a reboot one (off, then on); n reboots
                 in a row 2n-1. This is what finds a late action of a worker that had lost its claim, after
                 the node had settled.

    An action that a BMC accepted without ever following it (fault "stuck") leaves nothing pending.
    """
    requests = defaultdict(list)
    for number, line in read_log(path):
        if line["kind"] == "request":
            requests[line["bmc"]].append((number, line))
    found: list[Contradiction] = []
    for bmc, lines in requests.items():
        found += _crossed(bmc, lines)
        found += _overlapping(bmc, lines)
        if reversals is not None:
            found += _reversed(bmc, lines, reversals)
    return sorted(found, key=lambda one: one.line)


_Lines = Iterable[tuple[int, dict[str, Any]]]


def _resets(lines: _Lines) -> Iterator[tuple[int, dict[str, Any], str]]:
    for number, line in lines:
        body = line["body"] if isinstance(line["body"], dict) else {}
        direction = DIRECTIONS.get(str(body.get("ResetType"))) if line["method"] == "POST" else None
        if direction:
            yield number, line, direction


def _crossed(bmc: str, lines: _Lines) -> Iterator[Contradiction]:
    for number, line, direction in _resets(lines):
        if line["pending"] and line["pending"] != direction:
            text = f"{line['body']['ResetType']} while a change to {line['pending']} was pending"
            yield Contradiction("crossed", bmc, number, text)


def _overlapping(bmc: str, lines: _Lines) -> Iterator[Contradiction]:
    busy_until = float("-inf")
    for number, line in sorted(lines, key=lambda one: one[1]["received"]):
        if line["received"] < busy_until:
            yield Contradiction("overlapping", bmc, number, "read while an earlier one was not yet decided")
        busy_until = max(busy_until, line["left"] or line["at"])


def _reversed(bmc: str, lines: _Lines, allowed: int) -> Iterator[Contradiction]:
    last, count = "", 0
    for number, line, direction in _resets(lines):
        if not line["applied"]:
            continue
        count += bool(last) and direction != last
        if last and direction != last and count > allowed:
            text = f"{direction} after {last}: change of direction number {count}, allowed {allowed}"
            yield Contradiction("reversed", bmc, number, text)
        last = direction
