"""How sessions get on and end: first action, booted, over; and those that can't go on by themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import Exists, F, OuterRef, Sum
from django.utils import timezone

from events_app.models import InvalidTransition
from events_app.services import finish_background_task, record_event, recording, report_progress
from events_app.states import BackgroundTaskStatus
from sessions_app.counts import Counts, chunks
from sessions_app.locks import lock_ownership
from sessions_app.models import BootSession, NodePhase, Phase
from sessions_app.nodeset import fold
from sessions_app.states import Category, PhaseName, SessionResult, SessionStatus, Step

_acted: set[int] = set()  # sessions of which this process knows that the first action is noted


def note_first_action(session_ids: set[int], now: datetime) -> None:
    """session_creating at a session's first power action, once."""
    for session_id in sorted(session_ids - _acted):
        if BootSession.objects.filter(id=session_id, acted_at=None).update(acted_at=now):
            record_event(**BootSession.objects.get(id=session_id).event("session_creating"))
        if len(_acted) > 10_000:
            _acted.clear()
        _acted.add(session_id)


def note_booted(session: BootSession, now: datetime) -> None:
    """session_started when every boot set has booted what it could, once."""
    if session.booted_at is not None:
        return
    sums = Phase.objects.filter(boot_set__session=session).values("name")
    by_name = {
        row["name"]: row
        for row in sums.annotate(
            waiting=Sum("not_started"), working=Sum("in_progress"), lost=Sum("failed"), good=Sum("succeeded")
        )
    }
    boot = by_name.get(PhaseName.BOOT)
    if boot is None or not boot["good"]:
        return
    # Nodes that failed to shut down never reach the boot phase: nothing is waited for there.
    unreachable = by_name[PhaseName.SHUTDOWN]["lost"] if PhaseName.SHUTDOWN in by_name else 0
    if boot["waiting"] + boot["working"] > unreachable:
        return
    if BootSession.objects.filter(id=session.id, booted_at=None).update(booted_at=now):
        session.booted_at = now
        record_event(**session.event("session_started"))


def finish_session(session: BootSession, *, result: str = "", error: str = "") -> None:
    """End a session; by default its nodes' ends say how. Harmless where another process was first."""
    if not result:
        failed = Phase.objects.filter(boot_set__session=session).aggregate(n=Sum("failed"))["n"] or 0
        result = SessionResult.FAILED if failed else SessionResult.SUCCEEDED
        if session.total_nodes and session.taken_over >= session.total_nodes:
            result = SessionResult.SUPERSEDED
    try:
        session.move_to(
            SessionStatus.COMPLETE, result=result, error=error or session.error, stopped_at=timezone.now()
        )
    except InvalidTransition:
        return
    finish_task_of(session, message=error)


def finish_task_of(session: BootSession, *, message: str = "") -> None:
    """End the session's progress bar as the session ended."""
    status = {
        SessionResult.SUCCEEDED: BackgroundTaskStatus.DONE,
        SessionResult.CANCELLED: BackgroundTaskStatus.CANCELLED,
    }.get(SessionResult(session.result), BackgroundTaskStatus.FAILED)
    if session.background_task_id:
        said = message or f"{session.title}: {SessionResult(session.result).label}."
        over = F("succeeded") + F("failed") + F("excluded")
        done = Phase.objects.filter(boot_set__session=session).aggregate(n=Sum(over))["n"]
        finish_background_task(
            session.background_task_id,
            status=status,
            message=said,
            result=_result_of(session),
            current=done or 0,
        )


ERRORS_TOLD = 20


def _result_of(session: BootSession) -> dict[str, Any]:
    """How many nodes succeeded, failed, were left out in the last phase they reached; the failed by error,
    folded."""
    last = Phase.objects.filter(boot_set__session=session, following=None)
    sums = last.aggregate(succeeded=Sum("succeeded"), excluded=Sum("excluded"))
    errors: dict[str, list[str]] = defaultdict(list)
    failed = NodePhase.objects.of_session(session.pk).filter(category=Category.FAILED)
    for error, node in failed.values_list("error", "node__name"):
        errors[error].append(node)
    worst = sorted(errors.items(), key=lambda item: -len(item[1]))[:ERRORS_TOLD]
    return {
        "session": str(session.uuid),
        "succeeded": sums["succeeded"] or 0,
        "failed": sum(len(nodes) for nodes in errors.values()),
        "left_out": sums["excluded"] or 0,
        "errors": [{"error": error, "count": len(nodes), "nodes": fold(nodes)} for error, nodes in worst],
    }


def tell_progress(session_ids: Iterable[int]) -> None:
    """Bring the background tasks of these sessions up to date."""
    sums = (
        Phase.objects.filter(boot_set__session_id__in=list(session_ids))
        .values("boot_set__session__background_task_id", "boot_set__session__by_hand")
        .annotate(
            done=Sum(F("succeeded") + F("failed") + F("excluded")),
            open=Sum(F("not_started") + F("in_progress")),
            lost=Sum("failed"),
        )
    )
    for row in sums:
        task_id = row["boot_set__session__background_task_id"]
        if task_id is None:
            continue
        total = row["done"] + row["open"]
        failed = f", {row['lost']} failed" if row["lost"] else ""
        what = "nodes" if row["boot_set__session__by_hand"] else "node phases"
        message = f"{row['done']} of {total} {what} over{failed}"
        report_progress(task_id, current=row["done"], total=total, message=message)


STUCK = "Nothing was due for this node any more, although it was not over. Retry it."


def sweep() -> int:
    """End what can't go on by itself, saying why; return how many sessions were touched.

    A running session without a due row either is over, and nobody noticed (its counters say so), or was
    interrupted in a way that should not happen: its nodes fail with a reason instead of waiting for ever.
    """
    now = timezone.now()
    due = NodePhase.objects.filter(session=OuterRef("pk"), due_at__isnull=False)
    stuck = BootSession.objects.filter(status=SessionStatus.RUNNING, stage=False).filter(~Exists(due))
    touched = 0
    for session in stuck.select_related("domain"):
        with recording():
            lock_ownership()
            session = BootSession.objects.select_for_update(of=("self",)).get(pk=session.pk)
            if (
                session.status != SessionStatus.RUNNING
                or session.node_phases.filter(due_at__isnull=False).exists()
            ):
                continue
            fail_stuck_rows(session, now)
            finish_session(session)
            touched += 1
    return touched


def fail_stuck_rows(session: BootSession, now: datetime) -> None:
    """Fail the open rows of nodes that have not failed before, in the phase that they had reached."""
    rows = session.node_phases.unfinished().order_by("phase__position")
    reached: dict[int, Any] = {}
    for row in rows.values("id", "phase_id", "node_id", "node__name", "category"):
        reached.setdefault(row["node_id"], row)
    counts = Counts()
    for found in reached.values():
        counts.moved(session.pk, found["phase_id"], found["category"], Category.FAILED, [found["node__name"]])
    for ids in chunks(found["id"] for found in reached.values()):
        NodePhase.objects.filter(id__among=ids).move(
            Category.FAILED, step=Step.NONE, error=STUCK, stopped_at=now
        )
    counts.write(now)
    counts.tell()
    BootSession.objects.filter(pk=session.pk).update(open_nodes=0)
