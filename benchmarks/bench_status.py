"""Status of sessions of 10, 1,000 and 10,000 nodes, next to an empty authenticated answer of the same server.

The web server is the Procfile's; no worker runs, so the sessions stand still: most nodes are on their way up,
every twentieth has failed, with one of eight errors. Requests go in turn, a few to each door and round
again, over one connection, so that whatever else the machine does hits all doors alike.
"""

from __future__ import annotations

import http.client
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.emulation.options import mac, xname
from benchmarks.measure import cpu_seconds
from benchmarks.report import BenchOptions, Report
from benchmarks.stand import Stand, stand

LIMIT = 1.5
ROUNDS, IN_TURN, IN_TURN_TOLD = 6, 20, 3  # of requests to each door, for each of `repeat`
EMPTY = "/bench/empty"


@dataclass
class Door:
    """One path, and what its requests have cost so far."""

    name: str
    path: str
    judged: bool = True
    cpu_ms: list[float] = field(default_factory=list)  # per request, one figure a round
    latency_ms: list[float] = field(default_factory=list)
    size: int = 0  # bytes of the answer


def run(options: BenchOptions) -> Report:
    """Make the sessions, ask in turn, compare with the empty answer."""
    report = Report("status")
    sizes = options.sizes_or(10, 1_000, 10_000)
    extra = {"DJANGO_SETTINGS_MODULE": "benchmarks.empty_answer"}
    with stand(
        database=options.database, keep=options.keep, extra=extra, processes=("redis", "web"), traced=()
    ) as one:
        doors = [Door("empty answer", EMPTY, judged=False), *make_doors(one, sizes)]
        for _ in ask_in_turn(one, doors, rounds=ROUNDS * options.repeat):
            pass
    empty = doors[0]
    report.add("empty answer: CPU", statistics.median(empty.cpu_ms), "ms")
    report.add("empty answer: latency", statistics.median(empty.latency_ms), "ms")
    for door in doors[1:]:
        compare(report, door, empty)
    report.notes += [
        f"Database: {options.database}. Medians of {ROUNDS * options.repeat} rounds; ratios are medians of "
        "each round's own ratio. CPU is the web process's, all threads.",
        "Levels that list nodes grow with the list, so they are told and not judged.",
    ]
    return report


def make_doors(one: Stand, sizes: tuple[int, ...]) -> list[Door]:
    """A session of each size, and the doors that tell its status."""
    doors, first = [], 0
    for size in sizes:
        nodes = [
            {
                "xname": xname(number),
                "nid": number + 1,
                "mac": mac(number),
                "address": "http://127.0.0.1:9",
                "system": "/redfish/v1/Systems/1",
            }
            for number in range(first, first + size)
        ]
        first += size
        group = f"bench-{size}"
        one.inside("load", nodes=nodes, settings={"username": "u", "password": "p"}, group=group)
        session = one.inside("stand_still", name=group)
        prefix = f"/apis/bos/v1/session/{session['id']}/status"
        doors += [
            Door(f"v1 status, {size:,} nodes", prefix),
            Door(f"v2 status, {size:,} nodes", f"/apis/bos/v2/sessions/{session['name']}/status"),
            Door(
                f"v1 category with its nodes, {size:,} nodes", f"{prefix}/all/boot/in_progress", judged=False
            ),
        ]
    return doors


def ask_in_turn(one: Stand, doors: list[Door], *, rounds: int) -> Iterator[None]:
    """Ask each door IN_TURN times, round after round; the first round only warms up."""
    pid = one.processes["web"].pid
    connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=60)
    headers = {"Authorization": f"Bearer {one.token}"}
    for number in range(rounds + 1):
        for door in doors:
            times, count = [], IN_TURN if door.judged or door.path == EMPTY else IN_TURN_TOLD
            cpu = cpu_seconds(pid)
            for _ in range(count):
                began = time.perf_counter()
                connection.request("GET", door.path, headers=headers)
                answer = connection.getresponse()
                body = answer.read()
                times.append((time.perf_counter() - began) * 1000)
                if answer.status != 200:
                    raise RuntimeError(f"{door.path}: {answer.status} {body[:300]!r}")
            if number:
                door.cpu_ms.append((cpu_seconds(pid) - cpu) * 1000 / count)
                door.latency_ms.append(statistics.median(times))
            door.size = len(body)
            json.loads(body)
        yield
    connection.close()


def compare(report: Report, door: Door, empty: Door) -> None:
    """Add a door's rows: the ratio of each round to the empty answer's of the same round."""
    for what in ("cpu_ms", "latency_ms"):
        pairs = zip(getattr(door, what), getattr(empty, what), strict=True)
        ratio = statistics.median(mine / its for mine, its in pairs)
        reference = statistics.median(getattr(empty, what))
        report.add(
            f"{door.name}: {'CPU' if what == 'cpu_ms' else 'latency'}"
            + (f" ({door.size:,} bytes)" if what == "cpu_ms" else ""),
            ratio * reference,
            "ms",
            reference=reference,
            against="empty answer",
            within=LIMIT if door.judged else None,
        )
