"""The JSON of BOS v1: sessions and their status tree (contracts, BOS 1; seed 000)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from accounts_app.models import Domain
from sessions_app.models import BootSession, NodePhase, SessionTemplate
from sessions_app.models.nodes import natural
from sessions_app.prepared import Prepared
from sessions_app.states import PHASES, Category, SessionStatus

# The original's order, always (contracts, BOS 1.4).
CATEGORIES = (
    Category.NOT_STARTED,
    Category.SUCCEEDED,
    Category.FAILED,
    Category.EXCLUDED,
    Category.IN_PROGRESS,
)


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """One phase of a boot set with its counters."""

    id: int
    name: str
    not_started: int
    in_progress: int
    failed: int
    started_at: datetime | None
    stopped_at: datetime | None

    @property
    def complete(self) -> bool:
        """Nobody is waiting or at work."""
        return not self.not_started and not self.in_progress


@dataclass(frozen=True, slots=True)
class BootSetRow:
    """One boot set with its phases, in order."""

    name: str
    started_at: datetime | None
    status_deleted: bool
    phases: tuple[PhaseRow, ...]


@dataclass(frozen=True, slots=True)
class SessionRow:
    """What of a session the documents need."""

    pk: int
    uuid: UUID
    operation: str
    status: str
    created_at: datetime
    stopped_at: datetime | None
    template_name: str
    template_id: int | None
    status_deleted: bool

    @property
    def ended(self) -> bool:
        """Nothing is left to do."""
        return self.status == SessionStatus.COMPLETE


@dataclass(frozen=True, slots=True)
class Tree:
    """A session with its boot sets and their phases; what the summaries are made of."""

    session: SessionRow
    boot_sets: tuple[BootSetRow, ...]

    def boot_set(self, name: str) -> BootSetRow | None:
        """The boot set of this name."""
        return next((row for row in self.boot_sets if row.name == name), None)


SESSION_FIELDS = (
    "id",
    "uuid",
    "operation",
    "status",
    "created_at",
    "stopped_at",
    "template_name",
    "template_id",
    "status_deleted",
)
BOOT_SET_FIELDS = ("boot_sets__name", "boot_sets__started_at", "boot_sets__status_deleted")
PHASE_FIELDS = (
    "boot_sets__phases__id",
    "boot_sets__phases__name",
    "boot_sets__phases__not_started",
    "boot_sets__phases__in_progress",
    "boot_sets__phases__failed",
    "boot_sets__phases__started_at",
    "boot_sets__phases__stopped_at",
)


def _read(**where: Any) -> QuerySet[BootSession, Any]:
    ordered = ("boot_sets__position", "boot_sets__phases__position")
    rows = BootSession.objects.by_template().filter(**where).order_by(*ordered)
    return rows.values_list(*SESSION_FIELDS, *BOOT_SET_FIELDS, *PHASE_FIELDS)


OF_TENANT = Prepared(lambda uuid, domain: _read(uuid=uuid, domain_id=domain), uuid=UUID, domain=int)
OF_NOBODY = Prepared(lambda uuid: _read(uuid=uuid, domain=None), uuid=UUID)


def read_tree(*, uuid: UUID, domain: Domain | None) -> Tree | None:
    """The session of a tenant with its boot sets; None where there is none. One statement, which reads no
    node. A session that is pending has the boot sets of its template, with phases that nobody has begun."""
    rows = OF_NOBODY.rows(uuid=uuid) if domain is None else OF_TENANT.rows(uuid=uuid, domain=domain.pk)
    if not rows:
        return None
    session = SessionRow(*rows[0][: len(SESSION_FIELDS)])
    sets: dict[tuple[Any, ...], list[PhaseRow]] = {}
    for row in rows:
        name, started, deleted, *phase = row[len(SESSION_FIELDS) :]
        if name is not None and phase[0] is not None:
            sets.setdefault((name, started, bool(deleted)), []).append(PhaseRow(*phase))
    if not sets and session.status == SessionStatus.PENDING:
        sets = _expected(session)
    boot_sets = (
        BootSetRow(name, started, deleted, tuple(phases)) for (name, started, deleted), phases in sets.items()
    )
    return Tree(session, tuple(boot_sets))


def _expected(session: SessionRow) -> dict[tuple[Any, ...], list[PhaseRow]]:
    templates = SessionTemplate.objects.filter(pk=session.template_id or 0)
    template = templates.first()
    begun = session.created_at
    waiting = [PhaseRow(0, name, 1, 0, 0, begun, None) for name in PHASES[session.operation]]
    return {(name, begun, False): waiting for name in (template.boot_sets if template else {})}


# -- summaries ------------------------------------------------------------------------------------


def spaced(moment: datetime | None) -> str | None:
    """BOS v1's time: UTC without saying so, a space, microseconds (seed 000)."""
    return None if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def _metadata(
    *,
    complete: bool,
    in_progress: bool,
    error_count: int,
    started: datetime | None,
    stopped: datetime | None,
) -> dict[str, Any]:
    """The five fields; those without a value are left out."""
    times = {"start_time": spaced(started), "stop_time": spaced(stopped)}
    return {
        "complete": complete,
        "error_count": error_count,
        "in_progress": in_progress,
        **{name: time for name, time in times.items() if time is not None},
    }


