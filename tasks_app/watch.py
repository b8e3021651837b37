"""Stands beside one run while a driver works: stores its lines, renews its claim, says when to stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection
from django.utils import timezone

from events_app.services import record_event, recording, report_progress
from tasks_app import owners
from tasks_app.drivers.base import Line
from tasks_app.drivers.texts import storable
from tasks_app.models import Run, RunLog
from tasks_app.states import CLAIM, GIVE_UP, RENEW

log = logging.getLogger(__name__)

FLUSH_EVERY = 0.3  # seconds
FLUSH_LINES = 500
LOOK_EVERY = 1.0  # seconds between looks at whether somebody cancelled
MOST_LINES = 100_000
LONGEST_TEXT = 16_000
SHORTEST_SECRET = 6


class ClaimLost(Exception):
    """Another worker has the run; this one must not write about it any more."""


class RunWatch:
    """The `Watch` of drivers, for one claimed run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.timeout = run.document.get("timeout", 0) / 1e9 or float(settings.MUSTER_TASK_TIMEOUT)
        self._began = self._renewed = self._flushed = self._looked = time.monotonic()
        self._lines: list[RunLog] = []
        self._number = run.lines
        self._offset = 0
        self._secrets: list[str] = []
        self._cancelled = False

    # -- what drivers call -----------------------------------------------------------------------------

    def begin(self, command: str) -> None:
        """A command starts: offsets count from its beginning."""
        self._flush()
        self._offset = 0
        self._try(
            lambda: Run.objects.filter(pk=self.run.pk, claim=self.run.claim).update(
                command=command, output_offset=0
            )
        )

    def line(self, line: Line, offset: int = 0) -> None:
        """Keep a line; many are written together."""
        self._offset = offset or self._offset
        if self._number >= MOST_LINES:
            return
        self._number += 1
        last = self._number == MOST_LINES
        text = "The output is longer than is kept." if last else self._clean(line.text)
        self._lines.append(
            RunLog(
                run=self.run,
                number=self._number,
                at=timezone.now(),
                phase=line.phase,
                level=line.level[:8],
                kind=line.kind[:32],
                text=text,
            )
        )
        if len(self._lines) >= FLUSH_LINES or time.monotonic() - self._flushed > FLUSH_EVERY:
            self._flush()

    def progress(self, done: int, message: str) -> None:
        """Move the background task's bar."""
        bar = self.run.background_task_id
        if bar is None:
            return
        counts = self.run.counts
        total = sum(counts.get(key, 0) for key in ("add", "change", "remove"))
        self._try(lambda: report_progress(bar, current=done, total=total, message=self._clean(message)))

    def stop(self) -> str:
        """Why to stop, or "". Also the moment to write lines and to renew the claim."""
        now = time.monotonic()
        if self._lines and now - self._flushed > FLUSH_EVERY:
            self._flush()
        if now - self._renewed > RENEW:
            self._renew()
        if now - self._looked > LOOK_EVERY:
            self._looked = now
            self._try(self._look)
        if self._cancelled:
            return "cancelled"
        if time.monotonic() - self._renewed > GIVE_UP:
            return "lost"
        if now - self._began > self.timeout:
            return "timed_out"
        return "shutdown" if owners.shutting_down() else ""

    # -- what the engine calls -------------------------------------------------------------------------

    def note(self, text: str, level: str = "info") -> None:
        """A line of our own."""
        self.line(Line("note", text, level))

    def hide(self, secrets: list[str]) -> None:
        """Texts that must not stand in the log."""
        self._secrets = sorted((s for s in secrets if len(s) >= SHORTEST_SECRET), key=len, reverse=True)

    def persist(self, write: Callable[[], object]) -> None:
        """Do `write` while the claim holds, again and again while the database is away.

        Raises ClaimLost where another worker has the run, or where the claim has run out meanwhile.
        """
        self._flush()
        first = True
        while True:
            try:
                with recording():
                    mine = Run.objects.select_for_update(of=("self",)).filter(
                        pk=self.run.pk, claim=self.run.claim
                    )
                    if not list(mine.values_list("pk", flat=True)):
                        raise ClaimLost
                    if not first:
                        self.run.refresh_from_db()  # what was rolled back must not stay in memory
                    write()
                return
            except (OperationalError, InterfaceError) as error:
                log.warning("Could not write about %s: %s", self.run, error)
                connection.close()
                if time.monotonic() - self._renewed > GIVE_UP:
                    raise ClaimLost from None
                time.sleep(0.5)
                first = False

    def close(self) -> None:
        """Write what is left. Where the claim is lost, that is nobody's loss."""
        self._flush(final=True)

    # -- within ----------------------------------------------------------------------------------------

    def _renew(self) -> None:
        def renew() -> None:
            until = timezone.now() + timedelta(seconds=CLAIM)
            mine = Run.objects.filter(pk=self.run.pk, claim=self.run.claim)
            if mine.update(claimed_until=until):
                self._renewed = time.monotonic()
            else:
                self._renewed = float("-inf")  # given to somebody else: stop at once

        self._try(renew)

    def _look(self) -> None:
        asked = Run.objects.filter(pk=self.run.pk, cancel_requested_at__isnull=False)
        self._cancelled = asked.exists()

    def _flush(self, final: bool = False) -> None:
        self._flushed = time.monotonic()
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        if not self._try(lambda: self._store(lines, final)) and not final:
            self._lines = lines + self._lines

    def _store(self, lines: list[RunLog], final: bool) -> None:
        with recording():
            runs = Run.objects.filter(pk=self.run.pk)
            if not final:
                runs = runs.filter(claim=self.run.claim)
            if not runs.update(lines=lines[-1].number, output_offset=self._offset):
                return
            # A final line may meet one of the worker that took over: its number counts, not ours.
            RunLog.objects.bulk_create(lines, ignore_conflicts=final)
            data = {
                "run": self.run.pk,
                "number": self.run.number,
                "lines": [lines[0].number, lines[-1].number],
            }
            record_event(**self.run.task.event("task_run_output", **data))

    def _try(self, act: Callable[[], object]) -> bool:
        try:
            act()
        except DatabaseError as error:
            log.warning("The database did not take a change of %s: %s", self.run, error)
            connection.close()
            return False
        return True

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "(hidden)")
        text = storable(text)
        return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + " …"
