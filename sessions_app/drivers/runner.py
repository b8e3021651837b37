"""The bridge from the engine's plain functions to the drivers' event loop.

A `Pump` is one daemon thread with one uvloop event loop in which the drivers live, so that connections,
TLS contexts and breakers outlast a batch. The engine submits targets, goes on with other work, and drains
results as they come. Every submitted key comes back exactly once, even when a driver raises or hangs.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import aclosing, suppress
from typing import Any

import uvloop

from . import driver_class
from .base import OPERATION_SECONDS, PowerDriver, Reason, Result, Target
from .bounded import failure, mask

logger = logging.getLogger(__name__)

SLACK_SECONDS = 2.0  # what a result may need from the driver to the engine, beyond the bounds of base.py
CLOSE_SECONDS = 3.0
NO_RESULT = "The power driver gave no result in time"
RAISED = "Internal fault of the power driver"


class _Batch:
    """One call of submit: the targets that still wait for their result, and until when they may."""

    __slots__ = ("deadline", "kind", "pending", "targets", "task")

    def __init__(self, kind: str, targets: Sequence[Target], begin_by: float) -> None:
        self.kind = kind
        self.targets = targets
        self.pending = {target.key: target for target in targets}
        longest = max(target.seconds or OPERATION_SECONDS for target in targets)
        self.deadline = max(begin_by, time.monotonic()) + longest + SLACK_SECONDS
        self.task: asyncio.Task[None] | None = None
        if len(self.pending) != len(targets):
            raise ValueError("Each key may be submitted once per batch.")


class Pump:
    """Runs drivers in a thread of its own. `submit` and `drain` may be called from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._results: deque[Result] = deque()
        self._batches: set[_Batch] = set()
        self._drivers: dict[str, PowerDriver] = {}
        self._closed = False
        self._loop = uvloop.new_event_loop()
        self._loop.set_exception_handler(_log_stray)
        self._thread = threading.Thread(target=self._run, name="power-drivers", daemon=True)
        self._thread.start()

    @property
    def in_flight(self) -> int:
        """Keys submitted whose results `drain` has not returned yet."""
        with self._changed:
            return len(self._results) + sum(len(batch.pending) for batch in self._batches)

    def submit(self, kind: str, targets: Sequence[Target], *, begin_by: float) -> None:
        """Hand targets to the driver of `kind` and return at once.

        `begin_by` is a time of `time.monotonic()`, see PowerDriver.perform. An unknown kind is a result per
        target, not an exception. Raises ValueError for a key given twice, RuntimeError after close().
        """
        if not targets:
            return
        batch = _Batch(kind, tuple(targets), begin_by)
        with self._changed:
            if self._closed:
                raise RuntimeError("This pump is closed.")
            self._batches.add(batch)
        self._loop.call_soon_threadsafe(self._start, batch, begin_by)

    def drain(self, *, wait: float, most: int = 500) -> list[Result]:
        """Up to `most` results; blocks until there is one, for at most `wait` seconds."""
        until = time.monotonic() + wait
        with self._changed:
            while True:
                now = time.monotonic()
                self._expire(now)
                if self._results or self._closed or now >= until:
                    count = min(most, len(self._results))
                    return [self._results.popleft() for _ in range(count)]
                self._changed.wait(min([until, *(batch.deadline for batch in self._batches)]) - now)

    def close(self) -> None:
        """End all work and the thread; what was in flight is forgotten."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._batches.clear()
            self._changed.notify_all()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(2 * CLOSE_SECONDS)

    # Below: in the loop's thread, except _expire, which must not depend on a loop that may be blocked.

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._shut())
        finally:
            self._loop.close()

    async def _shut(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(*tasks, return_exceptions=True)
                closing: list[Coroutine[Any, Any, None]] = [one.aclose() for one in self._drivers.values()]
                await asyncio.gather(*closing, return_exceptions=True)

    def _start(self, batch: _Batch, begin_by: float) -> None:
        batch.task = self._loop.create_task(self._work(batch, begin_by))

    async def _work(self, batch: _Batch, begin_by: float) -> None:
        try:
            driver = self._driver(batch.kind)
            async with aclosing(driver.perform(batch.targets, begin_by=begin_by)) as results:
                async for result in results:
                    self._finish(batch, result)
            error = NO_RESULT
        except Exception:
            trace = mask(traceback.format_exc(), *batch.targets)
            logger.error("The %s driver raised.\n%s", batch.kind, trace)
            error = RAISED
        with self._changed:
            self._give_up(batch, error)

    def _driver(self, kind: str) -> PowerDriver:
        driver = self._drivers.get(kind)
        if driver is None:
            driver = self._drivers[kind] = driver_class(kind)()
        return driver

    def _finish(self, batch: _Batch, result: Result) -> None:
        with self._changed:
            # A key that is not pending was given up already, or the driver reports it twice.
            if batch.pending.pop(result.key, None) is None:
                return
            self._results.append(result)
            if not batch.pending:
                self._batches.discard(batch)
            self._changed.notify_all()

    def _give_up(self, batch: _Batch, error: str) -> None:
        """Answer for what is left of a batch. The lock is held."""
        if batch in self._batches:
            self._results.extend(failure(one, Reason.INTERNAL, error) for one in batch.pending.values())
            batch.pending.clear()
            self._batches.discard(batch)
            self._changed.notify_all()

    def _expire(self, now: float) -> None:
        """Give up batches beyond their deadline. The lock is held."""
        for batch in [one for one in self._batches if now >= one.deadline]:
            logger.error("The %s driver left %d actions without result.", batch.kind, len(batch.pending))
            self._give_up(batch, NO_RESULT)
            if batch.task is not None:
                self._loop.call_soon_threadsafe(batch.task.cancel)


def _log_stray(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """asyncio's own report would show exceptions and their arguments, which may carry a secret."""
    error = context.get("exception")
    what = str(context.get("message", "")).partition(":")[0]
    # uvloop says this of every TLS handshake that was given up; its action has its Result already.
    level = logging.DEBUG if what.startswith("Fatal error on SSL protocol") else logging.ERROR
    logger.log(level, "Stray fault in the drivers' event loop: %s (%s)", what, type(error).__name__)


_pump: Pump | None = None
_pump_lock = threading.Lock()


def get_pump() -> Pump:
    """This process's pump, made at first use. It has one consumer: whoever drains gets every result."""
    global _pump
    with _pump_lock:
        if _pump is None:
            _pump = Pump()
            atexit.register(_pump.close)
        return _pump


def _forget_pump() -> None:
    """After a fork the pump's thread exists in the parent only; the child makes its own."""
    global _pump, _pump_lock
    if _pump is not None:
        atexit.unregister(_pump.close)
    _pump, _pump_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_pump)