def phase_metadata(phase: PhaseRow) -> dict[str, Any]:
    """In progress: nodes are; complete: none is or waits; errors: how many failed."""
    return _metadata(
        complete=phase.complete,
        in_progress=phase.in_progress > 0,
        error_count=phase.failed,
        started=phase.started_at,
        stopped=phase.stopped_at if phase.complete else None,
    )


def boot_set_metadata(boot_set: BootSetRow) -> dict[str, Any]:
    """Cumulative over its phases; it stopped when its last phase did."""
    complete = all(phase.complete for phase in boot_set.phases)
    stops = [phase.stopped_at for phase in boot_set.phases if phase.stopped_at is not None]
    return _metadata(
        complete=complete,
        in_progress=any(phase.in_progress for phase in boot_set.phases),
        error_count=sum(phase.failed for phase in boot_set.phases),
        started=boot_set.started_at,
        stopped=max(stops, default=None) if complete else None,
    )


def session_metadata(tree: Tree) -> dict[str, Any]:
    """Cumulative over its boot sets, as documented (seed 000): a session whose nodes failed early is neither
    in progress nor complete, for its later phases were never begun; `stop_time` tells that it ended."""
    phases = [phase for boot_set in tree.boot_sets for phase in boot_set.phases]
    ended = tree.session.ended
    return _metadata(
        complete=all(phase.complete for phase in phases) and (bool(phases) or ended),
        in_progress=any(phase.in_progress for phase in phases),
        error_count=sum(phase.failed for phase in phases),
        started=tree.session.created_at,
        stopped=tree.session.stopped_at if ended else None,
    )


def status_path(session: SessionRow, *parts: str) -> str:
    """Path of a status; the documents' links have no gateway's prefix."""
    return "/".join((f"/v1/session/{session.uuid}/status", *parts))


def session_status_document(tree: Tree) -> dict[str, Any]:
    """The top of the tree."""
    session = tree.session
    names = [boot_set.name for boot_set in tree.boot_sets if not boot_set.status_deleted]
    return {
        "boot_sets": names,
        "id": str(session.uuid),
        "links": [
            {"href": status_path(session), "rel": "self"},
            *({"href": status_path(session, name), "rel": "Boot Set"} for name in names),
        ],
        "metadata": session_metadata(tree),
    }


def session_description(tree: Tree) -> dict[str, Any]:
    """`session describe`, under the new names and the old ones."""
    session = tree.session
    deleted = dict.fromkeys(("complete", "error_count", "in_progress", "start_time", "stop_time"), "")
    metadata = deleted if session.status_deleted else session_metadata(tree)
    job = f"boa-{session.uuid}"
    return {
        "boa_job_name": job,
        "complete": metadata["complete"],
        "error_count": metadata["error_count"],
        "in_progress": metadata["in_progress"],
        "job": job,
        "operation": session.operation,
        "start_time": metadata.get("start_time", ""),
        "status_link": status_path(session),
        "stop_time": metadata.get("stop_time"),
        "templateName": session.template_name,
        "templateUuid": session.template_name,
    }


# -- with nodes -----------------------------------------------------------------------------------


def boot_set_document(tree: Tree, boot_set: BootSetRow) -> dict[str, Any]:
    """A boot set with all its phases and their nodes."""
    session = tree.session
    return {
        "links": [
            {"href": status_path(session, boot_set.name), "rel": "self"},
            *(
                {"href": status_path(session, boot_set.name, phase.name), "rel": "Phase"}
                for phase in boot_set.phases
            ),
        ],
        "metadata": boot_set_metadata(boot_set),
        "name": boot_set.name,
        "phases": phase_documents(boot_set.phases),
        "session": str(session.uuid),
    }


def phase_documents(phases: Iterable[PhaseRow]) -> list[dict[str, Any]]:
    """Phases with their nodes by category, and by error where there are any."""
    phases = list(phases)
    nodes: dict[tuple[int, str], list[str]] = defaultdict(list)
    errors: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    rows = NodePhase.objects.filter(phase_id__in=[phase.id for phase in phases])
    for phase_id, category, error, node in rows.values_list("phase_id", "category", "error", "node__name"):
        nodes[phase_id, category].append(node)
        if error:
            errors[phase_id][error].append(node)
    return [_phase_document(phase, nodes, errors[phase.id]) for phase in phases]


def _phase_document(
    phase: PhaseRow, nodes: dict[tuple[int, str], list[str]], errors: dict[str, list[str]]
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "categories": [category_document(name, nodes[phase.id, name]) for name in CATEGORIES],
        "metadata": phase_metadata(phase),
        "name": phase.name,
    }
    if errors:
        document["errors"] = {error: sorted(names, key=natural) for error, names in sorted(errors.items())}
    return document


def category_document(name: str, nodes: Iterable[str]) -> dict[str, Any]:
    """A category with its nodes."""
    return {"name": str(name), "node_list": sorted(nodes, key=natural)}


def nodes_in(phase: PhaseRow, category: str) -> list[str]:
    """Names of the nodes in one category of one phase."""
    rows = NodePhase.objects.filter(phase_id=phase.id, category=category)
    return list(rows.values_list("node__name", flat=True))
