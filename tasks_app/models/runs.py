"""Runs of tasks: what was planned, done and said."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any, Self

from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from accounts_app.models import User
from events_app.models import BackgroundTask, Lifecycle, LifecycleQuerySet
from tasks_app.models.tasks import Task
from tasks_app.states import BUSY, ENDED, OPEN, RUN_MOVES, WORKING, Operation, RunStatus


class RunQuerySet(LifecycleQuerySet):
    """Runs: moved by `move`."""

    def visible_to(self, user: Any) -> Self:
        """Runs of the tasks that `user` may see."""
        return self.filter(task__in=Task.objects.visible_to(user))

    def due(self, now: datetime) -> Self:
        """What a worker may take now: waiting, and nothing of the same task at work."""
        at_work = Run._base_manager.filter(task=OuterRef("task"), status__in=WORKING)
        waiting = self.filter(status__in=(RunStatus.QUEUED, RunStatus.CONFIRMED), due_at__lte=now)
        return waiting.exclude(Exists(at_work)).order_by("due_at", "pk")

    def newest_of_each(self) -> Self:
        """The newest run of each task."""
        newer = Run._base_manager.filter(task=OuterRef("task"), number__gt=OuterRef("number"))
        return self.exclude(Exists(newer))

    def at_work(self) -> Self:
        """What a worker has claimed."""
        return self.filter(status__in=WORKING)

    def open(self) -> Self:
        """Not ended."""
        return self.filter(status__in=OPEN)

    def busy(self) -> Self:
        """Not ended, and not resting until somebody approves."""
        return self.filter(status__in=BUSY)


class Run(Lifecycle):
    """One execution of a task, all its attempts included."""

    TRANSITIONS = RUN_MOVES

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="runs")
    number = models.IntegerField()  # counts the runs of one task
    operation = models.CharField(max_length=16, choices=Operation, default=Operation.APPLY)
    status = models.CharField(max_length=16, choices=RunStatus, default=RunStatus.QUEUED)
    trigger = models.JSONField(default=dict)  # {"kind", "by", "detail"}
    owner = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    document = models.JSONField(default=dict)  # the task's settings as this run uses them
    change = models.JSONField(default=dict)  # written to the task once this run has validated it
    creates = models.BooleanField(default=False)  # its end decides whether the task comes to exist
    keeps_event = models.BooleanField(default=False)  # its end is an event of the documented API
    retries = models.IntegerField(default=0)
    attempt = models.IntegerField(default=1)
    interruptions = models.IntegerField(default=0)  # deaths of its worker
    attempt_errors = models.JSONField(default=list)
    error = models.TextField(blank=True)
    permanent = models.BooleanField(default=False)  # the settings are wrong, not the world
    diagnostics = models.JSONField(default=list)
    has_changes = models.BooleanField(null=True)
    changes = models.JSONField(default=list)  # [{"action", "address", "before", "after", "reason"}]
    counts = models.JSONField(default=dict)  # {"add", "change", "remove"}
    plan_text = models.TextField(blank=True)
    inputs_digest = models.CharField(max_length=64, blank=True)
    lines = models.IntegerField(default=0)
    output_offset = models.BigIntegerField(default=0)  # bytes of the present command's output stored
    command = models.CharField(max_length=32, blank=True)  # which command is at work
    due_at = models.DateTimeField(null=True, blank=True)
    claim = models.BigIntegerField(default=0)
    claimed_until = models.DateTimeField(null=True, blank=True)
    worker = models.CharField(max_length=255, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancelled_by = models.CharField(max_length=150, blank=True)
    approved_by = models.CharField(max_length=150, blank=True)
    background_task = models.ForeignKey(
        BackgroundTask, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    started_at = models.DateTimeField(null=True, blank=True)
    planned_at = models.DateTimeField(null=True, blank=True)
    apply_started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True, db_index=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["task", "number"], name="run_number_in_task"),
            # The database itself keeps a task from being worked on twice at the same time.
            models.UniqueConstraint(
                fields=["task"], name="one_run_at_work", condition=Q(status__in=sorted(WORKING))
            ),
        ]
        indexes = [
            models.Index(fields=["due_at"], name="run_due", condition=Q(due_at__isnull=False)),
            models.Index(fields=["task", "-number"], name="run_of_task"),
            models.Index(fields=["status", "claimed_until"], name="run_status_claim"),
        ]

    def __str__(self) -> str:
        return f"run {self.number} of {self.task}"

    def describe_move(self, old: str, new: str) -> dict[str, Any] | None:
        """task_run_<status>, with which run of which task; error and counts at its end."""
        data: dict[str, Any] = {
            "run": self.pk,
            "number": self.number,
            "operation": self.operation,
            "status": new,
            "attempt": self.attempt,
        }
        if self.counts:
            data["counts"] = self.counts
        if new in ENDED:
            data["error"] = self.error[:500]
        return self.task.event(f"task_run_{new}", **data)

    @property
    def is_open(self) -> bool:
        """Whether anything is still to come of it."""
        return self.status in OPEN

    @property
    def duration(self) -> timedelta | None:
        """From the first attempt's start to the end, or to now."""
        if self.started_at is None:
            return None
        return (self.ended_at or timezone.now()) - self.started_at

    @property
    def needs_approval(self) -> bool:
        """Whether its plan waits for a person: not applied by itself, or it destroys what is guarded."""
        if self.operation != Operation.APPLY or not self.has_changes:
            return False
        if not self.document.get("auto_apply", True):
            return True
        return bool(self.document.get("guard_destroy")) and self.counts.get("remove", 0) > 0

    def readable_plan(self) -> list[tuple[str, str, Any, Any]]:
        """The plan as (action, address, before, after); sensitive values are masked."""
        return [
            (change["action"], change["address"], change.get("before"), change.get("after"))
            for change in self.changes
        ]

    def failed_text(self) -> str:
        """All attempts' errors as the original words them (contract, CTS 4: the first one is dropped)."""
        errors = self.attempt_errors
        if len(errors) < 2:
            return errors[0] if errors else ""
        text = f"retry attempt #1 failed '{errors[1]}'"
        for count, error in enumerate(errors[2:], start=2):
            text = f"retry attempt #{count} failed '{error}': {text}"
        return text


