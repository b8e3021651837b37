"""BOS v1's writes to the status of a session: what its agents told it, told to our rows (contracts, BOS 1.4).

The rows are those that the engine works on, so a node that is said to have succeeded goes on to its next
phase, and one that is said to have failed is not switched any more.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.utils import timezone

from events_app.services import recording, wake
from sessions_app import endings, services, setup, steps, work
from sessions_app.flow import Move
from sessions_app.locks import lock_ownership
from sessions_app.models import BootSession, BootSet, BosOptions, Node, NodePhase, Phase
from sessions_app.services import Refused
from sessions_app.services_bos import moment
from sessions_app.states import CATEGORY_MOVES, Category


def delete_status(*, session_id: int, boot_set: str = "") -> None:
    """Hide the status of a session, or of one of its boot sets, from v1; the rows stay."""
    if boot_set:
        BootSet.objects.filter(session_id=session_id, name=boot_set).update(status_deleted=True)
    else:
        BootSession.objects.filter(pk=session_id).update(status_deleted=True)


def create_status(*, session_id: int, boot_set: str = "") -> bool:
    """Show again a status that was deleted; False where it was not."""
    if boot_set:
        rows: Any = BootSet.objects.filter(session_id=session_id, name=boot_set)
    else:
        rows = BootSession.objects.filter(pk=session_id)
    return bool(rows.filter(status_deleted=True).update(status_deleted=False))


def update_boot_set(*, session_id: int, boot_set: str, updates: list[dict[str, Any]], actor: Any) -> None:
    """Apply an agent's updates in their order, all or none.

    Raises Refused for a phase that the session does not have, for nodes that are not in it, and for moves
    that a node can't make (of the original's faults: strangers appear, and a node is in two categories).
    """
    with recording():
        lock_ownership()  # one may become a retry
        session = BootSession.objects.get(pk=session_id)
        found = BootSet.objects.get(session=session, name=boot_set)
        rows = NodePhase.objects.filter(phase__boot_set=found).select_for_update(of=("self",)).order_by("id")
        list(rows.values_list("id", flat=True))  # all at once: a worker may hold those of the next update
        for update in updates:
            data = update["data"]
            if update["update_type"] == "GenericMetadata":
                _set_times(found, update["phase"].lower(), data)
                continue
            name = (data["phase"] if update["update_type"] == "NodeChangeList" else update["phase"]).lower()
            phase = _phase(found, name)
            if update["update_type"] == "NodeErrorsList":
                for message, nodes in data.items():
                    _note_errors(phase, message, nodes)
            elif data["source"].lower() != data["destination"].lower():
                _move(session, phase, data["destination"].lower(), data["node_list"], actor)
    wake(steps.advance_nodes)


def _phase(boot_set: BootSet, name: str) -> Phase:
    found = boot_set.phases.filter(name=name).first()
    if found is None:
        raise Refused(f"Boot set '{boot_set.name}' has no phase '{name}'.")
    return found


def _set_times(boot_set: BootSet, phase: str, data: dict[str, Any]) -> None:
    """Start and stop of a phase, or with no phase of the boot set; the last write wins."""
    fields = {"start_time": "started_at", "stop_time": "stopped_at"}
    values: dict[str, datetime] = {fields[name]: moment(data[name]) for name in fields if data.get(name)}
    if values:
        target: Any = _phase(boot_set, phase) if phase else boot_set
        type(target).objects.filter(pk=target.pk).update(**values)


def _rows(phase: Phase, names: Iterable[str]) -> list[dict[str, Any]]:
    """The named nodes' rows, locked. Raises Refused for a name that is not in the phase."""
    wanted = list(dict.fromkeys(name.strip().lower() for name in names))
    rows = NodePhase.objects.filter(phase=phase, node__name__in=wanted)
    found: list[Any] = list(
        rows.select_for_update(of=("self",)).order_by("id").values("id", "category", "step", "node__name")
    )
    strangers = set(wanted) - {row["node__name"] for row in found}
    if strangers:
        raise Refused(f"Not in phase '{phase.name}': {', '.join(sorted(strangers)[:10])}.")
    return found


def _note_errors(phase: Phase, message: str, names: list[str]) -> None:
    ids = [row["id"] for row in _rows(phase, names)]
    NodePhase.objects.filter(id__in=ids).update(error=message)
    Node.objects.filter(phases__id__in=ids, session=phase.boot_set.session_id).update(error=message)


def _move(session: BootSession, phase: Phase, destination: str, names: list[str], actor: Any) -> None:
    rows = [row for row in _rows(phase, names) if row["category"] != destination]
    stuck = [row for row in rows if destination not in CATEGORY_MOVES[row["category"]]]
    if stuck:
        first = stuck[0]
        raise Refused(f"{first['node__name']} is {first['category']} and can't become {destination}.")
    unreached = [row for row in rows if row["category"] == Category.NOT_STARTED and not row["step"]]
    if unreached and destination != Category.EXCLUDED:
        raise Refused(f"{unreached[0]['node__name']} has not reached phase '{phase.name}' yet.")
    if not rows:
        return
    if destination == Category.NOT_STARTED:
        services.retry_failed(session=session, actor=actor, nodes=[row["node__name"] for row in rows])
    elif destination == Category.EXCLUDED:
        _exclude(session, rows, actor)
    else:
        _write(rows, destination)


def _exclude(session: BootSession, rows: list[dict[str, Any]], actor: Any) -> None:
    nodes = NodePhase.objects.filter(id__in=[row["id"] for row in rows]).values("node_id")
    mine = NodePhase.objects.of_session(session.pk).filter(node_id__in=nodes)
    why = f"Excluded by {getattr(actor, 'username', '')}."
    setup.exclude_rows(mine, why, timezone.now())
    Node.objects.filter(id__in=nodes, session=session).update(enabled=False)
    session.refresh_from_db(fields=["open_nodes", "status"])
    if session.open_nodes <= 0:
        endings.finish_session(session)


def _write(rows: list[dict[str, Any]], destination: str) -> None:
    """As a worker's result: the rows are claimed, so that what a worker is about to write is refused."""
    claim = random.getrandbits(62)
    NodePhase.objects.filter(id__in=[row["id"] for row in rows]).update(claim=claim)
    policy = BosOptions.current()["default_retry_policy"]
    by_step: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        by_step[row["step"]].append(row["id"])
    done = []
    for step, ids in by_step.items():
        going_on = destination == Category.IN_PROGRESS
        move = Move(destination, step if going_on else "", wait=0.0 if going_on and step else None)
        done += [work.Done(item, move) for item in work.read_claimed(ids, claim, policy)]
    work.write(done)
