"""From triggers that are due to queued runs."""

from __future__ import annotations

import logging
from typing import Any

import re2
from django.conf import settings
from django.utils import timezone

from events_app.models import LifecycleEvent
from events_app.services import record_event, recording
from tasks_app.models import Run, Task, Trigger
from tasks_app.records import queue_run
from tasks_app.states import Operation, RunStatus, TaskStatus, TriggerKind
from tasks_app.triggers import next_tick

log = logging.getLogger(__name__)

MOST_EVENTS = 500  # looked at in one go
AREAS = {TriggerKind.SESSION: "session", TriggerKind.WORKFLOW: "workflow"}
# Which recorded events are which state of a condition.
_SESSION = {"session_started": "started"}
_WORKFLOW = {
    "workflow_published": "published",
    "workflow_failed": "failed",
    "workflow_unpublished": "unpublished",
}


def fire_due() -> int:
    """Queue a run for every trigger that is due; answer how many triggers were."""
    count = 0
    now = timezone.now()
    for row in Trigger.objects.changed(now).defer("value").select_related("task__domain"):
        count += _fire_changed(row)
    for row in Trigger.objects.ticking(now).defer("value").select_related("task__domain"):
        count += _fire_tick(row)
    count += hear_events()
    for task in Task.objects.filter(drift_due_at__lte=now, status=TaskStatus.ACTIVE):
        count += _fire_drift(task)
    return count


def retries_of(task: Task) -> int:
    """Further attempts of a triggered run."""
    own = task.document.get("retries")
    return int(settings.MUSTER_TASK_RETRIES if own is None else own)


def _queue(task: Task, trigger: dict[str, Any]) -> Run:
    run, _ = queue_run(task, Operation.APPLY, trigger=trigger, keeps_event=True, retries=retries_of(task))
    return run


def _fire_changed(row: Trigger) -> bool:
    """A run for a changed value, unless one is queued that will take the newest anyway."""
    waiting = Run.objects.filter(task=row.task, status=RunStatus.QUEUED, operation=Operation.APPLY)
    if waiting.exists():
        return False
    _queue(row.task, {"kind": row.kind, "detail": describe(row)})
    return True


def describe(row: Trigger) -> str:
    """What a trigger watches, in a few words."""
    spec = row.spec
    if row.kind == TriggerKind.CONSUL_KV:
        return str(spec.get("path", ""))
    if row.kind == TriggerKind.SCHEDULE:
        return str(spec.get("cron", ""))
    if spec.get("names"):
        return ", ".join(spec["names"])
    return str(spec.get("regexp") or spec.get("template") or spec.get("id") or spec.get("name") or "")


def _fire_tick(row: Trigger) -> bool:
    """A scheduled tick: skipped while the task is at work or disabled (contract, CTS 6)."""
    following = next_tick(row.spec.get("cron", ""), timezone.now())
    # Whoever moves the time on is the one who fires.
    mine = Trigger.objects.filter(pk=row.pk, due_at=row.due_at).update(
        due_at=following, error="" if following else "This schedule has no future time."
    )
    if not mine or not row.task.enabled:
        return False
    if Run.objects.filter(task=row.task).busy().exists():
        log.error("A scheduled run of %s is skipped: the task is at work.", row.task)
        record_event(**row.task.event("task_tick_skipped", reason="the task is at work"))
        return False
    _queue(row.task, {"kind": row.kind, "detail": describe(row)})
    return True


def _fire_drift(task: Task) -> bool:
    following = next_tick(task.document.get("drift_schedule") or "", timezone.now())
    if not Task.objects.filter(pk=task.pk, drift_due_at=task.drift_due_at).update(drift_due_at=following):
        return False
    if task.enabled:
        queue_run(task, Operation.DRIFT, trigger={"kind": "schedule", "detail": "drift check"})
    return True


def hear_events() -> int:
    """Look at the events since the last look, for the triggers that wait for one."""
    count = 0
    for row in Trigger.objects.heard().defer("value").select_related("task__domain"):
        events = list(
            LifecycleEvent.objects.after(row.cursor).filter(area=AREAS[TriggerKind(row.kind)], repeats=None)[
                :MOST_EVENTS
            ]
        )
        if not events:
            continue
        fitting = [event for event in events if fits(row, event)]
        with recording():
            # The cursor moves with the run: neither without the other.
            if not Trigger.objects.filter(pk=row.pk, cursor=row.cursor).update(cursor=events[-1].number):
                continue
            if fitting:
                newest = fitting[-1]
                detail = f"{newest.name} {newest.subject_name}".strip()
                _queue(row.task, {"kind": row.kind, "detail": detail, "event": newest.number})
                count += 1
    return count


def fits(row: Trigger, event: LifecycleEvent) -> bool:
    """Whether an event is what a session or workflow condition waits for, in the task's own domain."""
    domain = row.task.domain.name if row.task.domain else ""
    if event.domain != domain:
        return False
    spec = row.spec
    states = session_states(event) if row.kind == TriggerKind.SESSION else workflow_states(event)
    if not set(spec.get("states", [])) & states:
        return False
    template = event.data.get("template") or event.data.get("templateName") or ""
    if spec.get("template") and spec["template"] != template:
        return False
    if spec.get("id") and spec["id"] not in {event.subject_id, event.data.get("workflow_id")}:
        return False
    return not spec.get("name") or bool(re2.fullmatch(spec["name"], event.subject_name))


def session_states(event: LifecycleEvent) -> set[str]:
    """The words of a session condition that an event stands for."""
    if event.name == "session_terminated":
        return {"ended", "succeeded" if event.data.get("result") == "SUCCESS" else "failed"}
    return {_SESSION[event.name]} if event.name in _SESSION else set()


def workflow_states(event: LifecycleEvent) -> set[str]:
    """The words of a workflow condition that an event stands for."""
    words = {"changed", str(event.data.get("actualStatus", "")).lower()}
    if event.name in _WORKFLOW:
        words.add(_WORKFLOW[event.name])
    return words
