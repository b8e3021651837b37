"""What other apps record may start a run: a wake-up is queued, the step looks at the events itself."""

from typing import Any

from django.dispatch import receiver

from events_app.models import LifecycleEvent
from events_app.signals import event_recorded
from tasks_app.records import wake_triggers

AREAS = frozenset({"session", "workflow"})


@receiver(event_recorded, dispatch_uid="tasks_app.receivers.on_event")
def on_event(event: LifecycleEvent, **_: Any) -> None:
    """Sessions and workflows are conditions of tasks."""
    if event.area in AREAS and event.name not in {"node_phase", "session_progress"}:
        wake_triggers()
