"""What workers do for sessions. A message only says "look now"; what is due stands in the database."""

from __future__ import annotations

import itertools
import time
from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from events_app.services import note_seen, wake
from sessions_app import configuring, endings, flow, imagefaults, reach, setup, upkeep, work
from sessions_app.drivers.base import Patience, Result, Target
from sessions_app.drivers.runner import Pump, get_pump
from sessions_app.flow import Limits, Move
from sessions_app.models import BootSession, BosOptions, NodePhase
from sessions_app.states import SessionStatus
from sessions_app.work import Done, Work

IN_FLIGHT = 1000  # nodes that one process talks to at a time
WRITE_AT_ONCE = 1000  # results that are written by one set of statements
QUICK, BUSY = 0.2, 0.8  # seconds for which results are gathered: few nodes are told of at once
FEW, PACE = 100, 0.5  # fewer rows than that are not looked for more often than every so many seconds
TELL_EVERY = 1.0  # seconds between two updates of a progress bar
STRETCH = 30.0  # seconds after which a worker lets the queue's other messages have their turn
LINGER = 1.0  # seconds that a worker waits for rows that are about to be due
WAKE_EVERY = 0.2  # seconds; a thousand reports at once need no thousand messages

# A stretch that ended by an error leaves results behind: keys that are never used twice keep them apart.
_keys = itertools.count(1)
_noted_at = float("-inf")


@shared_task(ignore_result=True)
def advance_nodes() -> None:
    """Claim due rows, act on them, write what came of it, until nothing is due soon."""
    Advance(get_pump()).run()


class Advance:
    """One worker's stretch of work: keeps the pump full and writes its results as they come."""

    def __init__(self, pump: Pump) -> None:
        self.pump = pump
        self.claimed: dict[int, Work] = {}
        self.touched: set[int] = set()
        self.told_at = 0.0

    def run(self) -> None:
        """Until nothing is due soon, or the stretch is over; then the rest is left to the next message."""
        end = time.monotonic() + STRETCH
        while True:
            self._note()
            began = time.monotonic()
            options = BosOptions.current()
            taking = time.monotonic() < end
            moved = self._take(options) if taking else []
            moved += self._gather(Limits.of(options))
            if moved:
                work.write(moved)
                self.touched |= {item.work.session_id for item in moved}
            self._tell()
            if self.claimed:
                continue
            if not taking:
                self._tell(now=True)
                wake(advance_nodes)
                return
            if moved:
                self._pace(began, len(moved))
            elif not self._wait_for_due():
                self._tell(now=True)
                return

    def _pace(self, began: float, moved: int) -> None:
        """Let reports that come one by one gather: each look costs the same for one row and for a hundred."""
        if moved < FEW:
            time.sleep(max(began + PACE - time.monotonic(), 0.0))

    def _note(self) -> None:
        """Say that boot workers are at work, every two seconds: /readyz asks."""
        global _noted_at
        if time.monotonic() - _noted_at > 2.0:
            note_seen("worker")
            _noted_at = time.monotonic()

    def _take(self, options: dict[str, int]) -> list[Done]:
        """Claim what there is room for; start what needs a BMC, return what needs none."""
        most = options["max_component_batch_size"] or IN_FLIGHT
        room = min(IN_FLIGHT - len(self.claimed), most)
        if room < min(IN_FLIGHT // 4, most):
            return []
        done = []
        patience = Patience.of(options)
        begin_by, hold = time.monotonic() + patience.begin, timedelta(seconds=patience.claim)
        targets: dict[str, list[Target]] = {}
        for item in work.claim_due(most=room, retry_policy=options["default_retry_policy"], hold=hold):
            needed = work.next_move(item)
            if isinstance(needed, Move):
                done.append(Done(item, needed))
            elif item.bmc is not None:
                key = next(_keys)
                self.claimed[key] = item
                targets.setdefault(item.bmc[0], []).append(item.target(needed, key, patience))
        for kind, asked in targets.items():
            self.pump.submit(kind, asked, begin_by=begin_by)
        return done

    def _gather(self, limits: Limits) -> list[Done]:
        """Results that came in, each with the move that follows from it."""
        if not self.claimed:
            return []
        wait = QUICK if len(self.claimed) < 100 else BUSY
        results = self._drain(wait)
        now = timezone.now()
        done = []
        for result in results:
            item = self.claimed.pop(result.key, None)
            if item is not None:
                done.append(Done(item, flow.after(item.facts, result, now, limits), result))
        return done

    def _drain(self, wait: float) -> list[Result]:
        """Results of up to `wait` seconds, or WRITE_AT_ONCE of them, whichever comes first."""
        until = time.monotonic() + wait
        results: list[Result] = []
        while len(results) < min(WRITE_AT_ONCE, len(self.claimed)):
            left = until - time.monotonic()
            if left <= 0:
                break
            results += self.pump.drain(wait=left, most=WRITE_AT_ONCE - len(results))
        return results

    def _tell(self, *, now: bool = False) -> None:
        """Bring progress bars up to date."""
        if self.touched and (now or time.monotonic() - self.told_at > TELL_EVERY):
            endings.tell_progress(self.touched)
            self.touched.clear()
            self.told_at = time.monotonic()

    def _wait_for_due(self) -> bool:
        """Whether a row is due within LINGER; waits for it."""
        soon = (
            work.of_kind(NodePhase.objects.filter(due_at__isnull=False, claim=None), configuring=False)
            .order_by("due_at")
            .values_list("due_at", flat=True)
            .first()
        )
        if soon is None:
            return False
        wait = (soon - timezone.now()).total_seconds()
        if wait > LINGER:
            return False
        time.sleep(max(wait, 0.02))
        return True


@shared_task(ignore_result=True)
def start_pending() -> None:
    """Give pending sessions their nodes, oldest first."""
    found = BootSession.objects.filter(status=SessionStatus.PENDING).order_by("created_at")
    pending = list(found.select_related("template")[:20])
    # A server of images that does not answer must not keep those waiting who need nothing of it.
    asked = [session for session in pending if imagefaults.files_of(session)]
    begun = [setup.set_up_session(session.pk) for session in pending if session not in asked]
    if any(begun):
        wake(advance_nodes)
    faults = imagefaults.faults_of(asked) if asked else None
    if faults is None:
        return
    begun = [setup.set_up_session(session.pk, faults.get(session.pk, "")) for session in asked]
    if any(begun):
        wake(advance_nodes)


@shared_task(ignore_result=True)
def sweep() -> None:
    """Find what can't go on by itself and say why."""
    endings.sweep()


@shared_task(ignore_result=True)
def configure_nodes() -> None:
    """Apply configurations to the nodes that have booted, batch after batch."""
    while configuring.run():
        pass


@shared_task(ignore_result=True)
def look_at_bmcs() -> None:
    """Ask the BMCs that nobody has asked for a while whether they answer, and how their nodes are."""
    reach.look_around()


@shared_task(ignore_result=True)
def keep_up() -> None:
    """Delete old sessions, doubt old reports, as BOS's options say."""
    upkeep.run()


_woken_at = 0.0


def wake_workers() -> None:
    """Wake the workers after commit, at most once in WAKE_EVERY: what comes between, the running stretch or
    the next tick finds."""
    global _woken_at
    if time.monotonic() - _woken_at > WAKE_EVERY:
        _woken_at = time.monotonic()
        wake(advance_nodes)
