"""BOS v2's status of a session, from the counters of its phases (contracts, BOS 3)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from django.db.models import Count, QuerySet
from django.utils import timezone

from accounts_app.models import Domain
from sessions_app.models import BootSession, NodePhase
from sessions_app.models.nodes import natural
from sessions_app.prepared import Prepared
from sessions_app.services_staged import waiting_rows
from sessions_app.states import Category, PhaseName, SessionStatus

SHOWN = 10  # names of an error's nodes
ERRORS_WITH_NAMES = 40  # more different errors than this are read row by row


@dataclass(slots=True)
class Sums:
    """How many of a session's nodes are where."""

    powering_off: int = 0
    powering_on: int = 0
    configuring: int = 0
    succeeded: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class PhaseCount:
    """The counters of one phase of one boot set, with the boot set's size."""

    boot_set_id: int
    node_count: int
    name: str
    succeeded: int
    failed: int
    excluded: int
    turning_off: int


def add_up(phases: Iterable[PhaseCount], waiting: int = 0) -> Sums:
    """From the counters of phases, in order, to where the nodes are.

    Those in a phase are those that reached it and have not left it. A node is excluded from all phases
    that it has not finished, so a phase's own are those beyond the phase before. `waiting` nodes are staged
    and in no phase yet.
    """
    sums = Sums()
    by_boot_set: dict[int, list[PhaseCount]] = defaultdict(list)
    for phase in phases:
        by_boot_set[phase.boot_set_id].append(phase)
    for members in by_boot_set.values():
        reached, excluded = members[0].node_count, 0
        for phase in members:
            inside = max(reached - phase.succeeded - phase.failed - (phase.excluded - excluded), 0)
            if phase is members[0] and waiting:
                staying = min(waiting, inside)
                inside, waiting = inside - staying, waiting - staying
            _place(sums, phase, inside)
            sums.failed += phase.failed
            reached, excluded = phase.succeeded, phase.excluded
        sums.succeeded += members[-1].succeeded
    return sums


def _place(sums: Sums, phase: PhaseCount, inside: int) -> None:
    if phase.name == PhaseName.SHUTDOWN:
        sums.powering_off += inside
    elif phase.name == PhaseName.BOOT:
        down = min(phase.turning_off, inside)
        sums.powering_off += down
        sums.powering_on += inside - down
    else:
        sums.configuring += inside


FIELDS = (
    "id",
    "status",
    "stage",
    "created_at",
    "stopped_at",
    "total_nodes",
    "taken_over",
    "boot_sets__id",
    "boot_sets__node_count",
    "boot_sets__phases__name",
    "boot_sets__phases__succeeded",
    "boot_sets__phases__failed",
    "boot_sets__phases__excluded",
    "boot_sets__phases__turning_off",
)


def _read(**where: Any) -> QuerySet[BootSession, Any]:
    ordered = ("boot_sets__position", "boot_sets__phases__position")
    return BootSession.objects.by_template().filter(**where).order_by(*ordered).values_list(*FIELDS)


OF_TENANT = Prepared(lambda name, domain: _read(name=name, domain_id=domain), name=str, domain=int)
OF_NOBODY = Prepared(lambda name: _read(name=name, domain=None), name=str)


def status_of(*, name: str, domain: Domain | None) -> dict[str, Any] | None:
    """The status document of the session `name` of a tenant; None where there is no such session.

    Three statements at most, none of which reads more for a larger session (as long as errors are few).
    """
    rows = OF_NOBODY.rows(name=name) if domain is None else OF_TENANT.rows(name=name, domain=domain.pk)
    if not rows:
        return None
    session_id, status, stage, created, stopped, total, taken_over = rows[0][:7]
    staged = waiting_rows(session=session_id).count() if stage and status == SessionStatus.RUNNING else 0
    sums = add_up((PhaseCount(*row[7:]) for row in rows if row[7] is not None), waiting=staged)
    managed = total - taken_over

    def percent(count: int) -> float:
        return round(100 * count / managed, 2) if managed else 0.0

    return {
        "error_summary": error_summary(session_id),
        "managed_components_count": managed,
        "percent_failed": percent(sums.failed),
        "percent_staged": percent(staged),
        "percent_successful": percent(sums.succeeded),
        "phases": {
            "percent_complete": percent(sums.succeeded + sums.failed),
            "percent_configuring": percent(sums.configuring),
            "percent_powering_off": percent(sums.powering_off),
            "percent_powering_on": percent(sums.powering_on),
        },
        "status": status,
        "timing": _timing(created, stopped if status == SessionStatus.COMPLETE else None),
    }


def _timing(created: datetime, stopped: datetime | None) -> dict[str, Any]:
    """Whole seconds at the end, microseconds on the way: as the original prints its differences."""
    start = created.replace(microsecond=0)
    duration = (stopped.replace(microsecond=0) if stopped else timezone.now()) - start
    return {
        "duration": str(duration),
        "end_time": None if stopped is None else stopped.strftime("%Y-%m-%dT%H:%M:%S"),
        "start_time": start.strftime("%Y-%m-%dT%H:%M:%S"),
    }


def _errors(session: int) -> QuerySet[NodePhase, Any]:
    """Rows that count: those of nodes that were left out say why in `error`, which is no error."""
    rows = NodePhase.objects.filter(session_id=session).exclude(error="")
    return rows.exclude(category=Category.EXCLUDED)


def _first_names(session: int, **errors: str) -> QuerySet[NodePhase, Any]:
    """Error and name of the first ten nodes of each error. Rows were made in the order of their nodes'
    names, so the first ids are the first names."""
    parts = [
        _errors(session).filter(error=error).order_by("id").values("id")[:SHOWN] for error in errors.values()
    ]
    found = [NodePhase.objects.filter(id__in=part).values_list("error", "node__name") for part in parts]
    return found[0].union(*found[1:], all=True) if len(found) > 1 else found[0]


COUNTS = Prepared(
    lambda session: _errors(session).values_list("error").annotate(count=Count("id")).order_by("error"),
    session=int,
)
ALL_NAMES = Prepared(lambda session: _errors(session).values_list("error", "node__name"), session=int)


@cache
def _names_of(errors: int) -> Prepared:
    """Reads the first names of that many errors."""
    return Prepared(_first_names, session=int, **{f"error{place}": str for place in range(errors)})


def error_summary(session_id: int) -> dict[str, dict[str, Any]]:
    """Errors of the session's nodes: how many have each, and the first ten by name."""
    counts = dict(COUNTS.rows(session=session_id))
    if not counts:
        return {}
    if len(counts) > ERRORS_WITH_NAMES:
        found = ALL_NAMES.rows(session=session_id)
    else:
        wanted = {f"error{place}": error for place, error in enumerate(counts)}
        found = _names_of(len(counts)).rows(session=session_id, **wanted)
    names: dict[str, list[str]] = defaultdict(list)
    for error, node in found:
        names[error].append(node)
    return {
        error: {
            "count": count,
            "list": ",".join(sorted(names[error], key=natural)[:SHOWN]) + ("..." if count > SHOWN else ""),
        }
        for error, count in counts.items()
    }
