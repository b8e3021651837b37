"""Give a pending session its nodes: the frozen set, its phases, the rows of work."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from django.db.models import F, Max
from django.utils import timezone

from events_app.services import record_event, recording, report_progress
from sessions_app import endings
from sessions_app.counts import Counts, chunks
from sessions_app.images import artifacts_of
from sessions_app.limit import LimitError
from sessions_app.locks import lock_ownership
from sessions_app.models import (
    BootArtifacts,
    BootSession,
    BootSet,
    BosOptions,
    Node,
    NodePhase,
    Phase,
)
from sessions_app.models.sessions import NodePhaseQuerySet
from sessions_app.reading import TooSlow
from sessions_app.states import (
    FIRST_STEP,
    OFF_STEPS,
    PHASES,
    SWITCHING,
    Category,
    LastAction,
    Operation,
    PhaseName,
    SessionResult,
    SessionStatus,
    Step,
)
from sessions_app.targets import Candidate, Chosen, choose

NO_NODES = "No nodes were found to act upon."  # the original's words (contracts, BOS 4.3)


def set_up_session(session_id: int, fault: str = "") -> bool:
    """Bring a pending session to running, in one transaction; False where it was not pending any more. With
    a `fault` of its image it ends instead.

    A worker killed in the middle leaves nothing behind; the next tick begins again.
    """
    with recording():
        lock_ownership()
        session = (
            BootSession.objects.select_for_update(of=("self",))
            .select_related("domain", "template")
            .filter(id=session_id, status=SessionStatus.PENDING)
            .first()
        )
        if session is None:
            return False
        if session.template is None:
            why = f"Session template '{session.template_name}' was deleted before the session began."
            endings.finish_session(session, result=SessionResult.ERROR, error=why)
            return True
        if fault:
            endings.finish_session(session, result=SessionResult.ERROR, error=fault)
            return True
        try:
            chosen = choose(
                session.template.boot_sets,
                limit=session.limit,
                include_disabled=session.include_disabled,
                domain=session.domain,
            )
        except (LimitError, TooSlow) as error:
            endings.finish_session(session, result=SessionResult.ERROR, error=str(error))
            return True
        if not chosen.count:
            endings.finish_session(session, result=SessionResult.ERROR, error=NO_NODES)
            return True
        _begin(session, chosen)
        return True


def _begin(session: BootSession, chosen: Chosen) -> None:
    now = timezone.now()
    options = BosOptions.current()
    nodes = [node for boot_set in chosen.boot_sets.values() for node in boot_set]
    if not session.stage:
        take_over([node.id for node in nodes], session, now)
    sets = []
    for position, (name, members) in enumerate(chosen.boot_sets.items()):
        assert session.template is not None  # noqa: S101  (checked by the caller)
        document = session.template.boot_sets[name]
        artifacts = None
        if session.operation != Operation.SHUTDOWN:
            artifacts = artifacts_of(document, actual_state_ttl=options["component_actual_state_ttl"])
        boot_set = BootSet.objects.create(
            session=session,
            name=name,
            position=position,
            artifacts=artifacts,
            configuration=session.template.configuration_of(document)
            if session.operation != Operation.SHUTDOWN
            else "",
            node_count=len(members),
            started_at=now,
        )
        sets.append((boot_set, members))
        _make_phases(session, boot_set, members, now)
    session.move_to(
        SessionStatus.RUNNING,
        total_nodes=len(nodes),
        open_nodes=len(nodes),
        components=",".join(node.name for node in nodes),
    )
    record_event(**session.event("session_pulling"))
    for boot_set, members in sets:
        ids = [node.id for node in members]
        if session.stage:
            _stage(session, boot_set, ids, now)
        else:
            own(session, boot_set, ids, now)
    if session.background_task_id:
        total = len(nodes) * len(PHASES[session.operation])
        report_progress(session.background_task_id, current=0, total=total, message="Nodes are resolved")


def _make_phases(session: BootSession, boot_set: BootSet, members: list[Candidate], now: datetime) -> None:
    """Phases from last to first, each pointing at the one that follows; a row for each node in each."""
    following: Phase | None = None
    for position, name in reversed(list(enumerate(PHASES[session.operation]))):
        following = Phase.objects.create(
            boot_set=boot_set,
            name=name,
            position=position,
            following=following,
            not_started=len(members),
            started_at=now,
        )
        NodePhase.objects.bulk_create(
            [NodePhase(session=session, phase=following, node_id=node.id) for node in members],
            batch_size=1000,
        )


def own(session: BootSession, boot_set: BootSet, node_ids: Iterable[int], now: datetime) -> None:
    """Write what these nodes should run, and make their first phase due.

    A node that another session's worker may still be talking to is due only when that worker's claim has
    lapsed: never two contradictory actions at the same time.
    """
    node_ids = list(node_ids)
    first = boot_set.phases.order_by("position").values("id", "name")[0]
    for ids in chunks(node_ids):
        _desire(session, boot_set, ids, now)
        rows = NodePhase.objects.filter(phase_id=first["id"], node_id__among=ids)
        rows.update(step=FIRST_STEP[first["name"]], step_at=now, due_at=now)
        wait_for_claims(rows, ids, now)


def wait_for_claims(rows: NodePhaseQuerySet, node_ids: list[int], now: datetime) -> None:
    """Make those of `rows` due later whose node another row's worker may still be talking to: when its claim
    has lapsed. `rows` are due now and not claimed."""
    busy = (
        NodePhase.objects.filter(node_id__among=node_ids, claimed_until__gt=now)
        .exclude(id__in=rows.filter(node_id__among=node_ids).values("id"))
        .values("node_id")
        .annotate(until=Max("claimed_until"))
    )
    for row in busy:
        rows.filter(node_id=row["node_id"]).update(due_at=row["until"])
    # Of sessions that were deleted while a worker was at it.
    held = Node.objects.filter(id__among=node_ids, busy_until__gt=now)
    for node_id, until in held.values_list("id", "busy_until"):
        rows.filter(node_id=node_id).update(due_at=until)


def _desire(session: BootSession, boot_set: BootSet, ids: list[int], now: datetime) -> None:
    values: dict[str, Any] = {
        "session": session,
        "enabled": True,
        "on_hold": False,
        "failed": False,
        "error": "",
        "desired_configuration": boot_set.configuration,
        "desired_at": now,
        "last_action": LastAction.SESSION_SETUP,
        "last_action_at": now,
        "last_action_failed": False,
        "power_on_attempts": 0,
        "power_off_graceful_attempts": 0,
        "power_off_forceful_attempts": 0,
    }
    if session.operation != Operation.CONFIGURE:
        values["desired"] = boot_set.artifacts
    if session.operation == Operation.CONFIGURE:
        values["actual_configuration"] = ""  # asked for by name: applied again
    if session.operation == Operation.REBOOT:
        values |= {"actual": None, "actual_at": None, "actual_configuration": ""}
    Node.objects.filter(id__among=ids).update(**values)


def _stage(session: BootSession, boot_set: BootSet, node_ids: list[int], now: datetime) -> None:
    """Keep for later what these nodes are to run; nothing is due until it is applied."""
    artifacts: BootArtifacts | None = boot_set.artifacts
    take_over(node_ids, session, now, staged=True)
    for ids in chunks(node_ids):
        Node.objects.filter(id__among=ids).update(
            staged=artifacts,
            staged_configuration=boot_set.configuration,
            staged_session=session,
            staged_at=now,
        )


def take_over(node_ids: Iterable[int], by: BootSession, now: datetime, *, staged: bool = False) -> None:
    """Take nodes from the sessions that work on them: they show there as excluded, with the reason.

    `staged`: from the staged sessions that they wait for, which would wait for ever otherwise.
    """
    lost: dict[int, int] = defaultdict(int)
    why = f"Taken over by {'action' if by.by_hand else 'session'} {by.name}."
    for rows in owned_rows(node_ids, "staged_session" if staged else "session", other_than=by.pk):
        for session_id, count in exclude_rows(rows, why, now).items():
            lost[session_id] += count
    for session_id in sorted(lost):
        BootSession.objects.filter(id=session_id).update(taken_over=F("taken_over") + lost[session_id])
        session = BootSession.objects.get(id=session_id)
        if session.open_nodes <= 0:
            endings.finish_session(session)


def owned_rows(
    node_ids: Iterable[int], owner: str = "session", *, other_than: int = 0, by_hand: bool = True
) -> Iterator[NodePhaseQuerySet]:
    """Open rows of these nodes in the running sessions that own them (`session`), or for which they wait
    (`staged_session`); in parts. With the former, those of actions that switch them by hand (`by_hand`)."""
    switching: list[int] = []
    if owner == "session" and by_hand:
        running = BootSession.objects.filter(by_hand=True, status=SessionStatus.RUNNING)
        running = running.filter(operation__in=SWITCHING).exclude(id=other_than)
        switching = list(running.values_list("id", flat=True))
    for ids in chunks(node_ids):
        if switching:
            yield NodePhase.objects.open().filter(node_id__among=ids, session_id__in=switching)
        rows = NodePhase.objects.open().exclude(session_id=other_than)
        rows = rows.filter(node_id__among=ids, session__status=SessionStatus.RUNNING)
        if owner == "staged_session":
            rows = rows.filter(session__stage=True).exclude(node__session=F("session"))
        yield rows.filter(**{f"node__{owner}": F("session")})


def held_nodes(node_ids: Iterable[int], *, other_than: int = 0) -> set[int]:
    """Those of these nodes that a running session, or an action by hand, is at work with."""
    held: set[int] = set()
    for rows in owned_rows(node_ids, other_than=other_than):
        held |= set(rows.unfinished().values_list("node_id", flat=True))
    return held


def exclude_rows(rows: NodePhaseQuerySet, reason: str, now: datetime) -> dict[int, int]:
    """Leave out the nodes of these rows that are not over; return how many by session.

    Nothing is due for them any more. `claim` and `claimed_until` stay, so that whoever takes a node over
    sees until when a worker may still be talking to it; that worker's own result is refused, for the row
    is no longer open.
    """
    ids = list(rows.unfinished().values_list("id", flat=True))
    found: list[dict[str, Any]] = []
    for part in chunks(ids):
        held = NodePhase.objects.filter(id__among=part).open().select_for_update().order_by("id")
        part = list(held.values_list("id", flat=True))
        found += NodePhase.objects.filter(id__among=part).values(*EXCLUDED_FIELDS)
        NodePhase.objects.filter(id__among=part).move(
            Category.EXCLUDED, step=Step.NONE, due_at=None, error=reason, stopped_at=now
        )
    counts = Counts()
    nodes: dict[int, set[int]] = defaultdict(set)
    for row in found:
        session_id, phase_id = row["session_id"], row["phase_id"]
        counts.moved(session_id, phase_id, row["category"], Category.EXCLUDED, [row["node__name"]])
        if row["phase__name"] == PhaseName.BOOT and row["step"] in OFF_STEPS:
            counts.turning(phase_id, -1)
        nodes[session_id].add(row["node_id"])
    counts.write(now)
    counts.tell()
    for session_id in sorted(nodes):
        BootSession.objects.filter(id=session_id).update(open_nodes=F("open_nodes") - len(nodes[session_id]))
    return {session_id: len(members) for session_id, members in nodes.items()}


EXCLUDED_FIELDS = ("session_id", "phase_id", "node_id", "node__name", "category", "phase__name", "step")
