"""Finds runs whose worker is gone, says the truth about them, and lets their tasks go on."""

from __future__ import annotations

import logging
import secrets
from datetime import timedelta

from django.db.models import Q
from django.utils import timezone

from events_app.models import InvalidTransition
from events_app.services import recording
from tasks_app import drivers, owners
from tasks_app.drivers.base import Job
from tasks_app.drivers.texts import storable
from tasks_app.engine import mark_partial
from tasks_app.models import Run, RunLog, Task, TerraformState
from tasks_app.records import end_run, settle_deletion, try_end
from tasks_app.rendering import directory_of
from tasks_app.states import INTERRUPT_GRACE, MOST_INTERRUPTIONS, RunStatus, TaskStatus

log = logging.getLogger(__name__)

FORGOTTEN = timedelta(minutes=10)  # a task in creation, or an inspection, without any open run


def recover_lost() -> int:
    """Take over the runs whose claim has run out, or whose worker on this machine is dead."""
    now = timezone.now()
    found = 0
    for run in Run.objects.at_work().select_related("task__domain"):
        if run.claimed_until and run.claimed_until > now and not owners.is_dead(run.worker):
            continue
        found += _recover(run)
    return found


def _recover(run: Run) -> bool:
    job = Job(name=run.task.name, directory=directory_of(run.task), document=run.document)
    driver = drivers.driver(run.document.get("driver", "terraform"))
    if driver.is_at_work(job):
        # Its guard is ending it (SIGINT, then SIGKILL): look again, but not for ever.
        limit = run.claimed_until or timezone.now()
        if timezone.now() < limit + timedelta(seconds=INTERRUPT_GRACE * 2):
            return False
    # From here the dead worker, should it live after all, can't write about the run any more.
    claim = secrets.randbits(62) + 1
    if not Run.objects.filter(pk=run.pk, claim=run.claim, status=run.status).update(claim=claim):
        return False
    run.claim = claim
    try:
        with recording():
            _take_output(run, driver.unread_output(job, run.output_offset))
            TerraformState.objects.filter(locked_by_run=run.pk).update(
                lock_id="", lock_info=None, locked_by_run=None, locked_at=None
            )
            _decide(run, applied=run.command == "apply" and driver.finished_well(job))
    except InvalidTransition as error:
        log.warning("%s moved while it was taken over: %s", run, error)
        return False
    return True


def _take_output(run: Run, lines: list) -> None:
    """What the command said after its worker had died."""
    entries = [(line.phase, line.level, line.kind, line.text) for line in lines if line.text]
    entries.append(("note", "warn", "", f"The worker died while {run.status}."))
    now = timezone.now()
    RunLog.objects.bulk_create(
        [
            RunLog(
                run=run,
                number=run.lines + offset,
                at=now,
                phase=phase,
                level=level[:8],
                kind=kind[:32],
                text=storable(text[:16_000]),
            )
            for offset, (phase, level, kind, text) in enumerate(entries, start=1)
        ],
        ignore_conflicts=True,
    )
    Run.objects.filter(pk=run.pk).update(lines=run.lines + len(entries))
    run.lines += len(entries)


def _decide(run: Run, *, applied: bool) -> None:
    if run.status == RunStatus.APPLYING and applied:
        # Its last command ended well, only nobody was there to write it down.
        Task.objects.filter(pk=run.task_id).update(
            applied_inputs=run.inputs_digest, resources=run.counts.get("resources", 0)
        )
        end_run(run, RunStatus.SUCCEEDED)
        return
    mark_partial(run)
    what = "in the middle of the apply" if run.status == RunStatus.APPLYING else f"while {run.status}"
    if run.cancel_requested_at:
        end_run(run, RunStatus.CANCELLED, error=f"Cancelled; the worker had died {what}.")
    elif run.interruptions >= MOST_INTERRUPTIONS:
        times = run.interruptions + 1
        end_run(run, RunStatus.FAILED, error=f"The worker died {what}, {times} times in all; given up.")
    else:
        run.move_to(
            RunStatus.QUEUED,
            interruptions=run.interruptions + 1,
            due_at=timezone.now(),
            claimed_until=None,
            worker="",
            claim=0,
        )


def sweep() -> None:
    """All that a lost message or a dead process may have left: called on every tick."""
    recover_lost()
    for task in Task.objects.filter(status=TaskStatus.DELETING):
        settle_deletion(task)
    _cancel_what_nobody_wants()
    old = timezone.now() - FORGOTTEN
    unfinished = Task.objects.filter(
        Q(status=TaskStatus.DRAFT) | Q(status=TaskStatus.CREATING), created_at__lt=old
    )
    for task in unfinished:
        if not Run.objects.filter(task=task).open().exists():
            with recording():
                Task.objects.filter(pk=task.pk).move(TaskStatus.DELETED, deleted_at=timezone.now())


def _cancel_what_nobody_wants() -> None:
    """Runs that were to be cancelled while they waited for a worker."""
    asked = Run.objects.filter(
        status__in=(RunStatus.QUEUED, RunStatus.CONFIRMED), cancel_requested_at__isnull=False
    )
    for run in asked.select_related("task__domain"):
        try_end(run, RunStatus.CANCELLED, error=f"Cancelled by {run.cancelled_by}.")
