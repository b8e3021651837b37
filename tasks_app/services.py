"""Use cases of tasks and runs; every door calls these."""

from __future__ import annotations

import time
import uuid
from typing import Any

from django.db import IntegrityError, connection
from django.utils import timezone

from events_app.models import InvalidTransition
from events_app.services import record_event, recording
from tasks_app.models import Run, Task
from tasks_app.records import (
    end_run,
    lock_task,
    queue_run,
    replace_document,
    settle_deletion,
    store_event,
    try_end,
    wake_workers,
)
from tasks_app.states import (
    NAMED,
    OPEN,
    WORKING,
    Operation,
    RunStatus,
    TaskStatus,
)
from tasks_app.triggers import sync_triggers

TAKEN_UP = 60.0  # seconds that a request waits for a worker to take its run up


class TaskExists(Exception):
    """The name is taken."""

    def __init__(self, name: str) -> None:
        super().__init__(f"task with name {name} already exists")


class TaskActive(Exception):
    """The task is at work and can't be changed now."""

    def __init__(self, name: str) -> None:
        super().__init__(f"task '{name}' is active and cannot be updated at this time")


class RunFailed(Exception):
    """The run that a request asked for ended badly. `permanent`: the settings are wrong."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.error or f"the run was {run.status}")
        self.run = run
        self.permanent = run.permanent


class NobodyWorks(Exception):
    """No worker took the run up in time; it was taken back."""

    def __init__(self) -> None:
        super().__init__("error initializing task: no worker took it up in time")


# -- tasks --------------------------------------------------------------------------------------------


def begin_task(
    *, document: dict[str, Any], domain: Any, actor: Any, operation: str = Operation.PREPARE
) -> tuple[Task, Run | None]:
    """Begin to create a task; answer it and its first run, whose end decides whether it comes to exist.

    `operation`: prepare, apply (run now), or inspect, which creates nothing that anybody sees. A task that is
    disabled from the start is not initialised before it is enabled: it exists at once, without a run.
    Raises TaskExists.
    """
    inspects = operation == Operation.INSPECT
    try:
        with recording():
            if Task.objects.filter(name=document["name"], domain=domain, status__in=NAMED).exists():
                raise TaskExists(document["name"])
            task = Task.objects.create(
                uuid=uuid.uuid4(),
                name=document["name"],
                domain=domain,
                owner=actor,
                status=TaskStatus.DRAFT if inspects else TaskStatus.CREATING,
                enabled=document["enabled"],
                document=document,
            )
            sync_triggers(task)
            if not document["enabled"]:
                task.move_to(TaskStatus.DELETED if inspects else TaskStatus.ACTIVE)
                return task, None
            run, _ = queue_run(
                task,
                operation,
                trigger=_trigger("create", actor),
                owner=actor,
                creates=not inspects,
                keeps_event=operation == Operation.APPLY,
            )
    except IntegrityError:
        raise TaskExists(document["name"]) from None
    return task, run


def update_enabled(*, task: Task, enabled: bool, actor: Any, operation: str = "") -> Run | None:
    """Enable or disable a task; answer the run to wait for, or None where nothing is to run.

    `operation` "": initialise and leave the apply to the next trigger. "inspect": only say what would be
    done, the task stays as it is. "apply": apply at once; an event is kept in every case, also when
    disabling (contract, CTS 2.4). Raises TaskActive.
    """
    with recording():
        locked = _idle(task, changes=operation != Operation.INSPECT)
        if not enabled:
            if operation != Operation.INSPECT:
                _set_enabled(locked, False)
            if operation == Operation.APPLY:
                store_event(locked, success=True, started=timezone.now())
            return None
        wanted = operation or Operation.PREPARE
        run, _ = queue_run(
            locked,
            wanted,
            trigger=_trigger("enable" if operation != Operation.INSPECT else "inspect", actor),
            owner=actor,
            change={} if operation == Operation.INSPECT else {"enabled": True},
            keeps_event=operation == Operation.APPLY,
        )
        return run


def _set_enabled(task: Task, enabled: bool) -> None:
    if Task.objects.filter(pk=task.pk).exclude(enabled=enabled).update(enabled=enabled):
        record_event(**task.event("task_enabled" if enabled else "task_disabled"))
    task.enabled = enabled


def begin_update(*, task: Task, document: dict[str, Any], actor: Any, operation: str = "") -> Run | None:
    """Replace all settings of a task once they are found valid; answer the run that finds out.

    Settings that disable it are taken at once, without a run. Raises TaskActive, and ValueError where the
    name is another one.
    """
    if document["name"] != task.name:
        raise ValueError(f"the name of a task can't be changed: '{task.name}' is not '{document['name']}'")
    inspects = operation == Operation.INSPECT
    with recording():
        locked = _idle(task, changes=not inspects)
        if not document["enabled"]:
            if not inspects:
                replace_document(locked, document)
            return None
        run, _ = queue_run(
            locked,
            operation or Operation.PREPARE,
            trigger=_trigger("update", actor),
            owner=actor,
            document=document,
            change={} if inspects else {"document": document, "enabled": True},
            keeps_event=operation == Operation.APPLY,
        )
        return run


def _idle(task: Task, *, changes: bool) -> Task:
    """The task, locked and at rest; a plan that waits for approval is out of date when it `changes`."""
    locked = lock_task(task)
    if Run.objects.filter(task=locked).busy().exists() or locked.status != TaskStatus.ACTIVE:
        raise TaskActive(task.name)
    if changes:
        for waiting in Run.objects.filter(task=locked, status=RunStatus.UNCONFIRMED):
            end_run(waiting, RunStatus.DISCARDED, error="The task was changed.")
    return locked


def delete_task(*, task: Task, actor: Any, destroy: bool = False) -> dict[str, Any]:
    """Mark a task for deletion; it goes when nothing of it runs. Answers what it will leave behind.

    `destroy`: everything that it made is destroyed first; where that fails the task is kept, disabled.
    Marking it again changes nothing.
    """
    with recording():
        locked = lock_task(task)
        if locked.status == TaskStatus.DELETING:
            return {} if locked.destroy_on_delete else locked.left_behind()
        locked.move_to(TaskStatus.DELETING, destroy_on_delete=destroy)
        waiting = Run.objects.filter(
            task=locked, status__in=(RunStatus.QUEUED, RunStatus.UNCONFIRMED, RunStatus.CONFIRMED)
        )
        for run in waiting.select_related("task__domain"):
            run.task = locked
            _cancel_waiting(run, "The task is being deleted.")
        if destroy:
            queue_run(locked, Operation.DESTROY, trigger=_trigger("delete", actor), owner=actor)
            return {}
        left = locked.left_behind()
        settle_deletion(locked)
    return left


def _cancel_waiting(run: Run, why: str) -> None:
    # Not `end_run`: its consequences for the task are the caller's own business here.
    status = RunStatus.DISCARDED if run.status == RunStatus.UNCONFIRMED else RunStatus.CANCELLED
    run.move_to(status, error=why, ended_at=timezone.now(), due_at=None)


# -- runs ---------------------------------------------------------------------------------------------


def request_run(*, task: Task, actor: Any, operation: str = Operation.APPLY) -> Run:
    """Ask for a run now: apply, inspect, drift or destroy. The queued one, where there is one alike.

    Raises InvalidTransition for a task that is being deleted, or that is disabled and would be changed.
    """
    if task.status != TaskStatus.ACTIVE:
        raise InvalidTransition(str(task), task.status, "run")
    if operation == Operation.APPLY and not task.enabled:
        raise InvalidTransition(str(task), "disabled", "run")
    run, _ = queue_run(
        task,
        operation,
        trigger=_trigger("manual", actor),
        owner=actor,
        keeps_event=operation in (Operation.APPLY, Operation.DESTROY),
    )
    return run


def approve_run(*, run: Run, actor: Any) -> Run:
    """Let a planned run go on: exactly the saved plan is applied. Raises InvalidTransition."""
    run.move_to(
        RunStatus.CONFIRMED, approved_by=getattr(actor, "username", ""), due_at=timezone.now(), claim=0
    )
    wake_workers()
    return run


def discard_run(*, run: Run, actor: Any) -> Run:
    """Refuse the plan of a run that waits for approval. Raises InvalidTransition."""
    end_run(run, RunStatus.DISCARDED, error=f"Discarded by {getattr(actor, 'username', '')}.")
    return run


def cancel_run(*, run: Run, actor: Any) -> Run:
    """Stop a run: at once where it waits, by an interrupt (SIGINT) where it is at work.

    Raises InvalidTransition where it has ended.
    """
    by = getattr(actor, "username", "")
    with recording():
        run = Run.objects.select_for_update(of=("self",)).select_related("task__domain").get(pk=run.pk)
        if run.status not in OPEN:
            raise InvalidTransition(str(run), run.status, RunStatus.CANCELLED)
        asked = Run.objects.filter(pk=run.pk, cancel_requested_at=None)
        if asked.update(cancel_requested_at=timezone.now(), cancelled_by=by):
            record_event(**run.task.event("task_run_cancelling", run=run.pk, number=run.number, by=by))
    if run.status not in WORKING:
        try_end(run, RunStatus.CANCELLED, error=f"Cancelled by {by}.")
    run.refresh_from_db()
    return run


def wait_for_run(run: Run) -> Run:
    """Wait until a run has come to rest, and answer it as it is then.

    Raises RunFailed where it ended badly, NobodyWorks where no worker took it up.
    """
    pause, began = 0.02, time.monotonic()
    while True:
        run.refresh_from_db()
        if run.status == RunStatus.SUCCEEDED or run.status == RunStatus.UNCONFIRMED:
            return run
        if run.status not in OPEN:
            raise RunFailed(run)
        untouched = run.status == RunStatus.QUEUED and run.started_at is None
        late = untouched and time.monotonic() - began > TAKEN_UP
        if late and try_end(run, RunStatus.CANCELLED, error="no worker took it up in time"):
            raise NobodyWorks
        if not connection.in_atomic_block and pause > 0.2:
            connection.close()  # a wait may be long; the connection is of use to others
        time.sleep(pause)
        pause = min(pause * 1.3, 0.25)


def _trigger(kind: str, actor: Any) -> dict[str, Any]:
    return {"kind": kind, "by": getattr(actor, "username", "")}
