"""Staged sessions: they change nothing until they are applied, node by node (contracts, BOS 2.5)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import F
from django.utils import timezone

from events_app.services import recording, wake
from sessions_app import setup, steps
from sessions_app.counts import chunks
from sessions_app.locks import lock_ownership
from sessions_app.models import BootArtifacts, BootSession, BosOptions, Node, NodePhase
from sessions_app.states import Category, LastAction, Operation, SessionStatus


@dataclass
class Applied:
    """What became of each name that was asked for."""

    succeeded: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


def apply_staged(*, names: Iterable[str], nodes: Any, actor: Any) -> Applied:
    """Start the staged sessions of these nodes, for these nodes only.

    `nodes` is the queryset of those that may be acted on. A name is ignored that is none of them, or has no
    staged session that still waits for it; failed, with the reason on the node, where the staged artifacts
    don't fit the session's operation.
    """
    names = list(dict.fromkeys(names))
    applied = Applied()
    with recording():
        lock_ownership()
        now = timezone.now()
        by_name = _staged_nodes(nodes, names)
        begun: dict[int, list[Node]] = defaultdict(list)
        for name in names:
            node = by_name.get(name.lower())
            if node is None:
                applied.ignored.append(name)
            elif complaint := _complaint(node):
                Node.objects.filter(pk=node.pk).update(error=complaint, enabled=False)
                applied.failed.append(name)
            else:
                begun[node.staged_session_id or 0].append(node)
                applied.succeeded.append(name)
        for session_id in sorted(begun):
            _begin(session_id, begun[session_id], now)
    wake(steps.advance_nodes)
    return applied


def waiting_rows(**where: Any) -> Any:
    """Rows of the first phase of staged sessions whose nodes were not applied yet."""
    return NodePhase.objects.filter(
        session__stage=True,
        session__status=SessionStatus.RUNNING,
        phase__position=0,
        category=Category.NOT_STARTED,
        step="",
        **where,
    )


def _staged_nodes(nodes: Any, names: list[str]) -> dict[str, Node]:
    """Nodes that wait for their staged session, their rows locked: of two calls at once one applies."""
    staged = nodes.filter(name__in=[name.lower() for name in names], staged_session__isnull=False)
    owners = dict(staged.values_list("id", "staged_session_id"))
    ids: list[int] = []
    for part in chunks(owners):
        held = waiting_rows(node_id__in=part).select_for_update(of=("self",)).order_by("id")
        pairs = held.values_list("node_id", "session_id")
        ids += [node_id for node_id, session_id in pairs if owners[node_id] == session_id]
    found: dict[str, Node] = {}
    for part in chunks(ids):
        for node in Node.objects.select_related("staged", "staged_session").filter(id__in=part):
            found[node.name] = node
    return found


def _complaint(node: Node) -> str:
    """Why the staged state can't be applied; "" where it can."""
    assert node.staged_session is not None  # noqa: S101  (it is what made the node a candidate)
    operation, staged = node.staged_session.operation, node.staged
    if operation == Operation.SHUTDOWN:
        return "Staged operation is shutdown but boot artifacts are staged." if staged else ""
    if operation == Operation.CONFIGURE or _is_whole(staged):
        return ""
    return f"Staged operation is {operation} but some boot artifacts are not staged."


def _is_whole(staged: BootArtifacts | None) -> bool:
    return staged is not None and bool(staged.kernel and staged.initrd and staged.kernel_parameters)


def _begin(session_id: int, nodes: list[Node], now: datetime) -> None:
    session = BootSession.objects.select_related("domain").get(pk=session_id)
    ids = [node.pk for node in nodes]
    setup.take_over(ids, session, now)
    for boot_set in session.boot_sets.all():
        members = NodePhase.objects.filter(phase__boot_set=boot_set, phase__position=0)
        for part in chunks(ids):
            own = list(members.filter(node_id__in=part).values_list("node_id", flat=True))
            setup.own(session, boot_set, own, now)
    values: dict[str, Any] = {"last_action": LastAction.APPLY_STAGED}
    if session.operation != Operation.CONFIGURE:
        values["desired"] = F("staged")
    values["desired_configuration"] = F("staged_configuration")
    for part in chunks(ids):
        Node.objects.filter(id__in=part).update(**values)
    if BosOptions.current()["clear_stage"]:
        clear(ids)


def clear(node_ids: Iterable[int]) -> None:
    """Empty what is staged for these nodes."""
    for part in chunks(node_ids):
        Node.objects.filter(id__in=part).update(
            staged=None, staged_configuration="", staged_session=None, staged_at=None
        )
