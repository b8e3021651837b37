"""The counters of phases, moved by the difference in the transaction that moves the rows they count."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from django.db.models import DateTimeField, F, Value
from django.db.models.functions import Coalesce

from events_app.services import record_event
from sessions_app.models import BootSession, Phase

IDS_AT_ONCE = 5000  # bound of a statement's parameters that every database takes


def chunks(ids: Iterable[int]) -> Iterator[list[int]]:
    """Ids in ascending order, in lists that fit into one statement."""
    ordered = sorted(ids)
    for start in range(0, len(ordered), IDS_AT_ONCE):
        yield ordered[start : start + IDS_AT_ONCE]


class Counts:
    """What moves in this transaction: by how much each phase's counters, and which nodes to where."""

    def __init__(self) -> None:
        self.by_phase: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        # session -> phase -> category -> names of the nodes that went there
        self.changes: dict[int, dict[int, dict[str, list[str]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )

    def moved(self, session_id: int, phase_id: int, old: str, new: str, nodes: Sequence[str]) -> None:
        """These nodes of a phase went from `old` to `new`."""
        if old != new and nodes:
            self.by_phase[phase_id][old] -= len(nodes)
            self.by_phase[phase_id][new] += len(nodes)
            self.changes[session_id][phase_id][new].extend(nodes)

    def turning(self, phase_id: int, by: int) -> None:
        """`by` more nodes of a boot phase are on the way down."""
        if by:
            self.by_phase[phase_id]["turning_off"] += by

    def write(self, now: datetime) -> None:
        """One statement a phase, and one for those that are over."""
        for phase_id in sorted(self.by_phase):
            changes = {name: F(name) + by for name, by in self.by_phase[phase_id].items() if by}
            if changes:
                Phase.objects.filter(id=phase_id).update(
                    started_at=Coalesce("started_at", Value(now, output_field=DateTimeField())),
                    stopped_at=None,
                    **changes,
                )
        if self.by_phase:
            over = Phase.objects.filter(id__in=list(self.by_phase), not_started=0, in_progress=0)
            over.update(stopped_at=now)

    def tell(self) -> None:
        """One event a session with the nodes that changed category, for maps that follow."""
        if not self.changes:
            return
        names = {
            row["id"]: f"{row['boot_set__name']}/{row['name']}"
            for row in Phase.objects.filter(id__in=list(self.by_phase)).values("id", "name", "boot_set__name")
        }
        for session in BootSession.objects.filter(id__in=list(self.changes)).select_related("domain"):
            changes = self.changes[session.id]
            event = session.event("node_phases")
            event["area"] = "node"
            event["data"] = {
                "session": session.name,
                "changes": {names[phase]: by_category for phase, by_category in changes.items()},
            }
            record_event(**event)
