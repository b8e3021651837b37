"""The configure phase: nodes of the same configuration go through the driver together, in a thread of the
runner's. A claim is held for as long as the driver works and renewed; a worker that dies loses it.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from events_app.services import recording
from sessions_app import flow, work
from sessions_app.configuration import get_driver, is_on
from sessions_app.configuration.base import Outcome
from sessions_app.flow import Move
from sessions_app.models import BosOptions, Node, NodePhase
from sessions_app.states import OPEN, Category, Step
from sessions_app.work import Done, Work

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=30)
_places = threading.BoundedSemaphore(settings.MUSTER_CONFIGURATION_RUNS)


def run() -> int:
    """Configure what is due, one batch; return how many nodes that were. At most
    MUSTER_CONFIGURATION_RUNS batches at a time in a process: the others wait for the next tick."""
    if not is_on() or not _places.acquire(blocking=False):
        return 0
    try:
        options = BosOptions.current()
        most = settings.MUSTER_CONFIGURATION_BATCH
        policy = options["default_retry_policy"]
        claimed = work.claim_due(most=most, retry_policy=policy, configuring=True, hold=LEASE)
        if not claimed:
            return 0
        for configuration, items in _by_configuration(claimed).items():
            _apply(configuration, items, options["cfs_read_timeout"])
        return len(claimed)
    finally:
        _places.release()


def _by_configuration(items: list[Work]) -> dict[str, list[Work]]:
    found: dict[str, list[Work]] = defaultdict(list)
    for item in items:
        done = item.facts.configured or not item.facts.configuration
        found["" if done else item.facts.configuration].append(item)
    return found


def _apply(configuration: str, items: list[Work], read_seconds: float) -> None:
    if not configuration:
        work.write([Done(item, flow.SUCCEEDED) for item in items])
        return
    items = _begin(items)
    if not items:
        return
    names = [item.node for item in items]
    try:
        driver = get_driver()
        driver.read_seconds = read_seconds
        outcomes = driver.apply(configuration, names, wanted=lambda: _renew(items))
    except Exception:
        log.exception("Configuration %s failed", configuration)
        outcomes = dict.fromkeys(names, Outcome("The configuration could not be run; the log says why."))
    _write(configuration, items, outcomes)


def _begin(items: list[Work]) -> list[Work]:
    """Show the nodes as in progress and hold them; those that were left out meanwhile are not begun."""
    begun = Move(Category.IN_PROGRESS, Step.AWAIT_CONFIGURED, wait=LEASE.total_seconds())
    work.write([Done(item, begun) for item in items])
    ids, claim = [item.id for item in items], items[0].claim
    until = timezone.now() + LEASE
    rows = NodePhase.objects.filter(id__in=ids, step=Step.AWAIT_CONFIGURED, category__in=OPEN, claim=None)
    rows.update(claim=claim, due_at=until, claimed_until=until)
    return work.read_claimed(ids, claim, items[0].facts.retry_policy)


def _renew(items: list[Work]) -> bool:
    """Hold the rows for another while; False where none is ours any more."""
    until = timezone.now() + LEASE
    rows = NodePhase.objects.filter(
        id__in=[item.id for item in items], claim=items[0].claim, category__in=OPEN
    )
    return bool(rows.update(due_at=until, claimed_until=until))


def _write(configuration: str, items: list[Work], outcomes: dict[str, Outcome]) -> None:
    with recording():
        good = [item.node_id for item in items if (said := outcomes.get(item.node)) and said.ok]
        done = [Done(item, _move(item, outcomes.get(item.node))) for item in items]
        work.write(done)
        held = NodePhase.objects.filter(
            id__in=[item.id for item in items], node_id__in=good, category=Category.SUCCEEDED
        )
        Node.objects.filter(id__in=held.values("node_id"), desired_configuration=configuration).update(
            actual_configuration=configuration
        )


def _move(item: Work, outcome: Outcome | None) -> Move:
    if outcome is None:
        return Move(Category.IN_PROGRESS, Step.CONFIGURE, wait=1.0)
    if outcome.ok:
        return flow.SUCCEEDED
    tries = item.facts.attempts + 1
    if 0 <= item.facts.retry_policy <= tries:
        return Move(Category.FAILED, Step.NONE, error=outcome.error)
    wait = flow.retry_after(tries)
    return Move(Category.IN_PROGRESS, Step.CONFIGURE, wait=wait, error=outcome.error, tried=True)
