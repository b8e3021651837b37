"""A boot session in the terminal: a bar for each phase, or lines where the output is no terminal."""

from __future__ import annotations

import time
from dataclasses import dataclass

from django.db import OperationalError, connection
from django.db.models import Count, Sum
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from sessions_app.models import BootSession, NodePhase, Phase
from sessions_app.states import PHASES, Category, SessionResult, SessionStatus

EVERY = 0.5  # seconds between two looks
LINE_EVERY = 5.0  # seconds between two lines where there is no terminal
ERRORS_SHOWN = 5
COUNTERS = ("not_started", "in_progress", "succeeded", "failed", "excluded")
CELEBRATED = {
    SessionResult.SUCCEEDED: "green",
    SessionResult.FAILED: "red",
    SessionResult.ERROR: "red",
}


@dataclass(frozen=True)
class PhaseCount:
    """One phase over all boot sets of a session."""

    name: str
    total: int = 0
    in_progress: int = 0
    succeeded: int = 0
    failed: int = 0
    excluded: int = 0

    @property
    def over(self) -> int:
        """For how many nodes the phase is over."""
        return self.succeeded + self.failed + self.excluded

    @property
    def words(self) -> str:
        """What the bar alone does not say."""
        parts = ((self.in_progress, "in progress"), (self.failed, "failed"), (self.excluded, "left out"))
        return ", ".join(f"{count} {word}" for count, word in parts if count)


def count_phases(session: BootSession) -> list[PhaseCount]:
    """From the phases' counters, in the order of the operation; all zero before the session has its nodes."""
    rows = Phase.objects.filter(boot_set__session=session).order_by().values_list("name")
    sums = {row[0]: row[1:] for row in rows.annotate(*(Sum(counter) for counter in COUNTERS))}
    counts = []
    for name in PHASES[session.operation]:
        numbers = sums.get(name) or (0, 0, 0, 0, 0)
        counts.append(PhaseCount(name, sum(numbers), *numbers[1:]))
    return counts


def follow(session: BootSession, console: Console | None = None) -> None:
    """Show the session until it is complete, then say how it ended and what went wrong where."""
    console = console or Console()
    if session.by_hand:
        console.print(f"[bold]{session.name}[/]: {session.title}", highlight=False)
    else:
        template = session.template_name
        console.print(f"Session [bold]{session.name}[/]: {session.operation} by template {template}")
    if console.is_terminal:
        _bars(session, console)
    else:
        _lines(session, console)
    _tell_end(session, console)


def _bars(session: BootSession, console: Console) -> None:
    columns = (
        TextColumn("  {task.description:<10}"),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[words]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        bars: dict[str, TaskID] = {}
        over = False
        while not over:
            over = _refresh(session)
            for phase in count_phases(session):
                if phase.name not in bars:
                    bars[phase.name] = progress.add_task(phase.name, total=None, start=False, words="")
                bar = bars[phase.name]
                if (phase.over or phase.in_progress) and progress.tasks[bar].start_time is None:
                    progress.start_task(bar)
                progress.update(bar, total=phase.total or None, completed=phase.over, words=phase.words)
            if not over:
                time.sleep(EVERY)


def _lines(session: BootSession, console: Console) -> None:
    told, told_at = "", 0.0
    over = False
    while not over:
        over = _refresh(session)
        parts = (f"{phase.name} {phase.over}/{phase.total}" for phase in count_phases(session))
        line = "  " + ", ".join(parts)
        if line != told and (over or time.monotonic() - told_at >= LINE_EVERY):
            console.print(line, highlight=False)
            told, told_at = line, time.monotonic()
        if not over:
            time.sleep(EVERY)


def _refresh(session: BootSession) -> bool:
    """Read the session anew; whether it is complete. A database that is away for a moment is waited for."""
    try:
        session.refresh_from_db()
    except OperationalError:
        connection.close()
    return session.status == SessionStatus.COMPLETE


def _tell_end(session: BootSession, console: Console) -> None:
    seconds = (session.stopped_at - session.created_at).total_seconds() if session.stopped_at else 0
    last = count_phases(session)[-1]
    result = SessionResult(session.result)
    colour = CELEBRATED.get(result, "yellow")
    console.print(
        f"{session.title} is complete: [{colour}]{result.label}[/], {last.succeeded} of "
        f"{session.total_nodes} nodes after {seconds:.0f} s.",
        highlight=False,
        soft_wrap=True,
    )
    if session.error:
        console.print(f"  {session.error}", markup=False, highlight=False)
    failed = NodePhase.objects.filter(session=session, category=Category.FAILED).order_by()
    groups = failed.values("error").annotate(nodes=Count("node", distinct=True)).order_by("-nodes", "error")
    for group in groups[:ERRORS_SHOWN]:
        console.print(f"  {group['nodes']} nodes: {group['error']}", markup=False, highlight=False)
