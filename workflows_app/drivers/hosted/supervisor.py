"""The one long-lived process part of a hosted runtime: starts, probes, replaces and ends replicas."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial

from workflows_app.drivers.base import Probe, ServicePlan
from workflows_app.drivers.hosted.probes import probe
from workflows_app.drivers.hosted.replica import Exit, Host, HostFault, Replica, Seen
from workflows_app.drivers.hosted.report import Reporter, is_available
from workflows_app.drivers.hosted.rolling import decide
from workflows_app.drivers.hosted.store import Order, Store

log = logging.getLogger(__name__)

TICK = 0.2  # seconds
LOG_BYTES = 10_000_000  # kept twice: the file and what was cut off


class Supervisor:
    """Brings one runtime's replicas to what is asked for, and says how they are."""

    def __init__(self, store: Store, host: Host, changed: Callable[[Sequence[str]], None]) -> None:
        self.store = store
        self.host = host
        self._changed = changed
        self._orders: dict[str, Order] = {}
        self._stamps: dict[str, int] = {}
        self._replicas: dict[str, Replica] = {}
        self._reporter = Reporter(store, host)
        self._pool = ThreadPoolExecutor(max_workers=16, thread_name_prefix=store.directory.name)
        self._next_upkeep = 0.0
        self._trouble = ""

    def run(self, stop: threading.Event, end_within: Callable[[], float | None] = lambda: None) -> None:
        """Until `stop`; the first of several supervisors works, the others wait for its end.

        `end_within`, asked at the end: seconds in which to end all replicas; None leaves them to the next
        supervisor.
        """
        while (held := self.store.take()) is None:
            if stop.wait(1.0):
                return
        try:
            self.recover()
            while not stop.is_set():
                self.tick()
                stop.wait(TICK)
            patience = end_within()
            if patience is not None:
                self.end_all(patience)
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
            # The descriptor holds the lock; closing it lets the next supervisor begin.
            os.close(held)

    def recover(self) -> None:
        """Find what an earlier supervisor left running, and end what nobody knows any more."""
        for path in sorted(self.store.replicas.iterdir()):
            replica = Replica.load(path)
            if replica is not None:
                self._replicas[replica.name] = replica
            else:
                shutil.rmtree(path, ignore_errors=True)
        self._reporter.recover()
        try:
            self.host.end_strays(self._replicas)
        except HostFault as fault:
            log.warning("%s: %s", self.store.directory.name, fault)

    def tick(self) -> None:
        """One look at everything. A fault of the host leaves things as they are until the next."""
        now = time.time()
        self._read_orders()
        try:
            seen = self.host.look([each for each in self._replicas.values() if each.phase == "running"])
        except HostFault as fault:
            if str(fault) != self._trouble:
                log.warning("%s: %s", self.store.directory.name, fault)
            self._trouble = str(fault)
            return
        self._trouble = ""
        for replica in list(self._replicas.values()):
            self._follow(replica, seen, now)
        for ref, key, plan in self._wanted():
            self._converge(ref, key, plan, now)
        self._report(now)
        if now >= self._next_upkeep:
            self._next_upkeep = now + 10
            self._cut_logs()

    def end_all(self, patience: float) -> None:
        """Before Muster stops on this machine: end every replica; the next supervisor starts them again."""
        wait([each.starting for each in self._replicas.values() if each.starting], timeout=patience)
        running = [each for each in self._replicas.values() if each.phase != "waiting"]
        until = time.monotonic() + patience
        for force in (False, True):
            for replica in running:
                self._try(replica, partial(self.host.stop, replica, force=force))
            while running and (force or time.monotonic() < until):
                running = self._still(running)
                if not running or (force and time.monotonic() > until + 2):
                    break
                time.sleep(0.05)
        self.host.end_strays(())
        now = time.time()
        for replica in self._replicas.values():
            replica.phase, replica.ready_since, replica.next_start_at = "waiting", None, now
            replica.word = replica.words = ""
            replica.save(self.store)
        self._report(now)

    def _still(self, replicas: list[Replica]) -> list[Replica]:
        try:
            seen = self.host.look(replicas)
        except HostFault:
            return []
        return [each for each in replicas if each.name in seen and seen[each.name].running]

    # -- what is asked for ----------------------------------------------------------------------------

    def _read_orders(self) -> None:
        stamps = self.store.stamps()
        for ref, stamp in stamps.items():
            if self._stamps.get(ref) != stamp:
                order = self.store.order(ref)
                if order is not None:
                    self._orders[ref] = order
        for ref in self._orders.keys() - stamps.keys():
            del self._orders[ref]
        self._stamps = stamps

    def _wanted(self) -> Iterable[tuple[str, str, ServicePlan | None]]:
        """Every service that is asked for, and every one that only has replicas (plan None)."""
        asked = {
            (ref, service.id): service for ref, order in self._orders.items() for service in order.services
        }
        left = {(each.ref, each.plan.id) for each in self._replicas.values()} - asked.keys()
        yield from ((ref, key, plan) for (ref, key), plan in asked.items())
        yield from ((ref, key, None) for ref, key in left)

    # -- one replica ----------------------------------------------------------------------------------

    def _follow(self, replica: Replica, seen: Mapping[str, Seen], now: float) -> None:
        """From what was seen to what is to be done next for one replica."""
        if replica.phase == "starting":
            self._follow_start(replica, now)
        elif replica.phase == "running":
            state = seen.get(replica.name)
            if state is None or not state.running:
                ended = (state.ended if state else None) or Exit()
                log.info("Replica %s: %s.", replica.name, ended.describe())
                replica.note_end(ended, now)
                replica.save(self.store)
            else:
                self._probe(replica, now)
        if replica.ending:
            self._follow_end(replica, now)
        elif replica.phase == "waiting" and now >= replica.next_start_at:
            self._begin_start(replica, now)

    def _begin_start(self, replica: Replica, now: float) -> None:
        others = [each for each in self._replicas.values() if each is not replica]
        replica.refusal = self.host.refusal(replica, others) if replica.attempt == 0 else ""
        if replica.refusal:
            replica.next_start_at = now + 1
            return
        replica.attempt += 1
        replica.phase = "starting"
        replica.save(self.store)
        replica.starting = self._pool.submit(self.host.start, replica)

    def _follow_start(self, replica: Replica, now: float) -> None:
        future = replica.starting
        if future is None or not future.done():
            return
        replica.starting = None
        error = future.exception()
        if error is None:
            replica.note_start(now)
        elif isinstance(error, HostFault):
            replica.note_fault(error, now)
        else:
            log.error("Replica %s could not be started.", replica.name, exc_info=error)
            replica.note_fault(HostFault("StartError", f"{type(error).__name__}: {error}"), now)
        replica.save(self.store)

    def _follow_end(self, replica: Replica, now: float) -> None:
        if replica.phase == "waiting":
            self._try(replica, partial(self._forget, replica))
        elif replica.phase == "running" and replica.ending_at is not None and now >= replica.ending_at:
            if replica.asked_at is None:
                replica.asked_at = now
                replica.save(self.store)
                self._try(replica, partial(self.host.stop, replica, force=False))
            elif now >= replica.asked_at + replica.plan.stop_seconds:
                self._try(replica, partial(self.host.stop, replica, force=True))

    def _forget(self, replica: Replica) -> None:
        self.host.forget(replica)
        shutil.rmtree(replica.home(self.store), ignore_errors=True)
        del self._replicas[replica.name]

    def _try(self, replica: Replica, do: Callable[[], None]) -> None:
        """What fails now is tried again at the next tick."""
        try:
            do()
        except HostFault as fault:
            log.warning("Replica %s: %s", replica.name, fault)

    def _probe(self, replica: Replica, now: float) -> None:
        """Ready without a probe; else by its answers in a row."""
        rule = replica.plan.probe
        if rule is None:
            if replica.ready_since is None:
                replica.ready_since = now
                replica.save(self.store)
            return
        if replica.probing is not None:
            if replica.probing.done():
                self._note_probe(replica, rule, replica.probing.result(), now)
                replica.probing = None
            return
        if now >= replica.next_probe_at and not replica.ending:
            replica.next_probe_at = now + rule.period_seconds
            where = self.host.address(replica, rule.port)
            if where is not None:
                replica.probing = self._pool.submit(probe, rule, *where)

    def _note_probe(self, replica: Replica, rule: Probe, error: str, now: float) -> None:
        if error:
            replica.successes, replica.failures = 0, replica.failures + 1
        else:
            replica.successes, replica.failures = replica.successes + 1, 0
        replica.probe_error = error
        was_ready = replica.ready_since is not None
        if not was_ready and replica.successes >= rule.success_threshold:
            replica.ready_since = now
        elif was_ready and replica.failures >= rule.failure_threshold:
            replica.ready_since = None
        if was_ready != (replica.ready_since is not None):
            replica.save(self.store)

    # -- one service ----------------------------------------------------------------------------------

    def _converge(self, ref: str, key: str, plan: ServicePlan | None, now: float) -> None:
        mine = [each for each in self._replicas.values() if each.ref == ref and each.plan.id == key]
        if plan is None:
            for replica in mine:
                self._end(replica, now)
            return
        decision = decide(plan, mine, lambda replica: is_available(replica, plan, now))
        for replica in decision.end:
            self._end(replica, now)
        for _ in range(decision.start):
            replica = Replica.new(ref, plan, now)
            self._replicas[replica.name] = replica
            replica.save(self.store)

    def _end(self, replica: Replica, now: float) -> None:
        """Off the routes at once; asked to end when requests under way have had their time."""
        if replica.ending:
            return
        drains = replica.ready and replica.plan.port is not None
        replica.ending_at = now + (replica.plan.drain_seconds if drains else 0)
        replica.save(self.store)

    # -- what is said ---------------------------------------------------------------------------------

    def _report(self, now: float) -> None:
        changed = self._reporter.report(self._orders, list(self._replicas.values()), now)
        for ref, order in list(self._orders.items()):
            if order.removed and not any(each.ref == ref for each in self._replicas.values()):
                self.store.forget(ref)
                changed.append(ref)
        if changed:
            self._changed(changed)

    def _cut_logs(self) -> None:
        """A log that has grown large is put aside; who writes it appends, so it goes on in the same file."""
        for replica in self._replicas.values():
            path = replica.home(self.store) / "log"
            try:
                if path.stat().st_size > LOG_BYTES:
                    with path.open("r+b") as file:
                        file.seek(-LOG_BYTES, os.SEEK_END)
                        path.with_suffix(".1").write_bytes(file.read(LOG_BYTES))
                        file.truncate(0)
            except OSError:
                continue
