"""Rows of work: claim what is due, write what came of it. Every statement serves many nodes.

Locks are always taken in the same order (rows of work by id, nodes, phases by id, sessions by id, the
event counter), so that workers, reports and set-ups can wait for each other but never in a circle.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from accounts_app import secrets
from events_app.services import recording
from sessions_app import endings, flow, reach
from sessions_app.configuration import is_on
from sessions_app.counts import Counts
from sessions_app.drivers.base import CLAIM_SECONDS, Action, BootSource, Patience, Power, Result, Target
from sessions_app.flow import Facts, Move
from sessions_app.models import BootSession, Node, NodePhase
from sessions_app.models.sessions import NodePhaseQuerySet
from sessions_app.states import (
    CONFIGURE_STEPS,
    FIRST_STEP,
    OFF_STEPS,
    OPEN,
    ByHand,
    Category,
    LastAction,
    PhaseName,
    SessionStatus,
    Step,
)

CLAIM = timedelta(seconds=CLAIM_SECONDS)


@dataclass(frozen=True, slots=True)
class Work:
    """A claimed row with what is needed to act on it and to write it."""

    id: int
    claim: int
    session_id: int
    phase_id: int
    following_id: int | None
    node_id: int
    node: str
    category: str
    error: str
    facts: Facts
    bmc: tuple[str, str, dict[str, Any], str] | None = field(repr=False)  # kind, address, settings, secret
    system: str
    bmc_known: reach.Known | None = None
    network_boot: bool = True

    def target(self, action: Action, key: int, patience: Patience) -> Target:
        """What the driver is asked, secrets decrypted; `key` comes back with the result."""
        _, address, values, secret = self.bmc or ("", "", {}, "")
        boot = None
        if action == Action.ON and self.network_boot:
            source, url = values.get("boot_source") or "Pxe", values.get("boot_url") or ""
            boot = BootSource(source, url, patience.boot)
        return Target(
            key=key,
            node=self.node,
            action=action,
            address=address,
            system=self.system,
            settings=values,
            secrets=secrets.decrypt(secret),
            boot=boot,
            seconds=patience.operation,
        )


QUICK = timedelta(seconds=10)
FIELDS = (
    "id",
    "session_id",
    "phase_id",
    "phase__following_id",
    "phase__name",
    "node_id",
    "node__name",
    "category",
    "step",
    "step_at",
    "attempts",
    "error",
    "node__desired_id",
    "node__actual_id",
    "node__desired_configuration",
    "node__actual_configuration",
    "node__retry_policy",
    "node__script_at",
    "node__last_action_at",
    "node__system",
    "node__bmc_id",
    "node__bmc__kind",
    "node__bmc__address",
    "node__bmc__settings",
    "node__bmc__secret",
    "node__bmc__reach",
    "node__bmc__last_error",
    "node__bmc__seen_at",
    "session__operation",
    "session__network_boot",
)


def claim_due(
    *, most: int, retry_policy: int, configuring: bool = False, hold: timedelta = CLAIM
) -> list[Work]:
    """Claim up to `most` rows that are due now, oldest first, for `hold`; return them with their facts.

    `configuring`: those that are to be configured; power has its own workers, which leave them alone.
    Two workers never get the same row: on PostgreSQL locked rows are skipped, SQLite's transactions follow
    one another.
    """
    now = timezone.now()
    rows = of_kind(NodePhase.objects.due(now), configuring=configuring)
    if not rows.exists():
        return []
    claim = random.getrandbits(62)
    until = now + hold
    with transaction.atomic():
        due = rows.order_by("due_at").select_for_update(skip_locked=True)
        ids = list(due.values_list("id", flat=True)[:most])
        NodePhase.objects.filter(id__among=ids).update(claim=claim, due_at=until, claimed_until=until)
    return read_claimed(ids, claim, retry_policy)


def of_kind(rows: NodePhaseQuerySet, *, configuring: bool) -> NodePhaseQuerySet:
    """Rows of the configure phase, or the others; all are the others' where nothing is ever configured."""
    if configuring:
        return rows.filter(step__in=CONFIGURE_STEPS)
    return rows.exclude(step__in=CONFIGURE_STEPS) if is_on() else rows


