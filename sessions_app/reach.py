"""Whether BMCs answer: learned from every action, and from a look at those that were not asked for a while.

A look also learns the power state of nodes that no session is at work with. It changes nothing on any node,
so it needs no claim that outlives it: a killed look costs one period of the option `discovery_frequency`.
"""

from __future__ import annotations

import atexit
import itertools
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from events_app.services import record_event, recording
from sessions_app.drivers.base import Action, Patience, Power, Reason, Result, Target
from sessions_app.drivers.runner import Pump
from sessions_app.models import Bmc, BosOptions, Node
from sessions_app.nodeset import fold
from sessions_app.states import Reach

AT_ONCE = 400  # BMCs that are looked at together; drivers bound how many they talk to at a time
STRETCH = 30.0  # seconds after which looking is left to the next tick
LOOK_SECONDS = 30.0  # a look may begin so late: nothing is switched by it
LEAST_PERIOD = 10.0  # seconds; how often the tick comes
NAMES_TOLD = 8
# Of these the BMC is not to blame, so they tell nothing of it.
OURS = frozenset({Reason.INTERNAL, Reason.SETTINGS})


@dataclass(frozen=True, slots=True)
class Known:
    """What was known of a BMC when it was asked."""

    id: int
    reach: str
    last_error: str
    seen_at: datetime | None


def period() -> float:
    """Seconds between two looks at a BMC: BOS's option `discovery_frequency`."""
    return max(float(BosOptions.current()["discovery_frequency"]), LEAST_PERIOD)


def _some(seconds: float) -> timedelta:
    """About so long: looks that once came together spread."""
    return timedelta(seconds=seconds * random.uniform(0.8, 1.2))  # noqa: S311  (no secret)


def reach_of(result: Result, before: str) -> str:
    """Whether the BMC answers, after this result. A refusal is an answer."""
    if result.reason in (Reason.UNREACHABLE, Reason.TIMED_OUT):
        return Reach.UNREACHABLE
    return before if result.reason in OURS else Reach.REACHABLE


def learn(answers: Iterable[tuple[Known | None, Result | None]], now: datetime) -> None:
    """Note what results tell of their BMCs; in the caller's transaction, with few statements.

    A BMC whose state is unchanged is written anew only when that is half a period old: in a session each is
    asked every few seconds.
    """
    last: dict[int, tuple[Known, Result]] = {}
    for known, result in answers:
        if known is not None and result is not None and result.begun and (known.id not in last or result.ok):
            last[known.id] = known, result
    every = period()
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    changed: dict[str, list[int]] = defaultdict(list)
    for known, result in last.values():
        reach, error = reach_of(result, known.reach), result.error[:255]
        fresh = known.seen_at is not None and (now - known.seen_at).total_seconds() < every / 2
        if (reach, error) == (known.reach, known.last_error) and (fresh or reach == Reach.UNREACHABLE):
            continue
        seen = reach == Reach.REACHABLE and result.reason not in OURS
        groups[reach, reach != known.reach, error, seen, _rounded(result.seconds)].append(known.id)
        # The first answer of a BMC is no news; that it never answered is.
        if reach != known.reach and Reach.UNREACHABLE in (reach, known.reach):
            changed[reach].append(known.id)
    ids = [pk for members in groups.values() for pk in members]
    # In one order everywhere: two workers that learn of the same BMCs must not wait for each other.
    list(Bmc.objects.filter(id__in=ids).select_for_update().order_by("id").values_list("id", flat=True))
    for (reach, is_new, error, seen, latency), members in groups.items():
        values: dict[str, Any] = {"reach": reach, "last_error": error}
        values["look_at"] = now + _some(every)
        if is_new:
            values["reach_since"] = now
        if seen:
            values |= {"seen_at": now, "latency": latency}
        Bmc.objects.filter(id__in=members).update(**values)
    for reach, members in changed.items():
        _tell(reach, members)


def _rounded(seconds: float | None) -> float | None:
    """To one digit of seconds or two of milliseconds: few distinct values, so that rows stay together."""
    if seconds is None:
        return None
    return round(seconds, 1) if seconds >= 0.3 else round(seconds, 2)


def _tell(reach: str, bmc_ids: list[int]) -> None:
    """One event for all BMCs of a domain's nodes that changed alike."""
    rows = Node.objects.filter(bmc_id__in=bmc_ids).values_list("bmc__name", "name", "domain__name")
    by_domain: dict[str, tuple[set[str], list[str]]] = defaultdict(lambda: (set(), []))
    for bmc, node, domain in rows:
        by_domain[domain or ""][0].add(bmc)
        by_domain[domain or ""][1].append(node)
    name = "bmc_unreachable" if reach == Reach.UNREACHABLE else "bmc_reachable"
    for domain, (bmcs, nodes) in sorted(by_domain.items()):
        record_event(
            name=name,
            area="node",
            subject_id=nodes[0] if len(nodes) == 1 else "",
            subject_name=fold(nodes, NAMES_TOLD)[:255],
            data={"bmcs": sorted(bmcs), "nodes": sorted(nodes)},
            domain=domain,
        )


# -- looks ----------------------------------------------------------------------------------------------