class SavedPlan(models.Model):
    """The plan file of a run, encrypted: it holds every value of the configuration."""

    run = models.OneToOneField(Run, on_delete=models.CASCADE, related_name="saved_plan")
    encrypted = models.TextField()
    sha256 = models.CharField(max_length=64)

    def __str__(self) -> str:
        return f"plan of {self.run}"


class RunLog(models.Model):
    """One line of a run's output."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="log")
    number = models.IntegerField()
    at = models.DateTimeField()
    phase = models.CharField(max_length=16)  # init, validate, plan, apply, note
    level = models.CharField(max_length=8, default="info")
    kind = models.CharField(max_length=32, blank=True)  # Terraform's `type`
    text = models.TextField()

    class Meta:
        ordering = ["run", "number"]
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="line_in_run")]

    def __str__(self) -> str:
        return self.text


class TaskEventQuerySet(models.QuerySet["TaskEvent"]):
    """Events of the documented API."""

    def recent(self) -> Self:
        """The newest five of each task, newest first: what the documented API shows."""
        return self.filter(is_recent=True).order_by("task_id", "-end_time", "-pk")


class TaskEvent(models.Model):
    """One event of the documented API: a run that counts, or one imported from a Consul-Terraform-Sync."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="events")
    run = models.ForeignKey(Run, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    uuid = models.UUIDField(default=uuid.uuid4)
    success = models.BooleanField()
    start_time = models.DateTimeField()
    end_time = models.DateTimeField(db_index=True)
    error = models.TextField(blank=True)
    config = models.JSONField(null=True, blank=True)  # {"providers", "services", "source"}

    is_recent = models.BooleanField(default=True)  # one of the task's newest five (records.refresh_health)

    objects = TaskEventQuerySet.as_manager()

    class Meta:
        ordering = ["-end_time", "-pk"]
        constraints = [models.UniqueConstraint(fields=["task", "uuid"], name="event_once_in_task")]
        indexes = [
            models.Index(fields=["task", "-end_time"], name="event_of_task"),
            # A status list reads five rows of each task, however long its history is.
            models.Index(fields=["task"], name="event_recent", condition=Q(is_recent=True)),
        ]

    def __str__(self) -> str:
        return f"{'success' if self.success else 'failure'} of {self.task}"
