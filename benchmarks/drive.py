"""Our Redfish driver alone in a process: `python -m benchmarks.drive` reads a JSON task, prints JSON figures.

A process of its own, so that CPU and memory are the driver's. Imports and interpreter start are left out.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import uvloop

from benchmarks.measure import memory_mb
from sessions_app.drivers.base import Action, BootSource, Power, Target
from sessions_app.drivers.redfish import RedfishDriver

BATCH, BATCHES_AT_ONCE = 500, 2  # what the engine keeps in flight
POLL_SECONDS = (1, 1, 1, 1, 2, 2, 4)  # redfishpower's schedule, the last one again and again
POLLS_MOST = 20


class Drive:
    """Performs one task on many nodes, a batch at a time as the engine does."""

    def __init__(self, driver: RedfishDriver) -> None:
        self._driver = driver
        self.ok = 0
        self.errors: Counter[str] = Counter()

    async def run(self, what: str, targets: Sequence[Target]) -> None:
        """Do `state`, `on` (with a boot override) or `switch` (on, then poll until it is) to all."""
        places = asyncio.Semaphore(BATCHES_AT_ONCE)

        async def one(batch: Sequence[Target]) -> None:
            async with places:
                await self._batch(what, batch)

        starts = range(0, len(targets), BATCH)
        await asyncio.gather(*(one(targets[start : start + BATCH]) for start in starts))

    async def _batch(self, what: str, batch: Sequence[Target]) -> None:
        pending = {target.key: target for target in batch}
        if what == "state":
            await self._perform(pending, Action.STATE, lambda power: True)
        elif what == "on":
            await self._perform(pending, Action.ON, lambda power: True, BootSource("Pxe"))
        else:
            await self._perform(pending, Action.ON, lambda power: power is Power.ON)
            for poll in range(POLLS_MOST):
                if not pending:
                    break
                await asyncio.sleep(POLL_SECONDS[min(poll, len(POLL_SECONDS) - 1)])
                await self._perform(pending, Action.STATE, lambda power: power is Power.ON)
            self.errors["not on after the last poll"] += len(pending)

    async def _perform(
        self, pending: dict[int, Target], action: Action, done: Any, boot: BootSource | None = None
    ) -> None:
        """One action on all pending nodes; those that are done or failed are taken out."""
        targets = [replace(target, action=action, boot=boot) for target in pending.values()]
        async for result in self._driver.perform(targets, begin_by=time.monotonic() + 600):
            if not result.ok:
                self.errors[result.error or "not begun"] += 1
                del pending[result.key]
            elif done(result.power):
                self.ok += 1
                del pending[result.key]


async def drive(task: dict[str, Any]) -> dict[str, Any]:
    """Do a task: {"what", "nodes": [inventory], "settings", "secrets"}; the figures."""
    targets = [
        Target(
            number,
            node["xname"],
            Action.STATE,
            node["address"],
            node["system"],
            task["settings"],
            task["secrets"],
        )
        for number, node in enumerate(task["nodes"])
    ]
    driver = RedfishDriver()
    run = Drive(driver)
    cpu, wall = time.process_time(), time.monotonic()
    await run.run(task["what"], targets)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    now, peak = memory_mb("self")
    await driver.aclose()
    return {
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "ok": run.ok,
        "errors": +run.errors,
        "rss_mb": now,
        "peak_rss_mb": peak,
    }


if __name__ == "__main__":
    json.dump(uvloop.run(drive(json.load(sys.stdin))), sys.stdout)
