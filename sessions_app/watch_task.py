"""A background task in the terminal: its bar and message, or lines where the output is no terminal."""

from __future__ import annotations

import time

from django.db import OperationalError, connection
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from events_app.models import BackgroundTask
from events_app.states import FINISHED, BackgroundTaskStatus

EVERY = 0.5  # seconds between two looks
COLOURS = {BackgroundTaskStatus.DONE: "green", BackgroundTaskStatus.FAILED: "red"}


def follow(task: BackgroundTask, console: Console | None = None) -> bool:
    """Show the task until it has ended; True where it ended well."""
    console = console or Console()
    console.print(f"Task [bold]{task.kind}[/] {task.subject}".rstrip(), highlight=False)
    if console.is_terminal:
        _bar(task, console)
    else:
        _lines(task, console)
    colour = COLOURS.get(BackgroundTaskStatus(task.status), "yellow")
    console.print(f"[{colour}]{task.status}[/]", end="", highlight=False)
    console.print(f": {task.message}" if task.message else "", markup=False, highlight=False)
    return task.status == BackgroundTaskStatus.DONE


def _bar(task: BackgroundTask, console: Console) -> None:
    columns = (
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        bar = progress.add_task(task.message, total=None)
        over = False
        while not over:
            over = _refresh(task)
            # A total of 0 means that nobody knows it.
            progress.update(
                bar,
                total=task.total_progress or None,
                completed=task.current_progress,
                description=task.message,
            )
            if not over:
                time.sleep(EVERY)


def _lines(task: BackgroundTask, console: Console) -> None:
    told = ""
    over = False
    while not over:
        over = _refresh(task)
        total = f"/{task.total_progress}" if task.total_progress else ""
        line = f"  {task.current_progress}{total} {task.message}".rstrip()
        if line != told:
            console.print(line, markup=False, highlight=False)
            told = line
        if not over:
            time.sleep(EVERY)


def _refresh(task: BackgroundTask) -> bool:
    """Read the task anew; whether it has ended. A database that is away for a moment is waited for."""
    try:
        task.refresh_from_db()
    except OperationalError:
        connection.close()
    return task.status in FINISHED
