"""Takes due runs one by one and brings each to its next rest. Steps call it; many processes may.

A run at work is claimed: a random number in its row, a time until which the claim holds, and who works. All
that is written about it is written where the claim still stands, so a worker that was given up for dead
writes nothing any more. A worker that can't renew its claim interrupts what it runs before others may take
the run over.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db import IntegrityError, InterfaceError, OperationalError
from django.utils import timezone

from accounts_app.secrets import decrypt, encrypt
from events_app.models import InvalidTransition
from events_app.services import record_event, recording
from tasks_app import drivers, owners
from tasks_app.drivers.base import DirectoryBusy, DriverError, Job, Plan, Stopped
from tasks_app.drivers.texts import storable
from tasks_app.models import Run, SavedPlan, Task
from tasks_app.records import end_run, open_background_task, replace_document, retry_or_fail
from tasks_app.rendering import NotReady, Rendered, job_of, render
from tasks_app.states import CHANGING, CLAIM, INPUT_WAIT, Operation, RunStatus, TaskStatus
from tasks_app.watch import ClaimLost, RunWatch

log = logging.getLogger(__name__)

_slots = threading.BoundedSemaphore(settings.MUSTER_TASK_RUNS)


def work() -> int:
    """Take due runs until there is none, where this process has a free slot; answer how many."""
    if not _slots.acquire(blocking=False):
        return 0  # those at work look for the next run when they end
    done = 0
    try:
        while not owners.shutting_down():
            run = claim_next()
            if run is None:
                break
            execute(run)
            done += 1
    finally:
        _slots.release()
    return done


def claim_next() -> Run | None:
    """Claim the run that has been due longest, of a task that nobody works on."""
    for run in Run.objects.due(timezone.now()).select_related("task__domain", "owner")[:20]:
        if _claim(run):
            return run
    return None


def _claim(run: Run) -> bool:
    now = timezone.now()
    to = RunStatus.PLANNING if run.status == RunStatus.QUEUED else RunStatus.APPLYING
    try:
        with recording():
            if to == RunStatus.PLANNING and run.operation in CHANGING:
                _supersede(run)
            run.move_to(
                to,
                claim=secrets.randbits(62) + 1,
                claimed_until=now + timedelta(seconds=CLAIM),
                worker=owners.me(),
                due_at=None,
                command="",
                output_offset=0,
                started_at=run.started_at or now,
                **({"apply_started_at": now} if to == RunStatus.APPLYING else {}),
            )
    except (InvalidTransition, IntegrityError):
        return False  # another worker was faster, or another run of the task is at work
    return True


def _supersede(run: Run) -> None:
    """A plan that waits for approval is out of date when a newer run begins."""
    for waiting in Run.objects.filter(task=run.task, status=RunStatus.UNCONFIRMED):
        end_run(waiting, RunStatus.DISCARDED, error=f"Run {run.number} took its place.")


def execute(run: Run) -> None:
    """Bring a claimed run to its next rest; never raises."""
    watch = RunWatch(run)
    try:
        ending = _attempt(run, watch)
        if ending is not None:
            watch.persist(ending)
    except ClaimLost:
        log.warning("%s was given to another worker; this one leaves it.", run)
    except InvalidTransition as error:
        log.warning("%s was moved by somebody else: %s", run, error)
    except Exception:
        # The claim runs out, and the sweep finds the run.
        log.exception("Nothing could be written about the end of %s", run)
    finally:
        watch.close()


def _attempt(run: Run, watch: RunWatch) -> Callable[[], object] | None:
    """One attempt; what is to be written about a bad end."""
    try:
        open_background_task(run)
        if run.status == RunStatus.PLANNING:
            _plan_then_maybe_apply(run, watch)
        else:
            _apply(run, watch, _saved_plan(run))
    except NotReady as not_ready:
        return partial(_wait_for_inputs, run, not_ready)
    except DirectoryBusy:
        return partial(_requeue, run, timedelta(seconds=1))
    except Stopped as stopped:
        return partial(_stopped, run, watch, stopped)
    except DriverError as failure:
        watch.note(str(failure), level="error")
        return partial(_failed, run, failure)
    except (ClaimLost, InvalidTransition):
        raise
    except (OperationalError, InterfaceError) as away:
        log.warning("The database is away; %s starts again: %s", run, away)
        return partial(_requeue, run, timedelta(seconds=1))
    except Exception as fault:
        log.exception("%s met a fault of ours", run)
        return partial(_failed, run, DriverError(f"internal error: {type(fault).__name__}"))
    return None


def _plan_then_maybe_apply(run: Run, watch: RunWatch) -> None:
    rendered = render(run, watch.note)
    fresh = run.operation == Operation.PREPARE or bool(run.change) or run.creates
    job = job_of(run, rendered, fresh=fresh)
    watch.hide(rendered.secrets)
    if run.trigger.get("kind") == "schedule" and rendered.digest == run.task.applied_inputs:
        # A tick without changes is an event and no apply (contract, CTS 4).
        watch.note("Nothing has changed since the last apply.")
        watch.persist(lambda: end_run(run, RunStatus.SUCCEEDED, has_changes=False))
        return
    driver = drivers.driver(job.document.get("driver", "terraform"))
    driver.prepare(job, watch)
    watch.persist(lambda: _take_over_change(run))
    if run.operation == Operation.PREPARE:
        watch.persist(lambda: end_run(run, RunStatus.SUCCEEDED))
        return
    plan = driver.plan(job, watch)
    watch.persist(lambda: _keep_plan(run, plan, rendered))
    if run.operation in (Operation.INSPECT, Operation.DRIFT):
        watch.persist(lambda: _end_look(run, plan))
    elif not plan.has_changes:
        watch.persist(lambda: _end_applied(run, rendered.digest, plan.resources))
    elif run.needs_approval:
        watch.persist(lambda: _rest_for_approval(run))
    else:
        watch.persist(lambda: run.move_to(RunStatus.APPLYING, apply_started_at=timezone.now()))
        _apply(run, watch, plan, job)


def _apply(run: Run, watch: RunWatch, plan: Plan, job: Job | None = None) -> None:
    if job is None:
        rendered = render(run, watch.note)
        job = job_of(run, rendered, fresh=False)
        watch.hide(rendered.secrets)
    driver = drivers.driver(job.document.get("driver", "terraform"))
    if not job.directory.exists():  # approved here, planned on another machine
        driver.prepare(job, watch)
    driver.apply(job, plan, watch)
    watch.persist(lambda: _end_applied(run, run.inputs_digest, plan.resources))


# -- what is written ----------------------------------------------------------------------------------


def _take_over_change(run: Run) -> None:
    """The settings are valid: what the request wanted to change is changed now."""
    if not run.change:
        return
    with recording():
        task = Task.objects.select_related("domain").get(pk=run.task_id)
        if run.change.get("document"):
            replace_document(task, run.change["document"])
        elif (
            Task.objects.filter(pk=task.pk)
            .exclude(enabled=run.change["enabled"])
            .update(enabled=run.change["enabled"])
        ):
            record_event(**task.event("task_enabled"))
        Run.objects.filter(pk=run.pk).update(change={})
    run.change = {}
    run.task.refresh_from_db()


def _keep_plan(run: Run, plan: Plan, rendered: Rendered) -> None:
    values = {
        "has_changes": plan.has_changes,
        "changes": storable([asdict(change) for change in plan.changes]),
        "counts": {**plan.counts, "resources": plan.resources},
        "plan_text": storable(plan.text),
        "diagnostics": storable(list(plan.diagnostics)),
        "inputs_digest": rendered.digest,
        "planned_at": timezone.now(),
    }
    with recording():
        if not Run.objects.filter(pk=run.pk, claim=run.claim).update(**values):
            raise ClaimLost
        for name, value in values.items():
            setattr(run, name, value)
        if plan.has_changes and run.operation in CHANGING:
            SavedPlan.objects.update_or_create(
                run=run,
                defaults={
                    "encrypted": encrypt({"plan": base64.b64encode(plan.file).decode()}),
                    "sha256": hashlib.sha256(plan.file).hexdigest(),
                },
            )


def _saved_plan(run: Run) -> Plan:
    """The plan that was approved, byte for byte. Raises DriverError where it is not that any more."""
    saved = SavedPlan.objects.get(run=run)
    content = base64.b64decode(decrypt(saved.encrypted)["plan"])
    if hashlib.sha256(content).hexdigest() != saved.sha256:
        raise DriverError("The saved plan is damaged.", permanent=True)
    return Plan(has_changes=True, file=content, resources=run.counts.get("resources", 0))


def _end_look(run: Run, plan: Plan) -> None:
    with recording():
        if run.operation == Operation.DRIFT:
            found = {"at": timezone.now().isoformat(), "run": run.number, "changes": run.changes}
            Task.objects.filter(pk=run.task_id).update(drift=found)
        end_run(run, RunStatus.SUCCEEDED)


def _end_applied(run: Run, digest: str, resources: int) -> None:
    with recording():
        if run.operation == Operation.DESTROY:
            digest, resources = "", 0
        Task.objects.filter(pk=run.task_id).update(
            applied_inputs=digest, resources=resources, **({"drift": None} if run.has_changes else {})
        )
        end_run(run, RunStatus.SUCCEEDED)


def _rest_for_approval(run: Run) -> None:
    """The plan is saved and waits; a task that this run creates exists from now on."""
    with recording():
        creates = run.creates and run.task.status == TaskStatus.CREATING
        run.move_to(RunStatus.UNCONFIRMED, claimed_until=None, worker="", claim=0, due_at=None, creates=False)
        if creates:
            run.task.move_to(TaskStatus.ACTIVE)


def _requeue(run: Run, delay: timedelta, **values: Any) -> None:
    run.move_to(
        RunStatus.QUEUED,
        due_at=timezone.now() + delay,
        claimed_until=None,
        worker="",
        claim=0,
        **values,
    )


def _wait_for_inputs(run: Run, error: NotReady) -> None:
    """Data is not complete: look again soon, for a minute in all (contract, CTS 6)."""
    waited = (timezone.now() - run.created_at).total_seconds()
    if error.permanent or waited > INPUT_WAIT:
        text = str(error) if error.permanent else f"error initializing task: {error}"
        end_run(run, RunStatus.FAILED, error=text, permanent=error.permanent)
        return
    _requeue(run, timedelta(seconds=1))


def mark_partial(run: Run) -> None:
    """An apply was begun and not ended well: what was planned may be there, in part."""
    if run.status == RunStatus.APPLYING:
        count = max(run.task.resources, run.counts.get("resources", 0))
        Task.objects.filter(pk=run.task_id).update(resources=count, applied_inputs="")


def _failed(run: Run, error: DriverError) -> None:
    with recording():
        mark_partial(run)
        values = {"diagnostics": storable(error.diagnostics)} if error.diagnostics else {}
        retry_or_fail(run, storable(str(error)), permanent=error.permanent, **values)


def _stopped(run: Run, watch: RunWatch, stopped: Stopped) -> None:
    if stopped.reason == "lost":
        raise ClaimLost
    mark_partial(run)
    if stopped.reason == "cancelled":
        run.refresh_from_db(fields=["cancelled_by"])
        by = f" by {run.cancelled_by}" if run.cancelled_by else ""
        end_run(run, RunStatus.CANCELLED, error=f"Cancelled{by} while {run.status}.")
    elif stopped.reason == "timed_out":
        text = f"The run was interrupted after its time-out of {watch.timeout:.0f} s."
        retry_or_fail(run, text)
    else:  # this worker goes down: another one plans anew
        interruptions = run.interruptions + 1
        watch.note("The worker was told to stop; the run starts again.")
        _requeue(run, timedelta(0), interruptions=interruptions)