def read_claimed(ids: Sequence[int], claim: int, retry_policy: int) -> list[Work]:
    """Those of these rows that `claim` still holds, with their facts."""
    rows = NodePhase.objects.filter(claim=claim, id__among=ids).order_by("id").values(*FIELDS)
    return [_work(row, claim, retry_policy) for row in rows]


def _work(row: dict[str, Any], claim: int, retry_policy: int) -> Work:
    configuration = row["node__desired_configuration"]
    own_policy = row["node__retry_policy"]
    facts = Facts(
        phase=row["phase__name"],
        step=row["step"],
        step_at=row["step_at"],
        attempts=row["attempts"],
        booted=row["node__actual_id"] is not None and row["node__actual_id"] == row["node__desired_id"],
        reported=row["node__actual_id"] is not None,
        configuration=configuration,
        configured=_is_configured(configuration, row["node__actual_configuration"]),
        retry_policy=_tries(row["session__operation"], retry_policy if own_policy is None else own_policy),
        operation=row["session__operation"],
        fetched=_is_fetched(row["node__script_at"], row["node__last_action_at"]),
    )
    bmc, known = None, None
    if row["node__bmc_id"] is not None:
        bmc = (
            row["node__bmc__kind"],
            row["node__bmc__address"],
            row["node__bmc__settings"],
            row["node__bmc__secret"],
        )
        known = reach.Known(
            row["node__bmc_id"],
            row["node__bmc__reach"],
            row["node__bmc__last_error"],
            row["node__bmc__seen_at"],
        )
    return Work(
        id=row["id"],
        claim=claim,
        session_id=row["session_id"],
        phase_id=row["phase_id"],
        following_id=row["phase__following_id"],
        node_id=row["node_id"],
        node=row["node__name"],
        category=row["category"],
        error=row["error"],
        facts=facts,
        bmc=bmc,
        system=row["node__system"],
        bmc_known=known,
        network_boot=row["session__network_boot"],
    )


def _tries(operation: str, policy: int) -> int:
    """How often a node is tried: who only looks wants to know now."""
    return 1 if operation == ByHand.LOOK else policy


def _is_configured(desired: str, actual: str) -> bool:
    return not is_on() or desired == actual


def _is_fetched(script_at: datetime | None, switched_at: datetime | None) -> bool:
    """A quick node has its script before it is written here that it was switched on."""
    if script_at is None or switched_at is None:
        return False
    return script_at > switched_at - QUICK


@dataclass(frozen=True, slots=True)
class Done:
    """A claimed row, where it goes, and what its BMC said (None where nobody was asked)."""

    work: Work
    move: Move
    result: Result | None = None

    @property
    def ends_node(self) -> bool:
        """Whether the session is over for this node."""
        if self.move.category == Category.SUCCEEDED:
            return self.work.following_id is None
        return self.move.category in {Category.FAILED, Category.EXCLUDED}


def write(done: Sequence[Done]) -> int:
    """Write where claimed rows go, with counters, nodes, sessions and events; return how many were written.

    A row whose claim was lost meanwhile (cancelled, taken over, lapsed and claimed by another) is left
    alone: whoever has it now decides.
    """
    with recording():
        now = timezone.now()
        done = _still_held(done)
        if not done:
            return 0
        counts = Counts()
        for moved in _grouped(done, _row_key):
            _move_rows(moved, now, counts)
        _catch_early_reports(done, now)
        ended = [item for item in done if item.ends_node]
        ended += _go_on(done, now, counts)
        _update_nodes(done, {item.work.node_id for item in ended}, now)
        reach.learn(
            [(item.work.bmc_known, item.result) for item in done if item.work.bmc_known and item.result], now
        )
        counts.write(now)
        _update_sessions(done, ended, now)
        counts.tell()
        return len(done)


