"""What a benchmark hands back: rows with a measure and what it is held against, notes, the machine's facts.

A benchmark is one file `benchmarks/bench_<name>.py` with a docstring, whose first line says what it measures,
and `run(options: BenchOptions) -> Report`. `bin/bench` finds it by its name.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What the command line says to every benchmark; one that has no use for an option ignores it."""

    sizes: tuple[int, ...] = ()  # nodes; empty = the benchmark's own
    repeat: int = 3  # of interleaved comparisons
    database: str = "sqlite"  # or postgresql
    keep: bool = False  # leave the working directory, and say where it is

    def sizes_or(self, *own: int) -> tuple[int, ...]:
        """The sizes asked for, or the benchmark's own."""
        return self.sizes or own


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `against` names what `reference` is: a limit, a peer, an empty answer.

    `within` bounds the ratio measured / reference: from above where less is better, from below where more
    is; None = told, not judged.
    """

    name: str
    measured: float
    unit: str
    reference: float | None = None
    against: str = ""
    better: str = "less"  # or "more"
    within: float | None = 1.0

    @property
    def ratio(self) -> float | None:
        """Measured by reference, where there is one."""
        return self.measured / self.reference if self.reference else None

    @property
    def ok(self) -> bool | None:
        """Whether the ratio is within its bound; None where nothing is asked."""
        if self.ratio is None or self.within is None:
            return None
        return self.ratio <= self.within if self.better == "less" else self.ratio >= self.within


@dataclass(slots=True)
class Report:
    """What one benchmark found."""

    name: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, measured: float, unit: str, **held_against: Any) -> None:
        """Add a Row."""
        self.rows.append(Row(name, measured, unit, **held_against))

    @property
    def ok(self) -> bool:
        """No row is out of its bound."""
        return all(row.ok is not False for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """The report as it is written to a file."""
        rows = [asdict(row) | {"ratio": row.ratio, "ok": row.ok} for row in self.rows]
        return {"name": self.name, "ok": self.ok, "rows": rows, "notes": self.notes, "machine": self.machine}


def names() -> list[str]:
    """All benchmarks there are."""
    return sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))


def load(name: str) -> tuple[Callable[[BenchOptions], Report], str]:
    """A benchmark's `run` and the first line of its docstring."""
    module = importlib.import_module(f"benchmarks.bench_{name}")
    return module.run, (module.__doc__ or "").strip().partition("\n")[0]


def run(name: str, options: BenchOptions) -> Report:
    """Run one benchmark and note what the machine was doing meanwhile."""
    function, _ = load(name)
    before, began = os.getloadavg()[0], time.monotonic()
    report = function(options)
    report.machine |= machine() | {
        "load_before": round(before, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "seconds": round(time.monotonic() - began, 1),
        "options": asdict(options),
    }
    return report


def machine() -> dict[str, Any]:
    """The facts without which no figure can be read."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": cpu,
        "memory_gb": round(int(memory) / 1e6, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def write(report: Report, folder: Path = RESULTS) -> Path:
    """Write a report as JSON; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report.name}.json"
    path.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    return path


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
