"""Nodes in a session: one with its phases, the slow and the failed on a timeline, what may be retried."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Max, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from events_app.models import LifecycleEvent
from sessions_app.looks import Look
from sessions_app.models import BootSession, Node, NodePhase
from sessions_app.models.nodes import natural
from sessions_app.nodeset import fold
from sessions_app.states import CATEGORY_LOOKS, OPEN, Category, SessionStatus, Step

WIDTH = 1000  # units of a timeline
HAPPENED = {
    "session_enqueued": "session requested",
    "session_preparing": "session has its nodes",
    "session_pulling": "boot artifacts are checked",
    "session_creating": "first nodes are switched",
    "session_started": "booted what could be booted",
    "session_terminated": "session ended",
}


@dataclass
class PhaseStep:
    """One node in one phase, as a line."""

    row: NodePhase
    look: Look
    word: str
    doing: str
    took: timedelta | None


@dataclass
class NodeRow:
    """A node of a session as its list shows it."""

    node: Node
    steps: list[PhaseStep]

    @property
    def doing(self) -> str:
        """What it is at now."""
        return next((step.doing for step in self.steps if step.doing), "")

    @property
    def message(self) -> str:
        """What is wrong with it."""
        return next((step.row.error for step in self.steps if step.row.error), "")

    @property
    def since(self) -> datetime | None:
        """When something changed last."""
        times = [step.row.stopped_at or step.row.step_at or step.row.started_at for step in self.steps]
        return max((at for at in times if at), default=None)


def node_in_session(session: BootSession, name: str) -> tuple[Node, list[PhaseStep]] | None:
    """A node of the session with its phases; None where it has none of that name."""
    rows = list(
        NodePhase.objects.of_session(session.pk)
        .filter(node__name=name)
        .select_related("phase__boot_set", "node__bmc", "node__session", "node__actual", "node__desired")
        .defer("node__session__components", "node__session__limit")
        .order_by("phase__position")
    )
    if not rows:
        return None
    return rows[0].node, [phase_step(row) for row in rows]


def phase_step(row: NodePhase) -> PhaseStep:
    """With look and words."""
    took = None
    if row.started_at:
        took = (row.stopped_at or timezone.now()) - row.started_at
    doing = Step(row.step).label if row.step else ""
    return PhaseStep(row, CATEGORY_LOOKS[row.category], Category(row.category).label, doing, took)


def node_ids(session: BootSession, category: str, words: str) -> QuerySet[Any, Any]:
    """Ids of the session's nodes that stand in `category` in some phase and whose name holds `words`."""
    rows = NodePhase.objects.of_session(session.pk)
    if words:
        rows = rows.filter(node__name__icontains=words)
    if not category:
        # Each node has a row in each phase, so one phase names them all.
        rows = rows.filter(phase__position=0)
        return rows.order_by("node_id").values_list("node_id", flat=True)
    return rows.filter(category=category).order_by("node_id").values_list("node_id", flat=True).distinct()


def nodes_with_steps(session: BootSession, ids: list[int]) -> list[NodeRow]:
    """These nodes with their phases, in natural order."""
    found: dict[int, NodeRow] = {}
    rows = (
        NodePhase.objects.of_session(session.pk)
        .filter(node_id__in=ids)
        .select_related("node", "phase")
        .order_by("phase__position")
    )
    for row in rows:
        found.setdefault(row.node_id, NodeRow(row.node, [])).steps.append(phase_step(row))
    return sorted(found.values(), key=lambda row: natural(row.node.name))


