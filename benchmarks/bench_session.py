"""A reboot and a shutdown of whole fleets by the real worker: rate, cost, SQL, memory, and no contradiction.

Everything is real but the BMCs and the nodes: Valkey, database, web, worker and beat as in the Procfile; each
BMC behind an address and a certificate of its own; each node that was switched on fetches its boot script
from the web server and reports. All of it shares this machine's cores, the emulated fleet included. A
shutdown needs neither boot script nor report, so its rate is that of the engine and the driver alone.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fleet import FleetProcess, check_witness
from benchmarks.measure import cpu_seconds, fleets, joined_authorities
from benchmarks.report import BenchOptions, Report
from benchmarks.stand import MemoryWatch, Stand, settle, stand

RATE_LIMIT, SQL_LIMIT, MEMORY_LIMIT = 300, 0.1, 300
FLAT = 1.2  # cost per node of the largest size by that of the smallest
WORKED = {"reboot": 2, "shutdown": 1}  # phases in which there is something to do; configure passes through
LAST = {"reboot": "boot", "shutdown": "shutdown"}  # the last of them
FLEET = (
    *("--by", "address", "--https", "--auth", "basic", "--power", "on", "--delay", "0.02"),
    *("--graceful-seconds", "0.5..1.5", "--off-seconds", "0.5..1", "--on-seconds", "1..2"),
    *("--firmware-seconds", "0.5..1", "--boot-seconds", "0.5..1"),
)
USER, PASSWORD = "admin", "emulated"


@dataclass
class Figures:
    """What one session of one size has cost."""

    seconds: float
    outcome: dict[str, Any]
    memory_mb: float
    cpu: dict[str, float]  # of each process of the Procfile, and of the fleet
    worker: dict[str, Any]
    web_statements: int
    fleet_requests: int
    contradictions: int
    texts: list[tuple[str, float, float]] = field(default_factory=list)


def run(options: BenchOptions) -> Report:
    """Reboot, then shut down, each size; compare the cost per node of the sizes."""
    report = Report("session")
    costs: dict[str, dict[int, float]] = {operation: {} for operation in WORKED}
    sizes = options.sizes_or(1_000, 10_000)
    for size in sizes:
        with ExitStack() as stack:
            one = stack.enter_context(stand(database=options.database, keep=options.keep))
            parts = stack.enter_context(fleets(size, *FLEET, "--muster", one.url, log=str(one.home)))
            load(one, parts)
            for turns, operation in enumerate(WORKED):
                figures = measure(one, parts, operation, size, reversals=1 + turns)
                tell(report, figures, operation, size)
                costs[operation][size] = figures.cpu["worker"] * 1000 / size / WORKED[operation]
            if options.keep:
                report.notes.append(f"{size:,} nodes: kept in {one.home}")
    for operation, by_size in costs.items():
        if len(by_size) > 1:
            smallest, largest = min(by_size), max(by_size)
            report.add(
                f"{operation}: worker's CPU per node, {largest:,} nodes",
                by_size[largest],
                "ms/phase",
                reference=by_size[smallest],
                against=f"{smallest:,} nodes",
                within=FLAT,
            )
    report.notes += [
        f"Database: {options.database}. A rate is nodes x worked phases / seconds from the request to the "
        "end, the emulated power changes and boots included, so small sizes are bound by those.",
        "Statements leave BEGIN, COMMIT and their like out, which PostgreSQL's driver does not show.",
    ]
    return report


def load(one: Stand, parts: list[FleetProcess]) -> None:
    """Give the stand the fleet's inventory."""
    nodes = [node for part in parts for node in part.inventory]
    settings = {"username": USER, "password": PASSWORD, "ca_file": joined_authorities(parts)}
    one.inside("load", nodes=nodes, settings=settings)


def measure(one: Stand, parts: list[FleetProcess], operation: str, size: int, *, reversals: int) -> Figures:
    """Run one session to its end."""
    name = f"bench-{operation}"
    before = snapshot(one, parts)
    with MemoryWatch(one, "worker") as memory:
        one.inside("start", name=name, operation=operation)
        limit = time.monotonic() + 120 + size / 10
        while (outcome := one.inside("look", name=name))["status"] != "complete":
            if time.monotonic() > limit:
                raise TimeoutError(f"{operation} of {size}: {outcome}; worker: {one.said('worker')}")
            time.sleep(0.5)
        settle(2.5)
    after = snapshot(one, parts)
    logs = sorted(Path(one.home).glob("witness-*.jsonl"))
    return Figures(
        seconds=outcome["seconds"],
        outcome=outcome,
        memory_mb=memory.peak_mb,
        cpu={key: value - before["cpu"][key] for key, value in after["cpu"].items()},
        worker=difference(after["worker"], before["worker"]) | {"missing": after["worker"]["missing"]},
        web_statements=_statements(after["web"]) - _statements(before["web"]),
        fleet_requests=after["requests"] - before["requests"],
        contradictions=sum(len(check_witness(log, reversals=reversals)) for log in logs),
        texts=_dearest(after["worker"], before["worker"]),
    )


