"""The shapes of our own API of tasks and runs."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from accounts_app.strict import Strict
from tasks_app.models import Run, RunLog, Task, TaskEvent, Trigger
from tasks_app.serializers import task_json
from tasks_app.states import Operation


class TriggerSerializer(serializers.ModelSerializer):
    """One watched thing; `pending`: a change waits for the end of its buffer period or for a run."""

    pending = serializers.SerializerMethodField()

    class Meta:
        model = Trigger
        fields = ["kind", "spec", "fires", "feeds", "seen_at", "due_at", "pending", "error"]

    def get_pending(self, row: Trigger) -> bool:
        """Whether what was seen last is not what the newest run has taken."""
        return row.fires and bool(row.digest) and row.digest != row.handled


class TaskSerializer(serializers.ModelSerializer):
    """A task: its settings as in the documented API, how it stands, what it watches."""

    domain = serializers.CharField(source="domain.name", default=None, allow_null=True)
    settings = serializers.SerializerMethodField()
    triggers = TriggerSerializer(many=True)
    latest_run = serializers.SerializerMethodField()

    class Meta:
        model = Task
        fields = [
            "uuid",
            "name",
            "domain",
            "status",
            "enabled",
            "health",
            "revision",
            "resources",
            "settings",
            "triggers",
            "latest_run",
            "drift",
            "created_at",
            "updated_at",
        ]

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_settings(self, task: Task) -> dict[str, Any]:
        """The documented JSON of the task."""
        return task_json(task.document, enabled=task.enabled)

    def get_latest_run(self, task: Task) -> dict[str, Any] | None:
        """Id, number, operation and status of the newest run."""
        run = getattr(task, "newest", None)
        if not run:
            return None
        return {
            "id": run[0].pk,
            "number": run[0].number,
            "operation": run[0].operation,
            "status": run[0].status,
        }


@extend_schema_serializer(component_name="TaskRun")
class RunSerializer(serializers.ModelSerializer):
    """A run without its plan; `duration` in seconds."""

    task = serializers.CharField(source="task.name")
    owner = serializers.CharField(source="owner.username", default=None, allow_null=True)
    duration = serializers.SerializerMethodField()

    class Meta:
        model = Run
        fields = [
            "id",
            "task",
            "number",
            "operation",
            "status",
            "trigger",
            "owner",
            "attempt",
            "retries",
            "interruptions",
            "attempt_errors",
            "error",
            "diagnostics",
            "has_changes",
            "counts",
            "lines",
            "approved_by",
            "cancelled_by",
            "background_task",
            "created_at",
            "started_at",
            "planned_at",
            "apply_started_at",
            "ended_at",
            "duration",
        ]

    def get_duration(self, run: Run) -> float | None:
        """From its start to its end or now."""
        return run.duration.total_seconds() if run.duration is not None else None


@extend_schema_serializer(component_name="TaskRunDetail")
class RunDetailSerializer(RunSerializer):
    """A run with its plan: a list of changes and, where a person was to read it, Terraform's words."""

    class Meta(RunSerializer.Meta):
        fields = [*RunSerializer.Meta.fields, "changes", "plan_text"]


@extend_schema_serializer(component_name="TaskRunLine")
class LineSerializer(serializers.ModelSerializer):
    """One line of output."""

    class Meta:
        model = RunLog
        fields = ["number", "at", "phase", "level", "kind", "text"]


@extend_schema_serializer(component_name="TaskEvent")
class EventSerializer(serializers.ModelSerializer):
    """One event, as in the documented API, and the run that it tells of."""

    id = serializers.UUIDField(source="uuid")
    error = serializers.SerializerMethodField()

    class Meta:
        model = TaskEvent
        fields = ["id", "success", "start_time", "end_time", "error", "config", "run"]

    def get_error(self, event: TaskEvent) -> dict[str, str] | None:
        """Null, or the message."""
        return None if event.success else {"message": event.error}


class RequestRunSerializer(Strict):
    """What to run: apply (default), inspect, drift or destroy."""

    operation = serializers.ChoiceField(
        choices=[Operation.APPLY, Operation.INSPECT, Operation.DRIFT, Operation.DESTROY],
        default=Operation.APPLY,
    )


class DeletedSerializer(serializers.Serializer):
    """What stays behind: empty where nothing does."""

    left_behind = serializers.DictField()
