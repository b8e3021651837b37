"""Runs a program of the product and notes what it spends: `python -m benchmarks.traced MODULE ARGUMENT...`.

Nothing of it is in the product. With MUSTER_BENCH_SQL=FILE in the environment each process (the worker's
children too) writes FILE.<pid>.json about once a second, with totals since its start:

    {"pid", "cpu", "driver_cpu",                 CPU seconds of the process; of it the drivers' thread
     "statements": {"select": n, ..., "transaction": n}, "sql_cpu", "sql_seconds",
     "parts": {"claim", "write", "events", "set_up"}: {"calls", "cpu", "seconds", "sql_cpu"},
     "missing": [functions that a part names and the product has not],
     "texts": {beginning of a statement: [n, seconds]}}

CPU of a statement is that of executing it; fetching and building rows counts for the part around it. A part
does not contain another: events told in the middle of a write count as events.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import runpy
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

TEXT_LENGTH = 90  # enough for verb, table and the first fields; never the parameters
TRANSACTION = frozenset({"begin", "commit", "rollback", "savepoint", "release", "pragma", "set"})
# part -> functions of the product, as module:name
PARTS = {
    "claim": ("sessions_app.work:claim_due",),
    "write": ("sessions_app.work:write", "sessions_app.endings:tell_progress"),
    "set_up": ("sessions_app.setup:set_up_session",),
    "events": (
        "events_app.services:_write",
        "events_app.services:_tell",
        "events_app.services:report_progress",
        "events_app.services:wake",
    ),
}


class Notes:
    """The totals of this process."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._pid = 0
        self._written_at = 0.0
        self._open = threading.local()
        self.missing: list[str] = []
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self.statements: dict[str, int] = defaultdict(int)
        self.texts: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
        self.parts: dict[str, dict[str, float]] = {
            part: {"calls": 0, "cpu": 0.0, "seconds": 0.0, "sql_cpu": 0.0} for part in PARTS
        }
        self.sql_cpu = self.sql_seconds = 0.0

    def on_statement(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        """Django's execute_wrapper: count a statement and the time that it took."""
        if os.getpid() != self._pid:
            self._begin()  # a forked child counts for itself
        cpu, wall = time.thread_time(), time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
            verb = sql.lstrip("( ").split(None, 1)[0].lower()
            self.statements["transaction" if verb in TRANSACTION else verb] += 1
            text = self.texts[sql[:TEXT_LENGTH]]
            text[0] += 1
            text[1] += wall
            self.sql_cpu += cpu
            self.sql_seconds += wall
            stack = getattr(self._open, "stack", None)
            if stack:
                self.parts[stack[-1][0]]["sql_cpu"] += cpu
            self.write()

    def part(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted for a part and not for the part around it."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if not hasattr(self._open, "stack"):
                self._open.stack = []
            stack = self._open.stack
            frame = [name, 0.0, 0.0]  # of inner parts: CPU, seconds
            stack.append(frame)
            cpu, wall = time.thread_time(), time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
                stack.pop()
                part = self.parts[name]
                part["calls"] += 1
                part["cpu"] += cpu - frame[1]
                part["seconds"] += wall - frame[2]
                if stack:
                    stack[-1][1] += cpu
                    stack[-1][2] += wall

        return timed

    def write(self, *, now: bool = False) -> None:
        """Write the file, if it is a second old."""
        if not now and time.monotonic() - self._written_at < 1.0:
            return
        self._written_at = time.monotonic()
        path = Path(f"{self._file}.{os.getpid()}.json")
        text = json.dumps(
            {
                "pid": os.getpid(),
                "cpu": time.process_time(),
                "driver_cpu": _thread_cpu("power-drivers"),
                "statements": self.statements,
                "sql_cpu": self.sql_cpu,
                "sql_seconds": self.sql_seconds,
                "parts": self.parts,
                "missing": self.missing,
                "texts": self.texts,
            }
        )
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(path)


def _thread_cpu(name: str) -> float:
    """CPU seconds of this process's thread of that name, 0 where there is none."""
    for thread in threading.enumerate():
        if thread.name == name and thread.native_id:
            stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text(encoding="ascii")
            fields = stat.rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def install(file: str) -> None:
    """Note every statement of every connection, and the parts once the product is loaded."""
    from django.db.backends.signals import connection_created

    notes = Notes(file)

    def watch(connection: Any, **_: Any) -> None:
        if notes.on_statement not in connection.execute_wrappers:
            connection.execute_wrappers.append(notes.on_statement)

    connection_created.connect(watch, weak=False, dispatch_uid="benchmarks")
    if "celery" in sys.argv[0]:
        from celery.signals import task_postrun, worker_init

        worker_init.connect(lambda **_: _time_parts(notes), weak=False)
        task_postrun.connect(lambda **_: notes.write(), weak=False)


def find(place: str) -> Callable[..., Any]:
    """The function that `module:name` names. Raises ImportError or AttributeError."""
    module_name, _, name = place.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module_name), name)
    return function


def _time_parts(notes: Notes) -> None:
    """Put the timed functions wherever the product's modules have the plain ones."""
    for part, places in PARTS.items():
        for place in places:
            try:
                plain = find(place)
            except (ImportError, AttributeError):
                notes.missing.append(place)
                continue
            timed = notes.part(part, plain)
            for module in list(sys.modules.values()):
                if getattr(module, "__name__", "").split(".")[0].endswith("_app"):
                    for attribute, value in list(vars(module).items()):
                        if value is plain:
                            setattr(module, attribute, timed)


def main() -> None:
    """Run the module named first as `python -m` would."""
    del sys.argv[0]
    if os.environ.get("MUSTER_BENCH_SQL"):
        install(os.environ["MUSTER_BENCH_SQL"])
    sys.path.insert(0, os.getcwd())
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
