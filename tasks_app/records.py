"""Changes of runs and tasks that several use cases share; each is one transaction of rows and events."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

from celery import signature
from django.db.models import F
from django.utils import timezone

from events_app.models import InvalidTransition
from events_app.services import (
    finish_background_task,
    record_event,
    recording,
    start_background_task,
    wake,
)
from events_app.states import BackgroundTaskStatus
from tasks_app.models import Run, Task, TaskEvent, TerraformState
from tasks_app.states import CHANGING, MAX_EVENTS, WORKING, Health, Operation, RunStatus, TaskStatus
from tasks_app.triggers import sync_triggers

_BACKGROUND = {
    RunStatus.SUCCEEDED: BackgroundTaskStatus.DONE,
    RunStatus.FAILED: BackgroundTaskStatus.FAILED,
    RunStatus.CANCELLED: BackgroundTaskStatus.CANCELLED,
    RunStatus.DISCARDED: BackgroundTaskStatus.CANCELLED,
}


def wake_workers() -> None:
    """Tell the workers, after commit, that a run may be due."""
    wake(signature("tasks_app.steps.advance_runs"))


def wake_triggers() -> None:
    """Tell the workers, after commit, that a trigger may be due."""
    wake(signature("tasks_app.steps.trigger_runs"))


def lock_task(task: Task) -> Task:
    """The task's row, locked until the transaction ends."""
    return Task.objects.select_for_update(of=("self",)).select_related("domain").get(pk=task.pk)


def queue_run(
    task: Task,
    operation: str,
    *,
    trigger: dict[str, Any],
    owner: Any = None,
    document: dict[str, Any] | None = None,
    **values: Any,
) -> tuple[Run, bool]:
    """Queue a run, or answer the queued one that will do the same with the newest data (and False)."""
    with recording():
        locked = lock_task(task)
        if operation in CHANGING | {Operation.DRIFT} and not values.get("creates"):
            queued = Run.objects.filter(task=locked, status=RunStatus.QUEUED, operation=operation, attempt=1)
            same = queued.filter(change={}).order_by("pk").first()
            if same is not None and not values.get("change"):
                if values.get("keeps_event") and not same.keeps_event:
                    Run.objects.filter(pk=same.pk).update(keeps_event=True)
                return same, False
        number = locked.last_run_number + 1
        Task.objects.filter(pk=task.pk).update(last_run_number=number)
        run = Run.objects.create(
            task=locked,
            number=number,
            operation=operation,
            trigger=trigger,
            owner=owner,
            document=locked.document if document is None else document,
            due_at=timezone.now(),
            **values,
        )
        event = run.describe_move("", RunStatus.QUEUED)
        if event and locked.status != TaskStatus.DRAFT:
            record_event(**event)
        wake_workers()
    return run, True


def replace_document(task: Task, document: dict[str, Any]) -> None:
    """New settings for a task, found valid; its triggers follow them."""
    Task.objects.filter(pk=task.pk).update(
        document=document, enabled=document["enabled"], revision=F("revision") + 1
    )
    task.refresh_from_db()
    sync_triggers(task)
    record_event(**task.event("task_updated", revision=task.revision))


def open_background_task(run: Run) -> None:
    """The progress bar of a run that changes something."""
    if run.background_task_id or run.operation == Operation.PREPARE:
        return
    bar = start_background_task(
        kind=f"task_{run.operation}",
        owner=run.owner,
        domain=run.task.domain.name if run.task.domain else "",
        subject=run.task.name,
        message=f"Run {run.number} of {run.task.name} started.",
    )
    run.background_task = bar
    Run.objects.filter(pk=run.pk).update(background_task=bar)


def store_event(
    task: Task, *, success: bool, started: Any, error: str = "", run: Run | None = None
) -> TaskEvent:
    """One event of the documented API, and the health that follows from the newest five."""
    document = run.document if run else task.document
    event = TaskEvent.objects.create(
        task=task,
        run=run,
        success=success,
        start_time=started,
        end_time=timezone.now(),
        error=error,
        config={
            "providers": list(document.get("providers") or []),
            "services": list(document.get("services") or []),
            "source": document.get("module", ""),
        },
    )
    refresh_health(task)
    return event


def health_of(outcomes: list[bool]) -> str:
    """Health over events, newest first (contract, CTS 3)."""
    if not outcomes:
        return Health.UNKNOWN
    if outcomes[0]:
        return Health.SUCCESSFUL
    return Health.ERRORED if all(outcomes[1:]) else Health.CRITICAL


