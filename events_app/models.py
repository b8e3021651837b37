"""Rows that say what happened, in commit order; the one door through which a status moves."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any, ClassVar, Self

from django.conf import settings
from django.db import models
from django.utils import timezone

from events_app.states import TRANSITIONS, BackgroundTaskStatus


class InvalidTransition(Exception):
    """A status was asked to move where its table does not lead; carries both words."""

    def __init__(self, subject: str, old: str, new: str) -> None:
        super().__init__(f"{subject} is {old} and can't become {new}.")
        self.old, self.new = old, new


class EventCounter(models.Model):
    """One row: the number of the newest event. Its lock is what makes numbers follow commit order."""

    last = models.BigIntegerField(default=0)

    @classmethod
    def draw(cls, count: int) -> int:
        """Take `count` numbers and return the first; the row stays locked until the transaction ends."""
        if not cls.objects.filter(pk=1).update(last=models.F("last") + count):
            EventCounter.objects.bulk_create([EventCounter(pk=1)], ignore_conflicts=True)
            cls.objects.filter(pk=1).update(last=models.F("last") + count)
        return cls.objects.values_list("last", flat=True).get(pk=1) - count + 1


class LifecycleEventQuerySet(models.QuerySet["LifecycleEvent"]):
    """Questions about what happened."""

    def after(self, number: int) -> Self:
        """Events that a reader who has seen `number` has not seen, oldest first."""
        return self.filter(number__gt=number).order_by("number")


class LifecycleEvent(models.Model):
    """One thing that happened: what, to what, when, and whose it is (for who may hear of it)."""

    number = models.BigIntegerField(primary_key=True)
    name = models.CharField(max_length=64)
    at = models.DateTimeField(default=timezone.now, db_index=True)
    area = models.CharField(max_length=32)  # session, node, background_task, task, workflow, account
    subject_id = models.CharField(max_length=128, blank=True)
    subject_name = models.CharField(max_length=255, blank=True)
    data = models.JSONField(default=dict)
    domain = models.CharField(max_length=127, blank=True)
    project = models.CharField(max_length=150, blank=True)
    access_key = models.CharField(max_length=64, blank=True)
    repeats = models.BigIntegerField(null=True, blank=True)  # number of the event that this one says again
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+", db_constraint=False
    )

    objects = LifecycleEventQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["area", "subject_id", "number"], name="event_subject"),
            models.Index(fields=["area", "number"], name="event_area"),
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.name} {self.subject_name or self.subject_id}"


class LifecycleQuerySet(models.QuerySet[Any]):
    """A queryset whose rows have a status that only `move` writes."""

    def move(self, to: str, **values: Any) -> int:
        """Move those of these rows that may become `to`; return how many did. Records no event."""
        model: Any = self.model
        sources = [old for old, targets in model.TRANSITIONS.items() if to in targets]
        return self.filter(status__in=sources).update(status=to, **values)


class Lifecycle(models.Model):
    """A row with a `status`; `move_to` here and `move` above are the only writers of it."""

    TRANSITIONS: ClassVar[dict[str, frozenset[str]]]

    class Meta:
        abstract = True

    def describe_move(self, old: str, new: str) -> dict[str, Any] | None:
        """The event that tells of this move, as keywords of `record_event`; None tells nobody."""
        return None

    def move_to(self, to: str, **values: Any) -> None:
        """Check the table, update where the old status still holds, record the event.

        Raises InvalidTransition where the table does not allow it or another process moved the row first.
        """
        from events_app.services import record_event, recording

        row: Any = self
        old = row.status
        if to not in self.TRANSITIONS.get(old, frozenset()):
            raise InvalidTransition(str(self), old, to)
        with recording():
            rows: models.Manager[Any] = type(self)._base_manager
            changed = rows.filter(pk=self.pk, status=old).update(status=to, **values)
            if changed != 1:
                self.refresh_from_db()
                raise InvalidTransition(str(self), row.status, to)
            for name, value in {"status": to, **values}.items():
                setattr(self, name, value)
            event = self.describe_move(old, to)
            if event is not None:
                record_event(**event)


class BackgroundTask(Lifecycle):
    """A long action as one person follows it: owner, message, progress, result; kept a day after its end."""

    TRANSITIONS = TRANSITIONS

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=64)
    status = models.CharField(
        max_length=16, choices=BackgroundTaskStatus, default=BackgroundTaskStatus.STARTED
    )
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    domain = models.CharField(max_length=127, blank=True)
    subject = models.CharField(max_length=255, blank=True)
    message = models.TextField(blank=True)
    current_progress = models.BigIntegerField(default=0)
    total_progress = models.BigIntegerField(default=0)
    result = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True, db_index=True)
    told_at = models.DateTimeField(default=timezone.now)  # when an event last told of the progress
    untold = models.BooleanField(default=False)  # progress was stored since, not yet told

    objects = LifecycleQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["told_at"], condition=models.Q(untold=True), name="background_untold"),
            models.Index(fields=["owner", "-created_at"], name="background_owner"),
        ]

    def __str__(self) -> str:
        return f"background task {self.id} ({self.kind})"

    @property
    def expires_at(self) -> Any:
        """When the result is forgotten (24 h after the end, seed 004); None while it runs."""
        if self.finished_at is None:
            return None
        return self.finished_at + timedelta(hours=settings.MUSTER_BACKGROUND_TASK_HOURS)

    def progress_data(self) -> dict[str, Any]:
        """The documented JSON of a progress event; message is never null (contracts, events 5)."""
        return {
            "task_id": str(self.id),
            "message": self.message,
            "current_progress": self.current_progress,
            "total_progress": self.total_progress,
        }

    def event(self, name: str, data: dict[str, Any]) -> dict[str, Any]:
        """Keywords of `record_event` for this task."""
        return {
            "name": name,
            "area": "background_task",
            "subject_id": str(self.id),
            "subject_name": self.subject,
            "data": data,
            "domain": self.domain,
            "user_id": self.owner_id,
        }

    def describe_move(self, old: str, new: str) -> dict[str, Any] | None:
        """bgtask_done, bgtask_failed or bgtask_cancelled, with the message."""
        return self.event(f"bgtask_{new}", {"task_id": str(self.id), "message": self.message})


class Heartbeat(models.Model):
    """When a part of the service was last seen at work; /readyz asks."""

    name = models.CharField(max_length=64, primary_key=True)
    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name
