"""What other apps record may start a run: a wake-up is queued, the step looks at the events itself."""

from typing import Any

from celery import signature
from django.dispatch import receiver

from events_app.models import LifecycleEvent
from events_app.services import wake
from events_app.signals import event_recorded

AREAS = frozenset({"session", "workflow"})


@receiver(event_recorded, dispatch_uid="tasks_app.receivers.on_event")
def on_event(event: LifecycleEvent, **_: Any) -> None:
    """Sessions and workflows are conditions of tasks."""
    if event.area in AREAS and event.name not in {"node_phase", "session_progress"}:
        wake(signature("tasks_app.steps.trigger_runs"))