def refresh_health(task: Task) -> None:
    """Compute a task's health anew; tell of it where it is another one."""
    newest = list(task.events.values_list("pk", "success")[:MAX_EVENTS])
    task.events.filter(is_recent=True).exclude(pk__in=[pk for pk, _ in newest]).update(is_recent=False)
    health = health_of([success for _, success in newest])
    if Task.objects.filter(pk=task.pk).exclude(health=health).update(health=health):
        record_event(**task.event("task_health", health=health, was=task.health))
    task.health = health


def end_run(run: Run, status: str, *, error: str = "", **values: Any) -> None:
    """Move a run to its end, with all that follows from it. Raises InvalidTransition where it has ended."""
    worked = run.status in WORKING
    with recording():
        run.move_to(
            status,
            error=error,
            ended_at=timezone.now(),
            due_at=None,
            claimed_until=None,
            worker="",
            **values,
        )
        run.task = lock_task(run.task)
        Run.objects.filter(pk=run.pk).update(claim=0)
        _keep_event(run, worked=worked)
        if run.background_task_id:
            finish_background_task(
                run.background_task_id,
                status=_BACKGROUND[RunStatus(status)],
                message=error or f"Run {run.number} {status}.",
                result={"run": run.pk, "task": run.task.name, "status": status, "counts": run.counts},
            )
        getattr(run, "saved_plan", None) and run.saved_plan.delete()
        TerraformState.objects.filter(locked_by_run=run.pk).update(
            lock_id="", lock_info=None, locked_by_run=None, locked_at=None
        )
        _settle_task(run)
        wake_workers()  # the next run of this task may start


def _keep_event(run: Run, *, worked: bool) -> None:
    if not run.keeps_event or run.status == RunStatus.DISCARDED:
        return
    succeeded = run.status == RunStatus.SUCCEEDED
    if run.creates and not succeeded:
        return  # the task does not come to exist
    if run.status == RunStatus.CANCELLED and not worked:
        return  # nothing was done
    started = run.started_at or run.created_at
    store_event(run.task, success=succeeded, started=started, error=run.error, run=run)


def _settle_task(run: Run) -> None:
    """Creation and deletion are decided by the end of a run."""
    task = run.task
    succeeded = run.status == RunStatus.SUCCEEDED
    if task.status == TaskStatus.DRAFT:
        _delete(task)
    elif run.creates and task.status == TaskStatus.CREATING:
        if succeeded:
            task.move_to(TaskStatus.ACTIVE)
        else:
            _delete(task)
    elif task.status == TaskStatus.DELETING:
        if run.operation == Operation.DESTROY and not succeeded:
            # What was to be destroyed is still there: the task is kept, to look at and to try again.
            task.move_to(TaskStatus.ACTIVE, enabled=False, destroy_on_delete=False)
        else:
            settle_deletion(task)


def settle_deletion(task: Task) -> bool:
    """Delete a marked task where nothing of it is to run any more."""
    with recording():
        task = lock_task(task)
        if task.status != TaskStatus.DELETING or Run.objects.filter(task=task).open().exists():
            return False
        _delete(task)
        return True


def _delete(task: Task) -> None:
    """The task goes from the documented API with its events (contract, CTS 4); its runs stay until pruned."""
    task.move_to(TaskStatus.DELETED, deleted_at=timezone.now(), drift_due_at=None)
    task.events.all().delete()
    task.triggers.all().delete()


def backoff(attempt: int) -> timedelta:
    """The pause before another attempt: 2^n seconds and up to half of that more, at most 15 minutes."""
    pause = 2.0 ** min(attempt, 12)
    return timedelta(seconds=min(pause + random.uniform(0, pause / 2), 900.0))  # noqa: S311


def retry_or_fail(run: Run, error: str, *, permanent: bool = False, **values: Any) -> None:
    """After a failed attempt: another one after a pause, or the end (contract, CTS 9.1)."""
    errors = [*run.attempt_errors, error]
    if not permanent and run.attempt <= run.retries and run.task.status != TaskStatus.DELETING:
        delay = backoff(run.attempt - 1)
        with recording():
            run.move_to(
                RunStatus.QUEUED,
                attempt=run.attempt + 1,
                attempt_errors=errors,
                due_at=timezone.now() + delay,
                claimed_until=None,
                worker="",
                claim=0,
                **values,
            )
        return
    run.attempt_errors = errors
    end_run(
        run,
        RunStatus.FAILED,
        error=run.failed_text(),
        attempt_errors=errors,
        permanent=permanent,
        **values,
    )


def try_end(run: Run, status: str, **values: Any) -> bool:
    """`end_run`, where the run has not ended meanwhile."""
    try:
        end_run(run, status, **values)
    except InvalidTransition:
        return False
    return True