_looking = threading.Lock()
_keys = itertools.count(1)  # a look that ended by an error leaves results behind: no key is used twice


@cache
def _pump() -> Pump:
    """Looks have a pump of their own: whoever drains one gets every result of it."""
    made = Pump()
    atexit.register(made.close)
    return made


def look_around() -> int:
    """Look at the BMCs that are due, batch after batch; return how many were asked.

    One look at a time in a process: its pump has one consumer. Another process looks at others meanwhile.
    """
    if not _looking.acquire(blocking=False):
        return 0
    try:
        until, asked = time.monotonic() + STRETCH, 0
        while time.monotonic() < until and (ids := _claim()):
            _look(ids)
            asked += len(ids)
        return asked
    finally:
        _looking.release()


def look_soon(nodes: Any) -> int:
    """Make the BMCs of these nodes due for a look now; return how many."""
    return Bmc.objects.filter(nodes__in=nodes).update(look_at=timezone.now())


def _claim() -> list[int]:
    """Take BMCs whose look is due: by pushing their next one, so that nobody else takes them."""
    now = timezone.now()
    due = Bmc.objects.filter(look_at__lte=now)
    if not due.exists():
        return []
    with transaction.atomic():
        held = due.order_by("look_at").select_for_update(skip_locked=True)
        ids = list(held.values_list("id", flat=True)[:AT_ONCE])
        Bmc.objects.filter(id__in=ids).update(look_at=now + _some(period()))
    return ids


@dataclass(frozen=True, slots=True)
class _Asked:
    """A node that is looked at (none: a BMC without nodes), and its BMC."""

    known: Known
    node: dict[str, Any] | None


def _look(ids: list[int]) -> None:
    """Ask these BMCs for the power state of their nodes, and write what they say."""
    pump, began = _pump(), timezone.now()
    asked: dict[int, _Asked] = {}
    targets: dict[str, list[Target]] = defaultdict(list)
    for kind, target, one in _targets(ids):
        asked[target.key] = one
        targets[kind].append(target)
    for kind, batch in targets.items():
        pump.submit(kind, batch, begin_by=time.monotonic() + LOOK_SECONDS)
    while asked:
        results = pump.drain(wait=1.0)
        answers = [(asked.pop(result.key), result) for result in results if result.key in asked]
        if answers:
            _write(answers, began)


def _targets(ids: Sequence[int]) -> Iterator[tuple[str, Target, _Asked]]:
    """Kind of driver, what it is asked, of whom: for each node of these BMCs, or a BMC without nodes."""
    fields = ("id", "name", "bmc_id", "system", "power_state", "located", "domain__name")
    seconds = Patience.of(BosOptions.current()).operation
    nodes: dict[int, list[Any]] = defaultdict(list)
    for row in Node.objects.filter(bmc_id__in=ids).order_by("id").values(*fields):
        nodes[row["bmc_id"]].append(row)
    for bmc in Bmc.objects.filter(id__in=ids).order_by("id"):
        known = Known(bmc.pk, bmc.reach, bmc.last_error, bmc.seen_at)
        opened = bmc.secrets()
        for node in nodes.get(bmc.pk) or [None]:
            target = Target(
                key=next(_keys),
                node=node["name"] if node else bmc.name,
                action=Action.STATE,
                address=bmc.address,
                system=node["system"] if node else "",
                settings=bmc.settings,
                secrets=opened,
                seconds=seconds,
            )
            yield bmc.kind, target, _Asked(known, node)


def _write(answers: list[tuple[_Asked, Result]], began: datetime) -> None:
    """Reach of the BMCs; power and LED of nodes that nobody is at work with and nothing was learned of
    since the look began."""
    now = timezone.now()
    powers: dict[Power, list[int]] = defaultdict(list)
    lit: dict[bool, list[int]] = defaultdict(list)
    changed: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for one, result in answers:
        if one.node is None or not result.ok:
            continue
        if result.power != Power.UNKNOWN:
            powers[result.power].append(one.node["id"])
        if result.power.value not in (one.node["power_state"], Power.UNKNOWN):
            changed[one.node["domain__name"] or ""][result.power.value].append(one.node["name"])
        if result.lit is not None and result.lit != one.node["located"]:
            lit[result.lit].append(one.node["id"])
    with recording():
        for power, ids in powers.items():
            idle = Node.objects.filter(id__in=ids, enabled=False)
            idle = idle.filter(Q(power_at=None) | Q(power_at__lt=began))
            if power == Power.OFF:
                # What a node ran, it runs no more (as in work.py).
                ran = idle.filter(actual__isnull=False, actual_at__lt=began)
                ran.update(actual=None, actual_at=None, actual_configuration="")
            idle.update(power_state=power.value, power_at=now)
        for is_lit, ids in lit.items():
            Node.objects.filter(id__in=ids).update(located=is_lit)
        learn([(one.known, result) for one, result in answers], now)
        for domain, by_power in sorted(changed.items()):
            names = [name for members in by_power.values() for name in members]
            record_event(
                name="node_power_changed",
                area="node",
                subject_id=names[0] if len(names) == 1 else "",
                subject_name=fold(names, NAMES_TOLD)[:255],
                data={power: sorted(members) for power, members in by_power.items()},
                domain=domain,
            )