def _still_held(done: Sequence[Done]) -> list[Done]:
    held = dict(
        NodePhase.objects.filter(id__among=[item.work.id for item in done], category__in=OPEN)
        .select_for_update()
        .order_by("id")
        .values_list("id", "claim")
    )
    return [item for item in done if held.get(item.work.id) == item.work.claim]


def _grouped(done: Iterable[Done], key: Any) -> Iterator[list[Done]]:
    groups: dict[Any, list[Done]] = defaultdict(list)
    for item in done:
        groups[key(item)].append(item)
    yield from groups.values()


def _row_key(item: Done) -> tuple[Any, ...]:
    work = item.work
    return item.move, work.category, item.move.step != work.facts.step


def _move_rows(items: list[Done], now: datetime, counts: Counts) -> None:
    """One statement for all rows that go the same way."""
    move, category = items[0].move, items[0].work.category
    values: dict[str, Any] = {
        "step": move.step,
        "due_at": None if move.wait is None else now + timedelta(seconds=move.wait),
        "claim": None,
        "claimed_until": None,
        "error": move.error,
    }
    if move.step != items[0].work.facts.step:
        values["step_at"] = now
    if move.tried:
        values["attempts"] = F("attempts") + 1
    if category == Category.NOT_STARTED:
        values["started_at"] = now
    if move.category not in OPEN:
        values["stopped_at"] = now
    NodePhase.objects.filter(id__among=[item.work.id for item in items]).move(move.category, **values)
    for item in items:
        work = item.work
        counts.moved(work.session_id, work.phase_id, category, move.category, [work.node])
        if item.work.facts.phase == PhaseName.BOOT:
            was, now_off = item.work.facts.step in OFF_STEPS, move.step in OFF_STEPS
            counts.turning(item.work.phase_id, int(now_off) - int(was))


def _catch_early_reports(done: Sequence[Done], now: datetime) -> None:
    """A report that came while the row was claimed could not wake it: look for it now.

    The report takes the row's lock before it writes the node, so here it is either visible or will find
    the row unclaimed.
    """
    waiting = [item.work.id for item in done if item.move.step == Step.AWAIT_REPORT]
    if waiting:
        NodePhase.objects.filter(id__among=waiting, node__actual__isnull=False).update(due_at=now)


def _go_on(done: Sequence[Done], now: datetime, counts: Counts) -> list[Done]:
    """Nodes that succeeded enter their next phase; return those for which that was all there was to do."""
    ended = []
    succeeded = [item for item in done if item.move.category == Category.SUCCEEDED]
    for items in _grouped(succeeded, lambda item: (item.work.following_id, _nothing_to_configure(item))):
        following = items[0].work.following_id
        if following is None:
            continue
        rows = NodePhase.objects.filter(
            phase_id=following, node_id__among=[item.work.node_id for item in items]
        )
        if _nothing_to_configure(items[0]):
            rows.move(Category.SUCCEEDED, started_at=now, stopped_at=now)
            nodes = [item.work.node for item in items]
            session_id = items[0].work.session_id
            counts.moved(session_id, following, Category.NOT_STARTED, Category.SUCCEEDED, nodes)
            ended += items
        else:
            name = PhaseName.BOOT if items[0].work.facts.phase == PhaseName.SHUTDOWN else PhaseName.CONFIGURE
            rows.update(step=FIRST_STEP[name], step_at=now, due_at=now)
    return ended


def _nothing_to_configure(item: Done) -> bool:
    """Whether the next phase is `configure` and has nothing to apply."""
    facts = item.work.facts
    return facts.phase == PhaseName.BOOT and (not facts.configuration or facts.configured)


ACTION_WORDS = {
    Step.POWER_OFF: (LastAction.POWERING_OFF_GRACEFULLY, "power_off_graceful_attempts"),
    Step.FORCE_OFF: (LastAction.POWERING_OFF_FORCEFULLY, "power_off_forceful_attempts"),
    Step.POWER_ON: (LastAction.POWERING_ON, "power_on_attempts"),
}


