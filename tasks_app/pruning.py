"""Forgets history that is older than kept. The newest events of a task stay: its health hangs on them."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from tasks_app.models import Run, StateVersion, Task, TaskEvent
from tasks_app.states import TaskStatus

STATE_VERSIONS = 100  # kept of each state


def prune() -> int:
    """Delete old runs, events, deleted tasks, surplus versions of states; answer how many runs."""
    oldest = timezone.now() - timedelta(days=settings.MUSTER_TASK_RUNS_KEPT_DAYS)
    TaskEvent.objects.filter(end_time__lt=oldest, is_recent=False).delete()
    keep = TaskEvent.objects.exclude(run=None).values("run_id")
    _, counts = Run.objects.filter(ended_at__lt=oldest).exclude(pk__in=keep).delete()
    Task.objects.filter(status=TaskStatus.DELETED, deleted_at__lt=oldest, runs=None).delete()
    for version in StateVersion.objects.order_by().values("state_id").distinct():
        versions = StateVersion.objects.filter(state_id=version["state_id"])
        surplus = versions.values_list("pk", flat=True)[STATE_VERSIONS:]
        StateVersion.objects.filter(pk__in=list(surplus)).delete()
    return counts.get("tasks_app.Run", 0)
