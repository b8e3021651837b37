"""One session: its bars, faults, what it is doing, when it will end."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Count, Max
from django.utils import timezone

from events_app.models import LifecycleEvent
from sessions_app.looks import Look
from sessions_app.models import BootSession, NodePhase, Phase
from sessions_app.nodeset import fold
from sessions_app.selectors.lists import BAR_ORDER, SessionRow, session_row
from sessions_app.states import CATEGORY_LOOKS, Category, PhaseName, SessionStatus, Step

RATE_OVER = timedelta(seconds=60)
LEAST_RATE = 0.1  # nodes a second; below it a guess would only alarm
LONGEST_GUESS = 6 * 3600  # seconds
STILL_FOR = timedelta(minutes=10)  # a running session without any change for so long wants a look
NAMES_SHOWN = 6  # patterns in a line of the attention list

# Step in words, for "Waiting for 3 nodes to …".
DOING: dict[str, str] = {
    Step.CHECK: "being asked for their power state",
    Step.POWER_OFF: "being asked to shut down",
    Step.AWAIT_OFF: "shutting down",
    Step.FORCE_OFF: "having their power cut",
    Step.AWAIT_FORCED_OFF: "going off after a power cut",
    Step.POWER_ON: "being switched on",
    Step.AWAIT_ON: "powering on",
    Step.AWAIT_REPORT: "booting (power is on, no report yet)",
    Step.CONFIGURE: "being configured",
    Step.AWAIT_CONFIGURED: "applying the configuration",
}


@dataclass
class PhaseBar:
    """One phase of a boot set, as a bar with counts."""

    phase: Phase
    boot_set: str
    total: int
    counts: list[tuple[str, Look, int]]
    rate: float  # nodes a second that came through, over the last minute
    ends_at: datetime | None

    @property
    def parts(self) -> list[tuple[int, str]]:
        """For the bar."""
        return [(count, look[1]) for _, look, count in self.counts]

    @property
    def label(self) -> str:
        """The bar in words."""
        said = ", ".join(f"{count} {word}" for word, _, count in self.counts if count)
        return f"{self.phase.name} of {self.boot_set}: {said}"

    @property
    def took(self) -> timedelta | None:
        """From the first node's begin to the last one's end."""
        if self.phase.started_at is None or self.phase.stopped_at is None:
            return None
        if self.phase.not_started or self.phase.in_progress:
            return None
        return self.phase.stopped_at - self.phase.started_at


@dataclass
class Fault:
    """One message, and the nodes that have it."""

    message: str
    category: str
    look: Look
    word: str
    phases: list[str]
    names: list[str] = field(repr=False)

    @property
    def folded(self) -> str:
        """All its nodes."""
        return fold(self.names)

    @property
    def short(self) -> str:
        """Its nodes on one line."""
        return fold(self.names, most=NAMES_SHOWN)


@dataclass
class Picture:
    """Everything of a session's page but the map."""

    row: SessionRow
    bars: list[PhaseBar]
    faults: list[Fault]
    doing: list[str]
    ends_at: datetime | None
    several_sets: bool
    still_since: datetime | None

    @property
    def failures(self) -> list[Fault]:
        """Those of failed nodes."""
        return [fault for fault in self.faults if fault.category == Category.FAILED]


def picture(session: BootSession) -> Picture:
    """A session for its page, in seven queries."""
    now = timezone.now()
    phases = list(
        Phase.objects.filter(boot_set__session=session)
        .select_related("boot_set")
        .order_by("boot_set__position", "position")
    )
    rates = _rates(session, now) if session.status == SessionStatus.RUNNING else {}
    bars = [_bar(phase, rates.get(phase.id, 0.0), now) for phase in phases]
    session.failed_nodes = sum(phase.failed for phase in phases)  # type: ignore[attr-defined]
    ends = [bar.ends_at for bar in bars if bar.ends_at]
    return Picture(
        row=session_row(session),
        bars=bars,
        faults=faults_of(session),
        doing=_doing(session) if session.status == SessionStatus.RUNNING else [],
        ends_at=max(ends) if ends else None,
        several_sets=len({phase.boot_set_id for phase in phases}) > 1,
        still_since=still_since(session, now),
    )


def _rates(session: BootSession, now: datetime) -> dict[int, float]:
    came_through = (
        NodePhase.objects.of_session(session.pk)
        .filter(stopped_at__gte=now - RATE_OVER, category__in=(Category.SUCCEEDED, Category.FAILED))
        .values("phase_id")
        .annotate(count=Count("id"))
    )
    over = min(RATE_OVER.total_seconds(), max(1.0, (now - session.created_at).total_seconds()))
    return {row["phase_id"]: row["count"] / over for row in came_through}


def _bar(phase: Phase, rate: float, now: datetime) -> PhaseBar:
    counts = [
        (Category(category).label, CATEGORY_LOOKS[category], getattr(phase, category))
        for category in BAR_ORDER
    ]
    left = phase.not_started + phase.in_progress
    ends = None
    if left and rate >= LEAST_RATE and left / rate < LONGEST_GUESS:
        ends = now + timedelta(seconds=left / rate)
    return PhaseBar(phase, phase.boot_set.name, sum(count for _, _, count in counts), counts, rate, ends)


def faults_of(session: BootSession) -> list[Fault]:
    """What went wrong, by message, the most frequent first; nodes in natural order by the fold."""
    rows = (
        NodePhase.objects.of_session(session.pk)
        .exclude(error="")
        .values_list("error", "category", "phase__name", "node__name")
    )
    nodes: dict[tuple[str, str], set[str]] = defaultdict(set)
    phases: dict[tuple[str, str], set[str]] = defaultdict(set)
    for error, category, phase, name in rows:
        nodes[error, category].add(name)
        phases[error, category].add(phase)
    order = list(PhaseName.values)
    found = [
        Fault(
            message,
            category,
            CATEGORY_LOOKS[category],
            Category(category).label,
            sorted(phases[message, category], key=order.index),
            sorted(names),
        )
        for (message, category), names in nodes.items()
    ]
    rank = {Category.FAILED: 0, Category.IN_PROGRESS: 1}
    return sorted(found, key=lambda fault: (rank.get(Category(fault.category), 2), -len(fault.names)))


def _doing(session: BootSession) -> list[str]:
    """`4,270 nodes booting (power is on, …)`: what the nodes in progress are at."""
    rows = (
        NodePhase.objects.of_session(session.pk)
        .filter(category=Category.IN_PROGRESS)
        .exclude(step="")
        .values("step")
        .annotate(count=Count("id"))
        .order_by("-count")
    )
    said = []
    for row in rows:
        count = row["count"]
        said.append(f"{count:,} {'node' if count == 1 else 'nodes'} {DOING.get(row['step'], row['step'])}")
    return said


def still_since(session: BootSession, now: datetime) -> datetime | None:
    """Since when nothing changed, where that is long enough to say so."""
    if session.status != SessionStatus.RUNNING:
        return None
    changed = LifecycleEvent.objects.filter(area="node", subject_id=str(session.uuid)).aggregate(at=Max("at"))
    last = changed["at"] or session.created_at
    return last if now - last > STILL_FOR else None