def _slowest(session: BootSession, most: int = 40) -> list[tuple[Node, list[PhaseStep]]]:
    """Failed nodes first, then those that took (or take) longest, for the timeline."""
    now = timezone.now()
    failed = (
        NodePhase.objects.of_session(session.pk)
        .filter(category=Category.FAILED)
        .order_by("started_at")
        .values_list("node_id", flat=True)[: most // 2]
    )
    ids = list(dict.fromkeys(failed))
    spans = (
        NodePhase.objects.of_session(session.pk)
        .filter(started_at__isnull=False)
        .exclude(category=Category.EXCLUDED)
        .values("node_id")
        .annotate(last=Max(Coalesce("stopped_at", now)))
        .order_by("-last")
        .values_list("node_id", flat=True)[:most]
    )
    ids += [node_id for node_id in spans if node_id not in set(ids)]
    ids = ids[:most]
    found: dict[int, tuple[Node, list[PhaseStep]]] = {}
    rows = (
        NodePhase.objects.of_session(session.pk)
        .filter(node_id__in=ids)
        .select_related("node", "phase")
        .order_by("phase__position")
    )
    for row in rows:
        found.setdefault(row.node_id, (row.node, []))[1].append(phase_step(row))
    return [found[node_id] for node_id in ids if node_id in found]


@dataclass
class Timeline:
    """Nodes with the stretches of their phases, in WIDTH units between `begins` and `ends`."""

    begins: datetime
    ends: datetime
    rows: list[tuple[str, list[tuple[str, str, str, str]], timedelta]]


def timeline(session: BootSession) -> Timeline | None:
    """Failed nodes first, then those that took longest; None while no node has begun."""
    found = _slowest(session)
    steps = [step for _, steps in found for step in steps if step.row.started_at]
    if not steps:
        return None
    now = timezone.now()
    begins = min(step.row.started_at for step in steps if step.row.started_at)
    ends = max(step.row.stopped_at or now for step in steps)
    span = max((ends - begins).total_seconds(), 1.0)
    rows = []
    for node, its_steps in found:
        stretches = []
        last = begins
        for step in its_steps:
            if step.row.started_at is None:
                continue
            until = step.row.stopped_at or now
            last = max(last, until)
            left = (step.row.started_at - begins).total_seconds() / span * WIDTH
            width = max((until - step.row.started_at).total_seconds() / span * WIDTH, 2)
            label = f"{step.row.phase.name}: {step.word}"
            stretches.append((f"{left:.1f}", f"{width:.1f}", step.look[1], label))
        rows.append((node.name, stretches, last - begins))
    return Timeline(begins, ends, rows)


# -- what happened, in lines ---------------------------------------------------------------------------


def log_lines(session: BootSession, events: list[LifecycleEvent]) -> list[tuple[datetime, str]]:
    """Events of a session as sentences, oldest first."""
    return [(event.at, line) for event in reversed(events) for line in _lines(event)]


def _lines(event: LifecycleEvent) -> list[str]:
    data = event.data if isinstance(event.data, dict) else {}
    if event.name != "node_phases":
        reason = data.get("reason") or ""
        words = HAPPENED.get(event.name) or event.name.replace("_", " ")
        return [f"{words}{f' ({reason})' if reason else ''}"]
    lines = []
    for where, categories in (data.get("changes") or {}).items():
        for category, names in categories.items():
            nodes = "node" if len(names) == 1 else "nodes"
            word = Category(category).label
            lines.append(f"{where}: {len(names):,} {nodes} {word}: {fold(names, most=8)}")
    return lines


# -- what an action would hit --------------------------------------------------------------------------


def open_names(session: BootSession) -> list[str]:
    """Nodes that are not over, in natural order; what cancelling leaves out."""
    if session.status != SessionStatus.RUNNING:
        return []
    rows = NodePhase.objects.of_session(session.pk)
    failed = set(rows.filter(category=Category.FAILED).values_list("node__name", flat=True))
    still = set(rows.filter(category__in=OPEN).values_list("node__name", flat=True))
    return sorted(still - failed, key=natural)


def retryable(session: BootSession) -> tuple[list[str], list[str]]:
    """Failed nodes that are still this session's, and those that a newer one has taken."""
    mine: list[str] = []
    taken: list[str] = []
    rows = NodePhase.objects.of_session(session.pk).filter(category=Category.FAILED)
    for name, owner in rows.values_list("node__name", "node__session_id"):
        (mine if owner == session.pk or session.by_hand else taken).append(name)
    return sorted(mine, key=natural), sorted(taken, key=natural)


# -- what is done by hand ------------------------------------------------------------------------------


def at_work_by_hand(node_ids: list[int]) -> dict[int, str]:
    """For each of these nodes that something is done to by hand at the moment: the action's uuid."""
    running = BootSession.objects.filter(by_hand=True, status=SessionStatus.RUNNING)
    uuids = dict(running.values_list("id", "uuid"))
    if not uuids:
        return {}
    rows = NodePhase.objects.open().filter(node_id__in=node_ids, session_id__in=list(uuids))
    return {
        node_id: str(uuids[session_id]) for node_id, session_id in rows.values_list("node_id", "session_id")
    }


def newest_by_hand(node: Node) -> PhaseStep | None:
    """What was done to the node by hand last, with its session; None where nothing was."""
    rows = NodePhase.objects.filter(node=node, session__by_hand=True).select_related(
        "session__owner", "phase"
    )
    row = rows.defer("session__components", "session__limit").order_by("-session_id").first()
    return phase_step(row) if row else None
