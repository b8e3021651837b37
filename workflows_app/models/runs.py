"""Analyses that wait for an asynchronous workflow to be usable."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from django.db import models
from django.utils import timezone

from accounts_app.models import User
from events_app.models import BackgroundTask, Lifecycle, LifecycleQuerySet
from workflows_app.models.workflows import Workflow
from workflows_app.states import RUN_MOVES, RunStatus


class RunQuerySet(LifecycleQuerySet):
    """The rows of work of the gateway."""

    def due(self, now: datetime) -> RunQuerySet:
        """Queued, and not being delivered by a gateway that is alive."""
        free = models.Q(claimed_until=None) | models.Q(claimed_until__lt=now)
        return self.filter(free, status=RunStatus.QUEUED, due_at__lte=now)


class Run(Lifecycle):
    """One analysis: kept until it was delivered, or its time is over.

    Delivered at least once: a gateway that dies between the delivery and its note of it leaves the row due,
    and the next delivery carries the same `X-Muster-Run`.
    """

    TRANSITIONS = RUN_MOVES

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="runs")
    owner = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    status = models.CharField(max_length=16, choices=RunStatus, default=RunStatus.QUEUED)
    body = models.BinaryField()
    content_type = models.CharField(max_length=255, blank=True)
    background_task = models.ForeignKey(
        BackgroundTask, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    attempts = models.IntegerField(default=0)
    error = models.TextField(blank=True)
    answer_status = models.IntegerField(null=True)
    answer_type = models.CharField(max_length=255, blank=True)
    answer = models.BinaryField(default=b"")
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, db_index=True)
    due_at = models.DateTimeField(default=timezone.now)
    claim = models.BigIntegerField(default=0)
    claimed_until = models.DateTimeField(null=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(
                fields=["due_at"], name="workflow_run_due", condition=models.Q(status=RunStatus.QUEUED)
            ),
            models.Index(fields=["workflow", "-created_at"], name="workflow_run_recent"),
        ]

    def __str__(self) -> str:
        return f"run {self.id}"

    def describe_move(self, old: str, new: str) -> dict[str, Any] | None:
        """run_succeeded, run_failed, run_timed_out, run_cancelled."""
        domain = self.workflow.domain
        return {
            "name": f"run_{new}",
            "area": "workflow",
            "subject_id": self.workflow_id,
            "subject_name": self.workflow.name,
            "data": {"workflowId": self.workflow_id, "runId": str(self.id), "reason": self.error},
            "domain": domain.name if domain else "",
            "user_id": self.owner_id,
        }
