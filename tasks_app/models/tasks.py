"""Tasks and what triggers them."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any, Self

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from accounts_app.models import Domain, OwnedQuerySet, User
from events_app.models import Lifecycle, LifecycleQuerySet
from tasks_app.states import HEARD, NAMED, TASK_MOVES, VISIBLE, WATCHED, Health, TaskStatus, TriggerKind


class TaskQuerySet(LifecycleQuerySet, OwnedQuerySet):  # type: ignore[override]  # of as_manager
    """Tasks: moved by `move`, seen by `visible_to`."""

    def existing(self) -> Self:
        """Those that the documented API knows, in order of their names."""
        return self.filter(status__in=VISIBLE).order_by("name", "pk")


class Task(Lifecycle):
    """What to do to the infrastructure, and when. `document` holds the settings (serializers.finalize)."""

    TRANSITIONS = TASK_MOVES

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(max_length=200)
    domain = models.ForeignKey(Domain, null=True, blank=True, on_delete=models.PROTECT)
    owner = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    status = models.CharField(max_length=16, choices=TaskStatus, default=TaskStatus.CREATING)
    enabled = models.BooleanField(default=True)
    document = models.JSONField(default=dict)
    revision = models.IntegerField(default=1)  # counts full updates
    health = models.CharField(max_length=16, choices=Health, default=Health.UNKNOWN)
    last_run_number = models.IntegerField(default=0)
    applied_inputs = models.CharField(max_length=64, blank=True)  # digest of what the last good apply used
    resources = models.IntegerField(default=0)  # in Terraform's state after the last apply
    drift = models.JSONField(null=True, blank=True)  # {"at", "changes"} of the last drift check
    drift_due_at = models.DateTimeField(null=True, blank=True)
    destroy_on_delete = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects = TaskQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["domain", "name"],
                name="task_name_in_domain",
                condition=Q(status__in=sorted(NAMED), domain__isnull=False),
            ),
            # Two constraints: SQLite can't be told that nulls are equal.
            models.UniqueConstraint(
                fields=["name"],
                name="task_name_without_domain",
                condition=Q(status__in=sorted(NAMED), domain__isnull=True),
            ),
        ]
        indexes = [
            models.Index(fields=["status", "name"], name="task_status_name"),
            models.Index(
                fields=["drift_due_at"], name="task_drift_due", condition=Q(drift_due_at__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"task {self.name}"

    def event(self, name: str, **data: Any) -> dict[str, Any]:
        """Keywords of `record_event` for this task."""
        return {
            "name": name,
            "area": "task",
            "subject_id": str(self.uuid),
            "subject_name": self.name,
            "data": {"task": self.name, "task_id": str(self.uuid), **data},
            "domain": self.domain.name if self.domain_id and self.domain else "",
            "user_id": self.owner_id,
        }

    def describe_move(self, old: str, new: str) -> dict[str, Any] | None:
        """task_created, task_deleting, task_deleted (with what stays behind), task_kept."""
        if old == TaskStatus.DRAFT or (old == TaskStatus.CREATING and new == TaskStatus.DELETED):
            return None  # nobody ever saw it
        if new == TaskStatus.ACTIVE:
            return self.event("task_created" if old == TaskStatus.CREATING else "task_kept")
        if new == TaskStatus.DELETED:
            return self.event("task_deleted", left_behind=self.left_behind())
        return self.event("task_deleting", destroy=self.destroy_on_delete)

    def option(self, name: str, default: Any = None) -> Any:
        """One setting of the document."""
        return self.document.get(name, default)

    @property
    def is_scheduled(self) -> bool:
        """Whether its condition is a schedule."""
        return "schedule" in (self.document.get("condition") or {})

    def left_behind(self) -> dict[str, Any]:
        """What stays when the task is deleted without destroying: nothing where nothing was applied."""
        if not self.resources:
            return {}
        return {"resources": self.resources, "state": self.document.get("backend") or "default"}


class TriggerQuerySet(models.QuerySet["Trigger"]):
    """What may start runs."""

    def watched(self) -> Self:
        """Those that need Consul, of tasks that exist or are coming to exist."""
        return self.filter(kind__in=WATCHED).exclude(task__status=TaskStatus.DELETED)

    def heard(self) -> Self:
        """Those that wait for an event, of enabled tasks."""
        return self.filter(kind__in=HEARD, task__status=TaskStatus.ACTIVE, task__enabled=True)

    def changed(self, now: datetime) -> Self:
        """Conditions whose value is not the one that a run has taken, buffer period over."""
        return self.filter(
            fires=True,
            kind__in=WATCHED,
            task__status=TaskStatus.ACTIVE,
            task__enabled=True,
            digest__gt="",
            due_at__lte=now,
        ).exclude(digest=F("handled"))

    def ticking(self, now: datetime) -> Self:
        """Schedules whose time has come."""
        return self.filter(kind=TriggerKind.SCHEDULE, due_at__lte=now, task__status=TaskStatus.ACTIVE)


class Trigger(models.Model):
    """One thing that a task watches: its condition (`fires`) or an input of its module.

    What is to be done is seen from the row: `digest` is what was seen last, `handled` what the newest run
    has taken. They differ: a run is needed, when `due_at` (the end of the buffer period) has come.
    """

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="triggers")
    kind = models.CharField(max_length=24, choices=TriggerKind)
    fires = models.BooleanField(default=True)
    feeds = models.BooleanField(default=False)  # its value is an input of the module
    spec = models.JSONField(default=dict)
    value = models.JSONField(null=True, blank=True)  # None: never seen
    digest = models.CharField(max_length=64, blank=True)
    handled = models.CharField(max_length=64, blank=True)
    first_change_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)
    cursor = models.BigIntegerField(default=0)  # last event looked at (session, workflow)
    error = models.TextField(blank=True)  # why it can't be watched
    seen_at = models.DateTimeField(null=True, blank=True)

    objects = TriggerQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        indexes = [
            models.Index(fields=["due_at"], name="trigger_due", condition=Q(due_at__isnull=False)),
            models.Index(fields=["kind"], name="trigger_kind"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.task}"

    def due_after_change(self, now: datetime) -> tuple[datetime, datetime]:
        """(first change, end of the buffer period) for a change seen `now` (contract, CTS 6).

        Quiet for `min` since the last change, but not longer than `max` after the first one.
        """
        buffer = self.task.document.get("buffer_period") or {}
        first = self.first_change_at if self.digest != self.handled and self.first_change_at else now
        if not buffer.get("enabled"):
            return first, now
        quiet = now + timedelta(microseconds=buffer["min"] / 1000)
        latest = first + timedelta(microseconds=buffer["max"] / 1000)
        return first, max(now, min(quiet, latest))


class WatchLease(models.Model):
    """Who watches Consul now: one process, the others stand by."""

    name = models.CharField(max_length=32, primary_key=True)
    holder = models.CharField(max_length=128)
    until = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} held by {self.holder}"