def snapshot(one: Stand, parts: list[FleetProcess]) -> dict[str, Any]:
    """Totals of now."""
    cpu = {name: one.cpu(name) for name in one.processes}
    cpu["fleet"] = sum(cpu_seconds(part.pid) for part in parts)
    return {
        "cpu": cpu,
        "worker": _sum(one.notes("worker")),
        "web": _sum(one.notes("web")),
        "requests": sum(part.control()["requests"] for part in parts),
    }


def tell(report: Report, figures: Figures, operation: str, size: int) -> None:
    """Add the rows of one session."""
    work, worker = size * WORKED[operation], figures.worker
    at_scale = 1.0 if size >= 10_000 else None  # below, the emulated waits are most of the time
    batched = 1.0 if size >= 1_000 else None
    report.add(
        f"{operation}, {size:,} nodes: nodes per second and phase",
        work / figures.seconds,
        "/s",
        reference=RATE_LIMIT,
        against="limit",
        better="more",
        within=at_scale,
    )
    report.add("  worker: CPU per node and phase", figures.cpu["worker"] * 1000 / work, "ms")
    report.add(
        "  worker: statements per node and phase",
        _statements(worker) / work,
        "",
        reference=SQL_LIMIT,
        against="limit",
        within=batched,
    )
    report.add("  worker: memory", figures.memory_mb, "MB", reference=MEMORY_LIMIT, against="limit")
    for share, seconds in shares(worker).items():
        report.add(f"  worker: share of {share}", seconds * 100 / (worker["cpu"] or 1), "% CPU")
    report.add("  web: CPU per node", figures.cpu["web"] * 1000 / size, "ms")
    report.add("  web: statements per node", figures.web_statements / size, "")
    report.add("  BMC requests per node and phase", figures.fleet_requests / work, "")
    lost = size - figures.outcome["phases"][LAST[operation]]["succeeded"]
    report.add("  nodes not done", lost, "nodes", reference=size, against="of", within=0.0)
    report.add(
        "  contradictory actions", figures.contradictions, "", reference=1, against="limit", within=0.0
    )
    cpu = ", ".join(f"{name} {seconds:.1f}" for name, seconds in figures.cpu.items())
    report.notes.append(f"{operation}, {size:,}: {figures.seconds:.1f} s; CPU seconds: {cpu}")
    if figures.outcome["errors"]:
        report.notes.append(f"{operation}, {size:,}: errors {figures.outcome['errors']}")
    if worker["missing"]:
        report.notes.append(f"shares are incomplete, unknown are {', '.join(worker['missing'])}")
    for text, count, seconds in figures.texts:
        report.notes.append(f"  {count:.0f} x, {seconds:.2f} s: {text}")


def shares(worker: dict[str, Any]) -> dict[str, float]:
    """CPU seconds of the worker by what they were spent on."""
    parts = worker["parts"]
    database = parts["claim"]["cpu"] + parts["write"]["cpu"] + parts["set_up"]["cpu"]
    known = {
        "driver": worker["driver_cpu"],
        "database (claim, write, set up)": database,
        "events": parts["events"]["cpu"],
    }
    return known | {"rest": max(0.0, worker["cpu"] - sum(known.values()))}


def difference(after: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """What was added between two sums of notes."""
    return {
        key: difference(value, before.get(key, {})) if isinstance(value, dict) else value - before.get(key, 0)
        for key, value in after.items()
        if key not in ("texts", "missing")
    }


def _sum(notes: list[dict[str, Any]]) -> dict[str, Any]:
    """Notes of several processes as one."""
    total: dict[str, Any] = {
        "cpu": 0.0,
        "driver_cpu": 0.0,
        "sql_cpu": 0.0,
        "sql_seconds": 0.0,
        "statements": Counter(),
        "parts": {},
        "texts": {},
        "missing": sorted({place for one in notes for place in one["missing"]}),
    }
    for one in notes:
        for name in ("cpu", "driver_cpu", "sql_cpu", "sql_seconds"):
            total[name] += one[name]
        total["statements"].update(one["statements"])
        for part, values in one["parts"].items():
            known = total["parts"].setdefault(part, dict.fromkeys(values, 0.0))
            for key, value in values.items():
                known[key] += value
        for text, (count, seconds) in one["texts"].items():
            known = total["texts"].setdefault(text, [0, 0.0])
            known[0] += count
            known[1] += seconds
    return total


def _statements(notes: dict[str, Any]) -> int:
    return sum(count for verb, count in notes["statements"].items() if verb != "transaction")


def _dearest(after: dict[str, Any], before: dict[str, Any], most: int = 5) -> list[tuple[str, float, float]]:
    """The statements that took longest: text, how often, seconds."""
    nothing = [0, 0.0]
    found = [
        (text, count - before["texts"].get(text, nothing)[0], took - before["texts"].get(text, nothing)[1])
        for text, (count, took) in after["texts"].items()
    ]
    return sorted(found, key=lambda one: -one[2])[:most]