def _update_nodes(done: Sequence[Done], ended: set[int], now: datetime) -> None:
    """What the nodes' own rows say: power, last action, error, end. One statement for equal changes."""

    def key(item: Done) -> tuple[Any, ...]:
        result, move, step = item.result, item.move, item.work.facts.step
        power = result.power if result and result.begun and result.power != Power.UNKNOWN else None
        acted = step if step in ACTION_WORDS and result is not None and result.begun else ""
        by_hand = item.work.facts.phase == PhaseName.POWER
        # What BOS knows of a node is written by its sessions; what is done by hand leaves it as it is.
        over = move.category if item.work.node_id in ended and not by_hand else ""
        said = move.error if (move.error != item.work.error or over) and not by_hand else None
        failed = acted and not (result and result.ok)
        return power, acted, failed, _went_off(item), over, said, by_hand, _lit(item)

    discovered = []
    for items in _grouped(done, key):
        power, acted, action_failed, went_off, over, said, by_hand, lit = key(items[0])
        values: dict[str, Any] = {}
        if power is not None:
            values |= {"power_state": power.value, "power_at": now}
        if acted:
            word, counter = ACTION_WORDS[Step(acted)]
            values |= {"last_action": word, "last_action_at": now, "last_action_failed": action_failed}
            if not by_hand:
                values[counter] = F(counter) + 1
        if lit is not None:
            values["located"] = lit
        if went_off:
            values |= {"actual": None, "actual_at": None, "actual_configuration": ""}
        if over:
            values |= {"enabled": False, "failed": over == Category.FAILED}
        if over == Category.SUCCEEDED:
            values |= dict.fromkeys((counter for _, counter in ACTION_WORDS.values()), 0)
        if said is not None:
            values["error"] = said
        if values:
            Node.objects.filter(id__among=[item.work.node_id for item in items]).update(**values)
        discovered += [
            Node(id=item.work.node_id, system=item.result.system)
            for item in items
            if item.result and item.result.system and item.result.system != item.work.system
        ]
    if discovered:
        Node.objects.bulk_update(discovered, ["system"])


def _lit(item: Done) -> bool | None:
    """Whether the locate LED is lit, where this answer tells."""
    if item.result is None or not item.result.ok:
        return None
    if item.work.facts.step == Step.LOCATE:
        return item.work.facts.operation == ByHand.LOCATE
    return item.result.lit


def _went_off(item: Done) -> bool:
    """Whether the node is known to be off now: what it ran, it runs no more (contracts, BOS 4.4)."""
    if item.work.facts.operation in (ByHand.SOFT, ByHand.OFF):
        return item.move.category == Category.SUCCEEDED
    if item.work.facts.operation == ByHand.LOOK:
        return item.result is not None and item.result.ok and item.result.power == Power.OFF
    if item.move.step == Step.POWER_ON and item.work.facts.step != Step.POWER_ON:
        return item.work.facts.step != Step.AWAIT_ON
    return item.work.facts.phase == PhaseName.SHUTDOWN and item.move.category == Category.SUCCEEDED


def _update_sessions(done: Sequence[Done], ended: list[Done], now: datetime) -> None:
    acting = {
        item.work.session_id
        for item in done
        if item.work.facts.step in ACTION_WORDS and item.result is not None and item.result.begun
    }
    endings.note_first_action(acting, now)
    finished: dict[int, int] = defaultdict(int)
    for item in ended:
        finished[item.work.session_id] += 1
    for session_id in sorted(finished):
        BootSession.objects.filter(id=session_id).update(open_nodes=F("open_nodes") - finished[session_id])
    booting = {item.work.session_id for item in done if item.move.category not in OPEN}
    for session in BootSession.objects.filter(id__in=booting, status=SessionStatus.RUNNING).order_by("id"):
        endings.note_booted(session, now)
        if session.open_nodes <= 0:
            endings.finish_session(session)


def next_move(work: Work) -> Action | Move:
    """What a claimed row needs: a request to its BMC, or a move that needs none."""
    needed = flow.before(work.facts)
    if isinstance(needed, Move) or work.bmc is not None:
        return needed
    return Move(Category.FAILED, Step.NONE, error="The node has no BMC on record.")
