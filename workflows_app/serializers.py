"""Workflows, runtimes and queued analyses as JSON; the checks of everything that people send."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import ValidationError
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts_app.models import ApiKey
from accounts_app.strict import Strict
from workflows_app import spec
from workflows_app.models import Deployment, Revision, Run, Runtime, Workflow
from workflows_app.models.deployments import stream_count

NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
WORKFLOW_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
SHARE = re.compile(r"(\d{1,3})%")
ANNOTATION = re.compile(r"(?:[a-z0-9.-]{1,127}/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class NumberField(serializers.IntegerField):
    """A JSON number; the text "3" and true are none."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return super().to_internal_value(data)


class SecondsField(serializers.FloatField):
    """Seconds, fractions allowed."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, bool) or not isinstance(data, int | float) or data != data:
            self.fail("invalid")
        return super().to_internal_value(data)


class TextField(serializers.CharField):
    """Text and nothing that could be taken for text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_length": 4096, "trim_whitespace": False, **options})

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class NameOfField(serializers.SlugRelatedField):
    """The name of a row. What no name can hold is not looked for: databases refuse it."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str) or not data.isprintable() or len(data) > 255:
            self.fail("invalid")
        return super().to_internal_value(data)


@extend_schema_field({"oneOf": [{"type": "integer"}, {"type": "string", "pattern": r"^\d+%$"}]})
class ShareField(serializers.Field):
    """A number of replicas, or a percentage of them as text."""

    def to_internal_value(self, data: Any) -> int | str:
        if isinstance(data, str) and (match := SHARE.fullmatch(data)) and int(match[1]) <= 100:
            return data
        if isinstance(data, bool) or not isinstance(data, int) or not 0 <= data <= 1000:
            raise serializers.ValidationError('Give a number from 0 to 1000, or a percentage such as "25%".')
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class ReadinessSerializer(Strict):
    """When a replica is ready to be sent requests."""

    kind = serializers.ChoiceField(["http", "tcp"])
    path = TextField(default="/", max_length=1000)
    port = NumberField(min_value=1, max_value=65535, allow_null=True, default=None)
    initial_delay_seconds = SecondsField(min_value=0, max_value=3600, default=0)
    period_seconds = SecondsField(min_value=0.2, max_value=3600, default=2)
    timeout_seconds = SecondsField(min_value=0.1, max_value=300, default=1)
    success_threshold = NumberField(min_value=1, max_value=100, default=1)
    failure_threshold = NumberField(min_value=1, max_value=100, default=3)

    def validate_path(self, path: str) -> str:
        if not path.startswith("/") or any(ord(letter) <= 32 or ord(letter) > 126 for letter in path):
            raise serializers.ValidationError("A path begins with / and is in ASCII, without spaces.")
        return path


class StrategySerializer(Strict):
    """How an update replaces replicas: one after the other, or all at once."""

    kind = serializers.ChoiceField(["rolling", "recreate"], default="rolling")
    max_surge = ShareField(default="25%")
    max_unavailable = ShareField(default="25%")


class ServiceSerializer(Strict):
    """One service of a workflow: a command (process runtime) or an image (containers, Kubernetes)."""

    name = TextField(max_length=40, help_text="Lower-case letters, digits and hyphens.")
    image = TextField(max_length=512, allow_blank=True, default="")
    command = serializers.ListField(child=TextField(allow_blank=True), max_length=200, default=list)
    args = serializers.ListField(child=TextField(allow_blank=True), max_length=200, default=list)
    replicas = NumberField(min_value=0, max_value=1000, default=1)
    port = NumberField(
        min_value=1,
        max_value=65535,
        allow_null=True,
        default=None,
        help_text="Where it takes requests. A process is given a port of its own in the variable PORT.",
    )
    environment = serializers.DictField(child=TextField(allow_blank=True, max_length=32768), default=dict)
    cpu = SecondsField(min_value=0.001, max_value=10000, allow_null=True, default=None, help_text="Cores.")
    memory = TextField(max_length=32, allow_null=True, default=None, help_text="Such as 256Mi or 2Gi.")
    readiness = ReadinessSerializer(allow_null=True, default=None)
    strategy = StrategySerializer(default=dict)
    min_ready_seconds = NumberField(min_value=0, max_value=3600, allow_null=True, default=None)
    progress_deadline_seconds = NumberField(min_value=1, max_value=86400, default=600)
    stop_seconds = NumberField(min_value=0, max_value=3600, default=10)
    drain_seconds = NumberField(min_value=0, max_value=3600, default=3)
    annotations = serializers.DictField(child=TextField(allow_blank=True), default=dict)

    def validate_name(self, name: str) -> str:
        if not NAME.fullmatch(name):
            raise serializers.ValidationError(
                "A name begins with a lower-case letter, goes on with these, digits and hyphens, and doesn't"
                " end in a hyphen."
            )
        return name

    def validate_environment(self, values: dict[str, str]) -> dict[str, str]:
        return _named(values, VARIABLE, "the name of a variable")

    def validate_annotations(self, values: dict[str, str]) -> dict[str, str]:
        return _named(values, ANNOTATION, "the name of an annotation")

    def validate_memory(self, text: str | None) -> str | None:
        try:
            if text is not None and spec.parse_memory(text) < 1024 * 1024:
                raise ValueError("Less than 1Mi runs nothing.")
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from None
        return text

    def validate_strategy(self, values: dict[str, Any]) -> dict[str, Any]:
        return values or {"kind": "rolling", "max_surge": "25%", "max_unavailable": "25%"}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        readiness = attrs.get("readiness")
        if readiness and not (readiness["port"] or attrs.get("port")):
            raise serializers.ValidationError({"readiness": "Neither the probe nor the service has a port."})
        least = spec.service_plan("", attrs).min_ready_seconds
        if attrs["progress_deadline_seconds"] <= least:
            raise serializers.ValidationError(
                {"progress_deadline_seconds": f"It must be more than the {least} s to be ready."}
            )
        return attrs


def _named(values: dict[str, str], form: re.Pattern[str], what: str) -> dict[str, str]:
    if len(values) > 500:
        raise serializers.ValidationError("There are more than 500.")
    for name in values:
        if not form.fullmatch(name):
            raise serializers.ValidationError(f"{name[:60]!r} is not {what}.")
    return values


@extend_schema_field(ServiceSerializer(many=True))
class ServicesField(serializers.Field):
    """All services of a workflow, each one whole: a PATCH replaces the list, and never half a service."""

    def to_internal_value(self, data: Any) -> list[dict[str, Any]]:
        # A serializer of its own: beneath one that is partial, defaults would be left out.
        check = ServiceSerializer(data=data, many=True, max_length=50)  # type: ignore[call-arg]
        check.is_valid(raise_exception=True)
        return [dict(each) for each in check.validated_data]

    def to_representation(self, value: Any) -> Any:
        return value


def clean_services(value: Any) -> list[dict[str, Any]]:
    """Services as they are stored, for forms and files. Raises Django's ValidationError."""
    check = ServiceSerializer(data=value, many=True)
    if not check.is_valid():
        raise ValidationError(list(_sentences(check.errors, "")))
    return [dict(each) for each in check.validated_data]


def _sentences(errors: Any, where: str) -> Iterator[str]:
    """All messages of nested errors, each with its place: `0.readiness.kind: ...`."""
    if isinstance(errors, dict):
        for name, inner in errors.items():
            yield from _sentences(inner, f"{where}.{name}".strip("."))
    elif isinstance(errors, list):
        for place, inner in enumerate(errors):
            yield from _sentences(inner, where if isinstance(inner, str) else f"{where}.{place}".strip("."))
    else:
        yield f"{where}: {errors}" if where else str(errors)


class WorkflowSerializer(Strict):
    """A workflow as it is described, and in short how it is."""

    id = TextField(max_length=63, required=False, help_text="Made up where it is left out.")
    name = TextField(max_length=127)
    description = TextField(allow_blank=True, max_length=10000, default="")
    runtime = NameOfField(
        slug_field="name", queryset=Runtime.objects.all(), required=False, help_text="By default `local`."
    )
    mode = serializers.ChoiceField(["SYNC", "ASYNC"], default="SYNC")
    services = ServicesField()
    entry = TextField(
        max_length=40, allow_blank=True, default="", help_text="Which service takes requests; else the first."
    )
    entry_path = TextField(max_length=1000, default="/")
    request_seconds = NumberField(min_value=1, max_value=3600, default=60)
    queue_seconds = NumberField(min_value=1, max_value=604800, default=3600)
    keys = NameOfField(slug_field="access_key", many=True, queryset=ApiKey.objects.none(), required=False)
    domain: Any = serializers.SlugRelatedField(slug_field="name", read_only=True, allow_null=True)
    status = serializers.SerializerMethodField()
    colour = serializers.SerializerMethodField()
    revision = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    status_endpoint = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField(read_only=True)
    updated_at = serializers.DateTimeField(read_only=True)

    def get_fields(self) -> dict[str, Any]:
        """Only keys of the caller's own domain can be associated."""
        fields = super().get_fields()
        request = self.context.get("request")
        if request is not None and getattr(request.user, "is_authenticated", False):
            keys = ApiKey.objects.all()
            if not request.user.is_superadmin:
                keys = keys.filter(user__domain_id=request.user.domain_id)
            fields["keys"].child_relation.queryset = keys  # type: ignore[attr-defined]
        return fields

    def validate_id(self, value: str) -> str:
        if not WORKFLOW_ID.fullmatch(value):
            raise serializers.ValidationError("An id consists of letters, digits, hyphens and underscores.")
        return value

    def validate_entry_path(self, path: str) -> str:
        return ReadinessSerializer().validate_path(path)

    def get_status(self, workflow: Workflow) -> str | None:
        """Where the publication stands; null where there never was one."""
        deployment = _deployment(workflow)
        return deployment.status if deployment else None

    def get_colour(self, workflow: Workflow) -> str | None:
        """GREEN, YELLOW, ORANGE or RED."""
        deployment = _deployment(workflow)
        if deployment is None:
            return None
        context: Any = self.context
        if "stream" not in context:
            context["stream"] = stream_count()  # once for a whole list
        return deployment.present_colour(context["stream"])

    def get_revision(self, workflow: Workflow) -> int | None:
        """Number of the published revision."""
        deployment = _deployment(workflow)
        return deployment.revision.number if deployment else None

    def get_error(self, workflow: Workflow) -> str:
        """Why publishing or removing failed, or why the runtime could not be asked just now."""
        deployment = _deployment(workflow)
        return (deployment.error or deployment.fault) if deployment else ""

    def get_status_endpoint(self, workflow: Workflow) -> str:
        """Path of the documented status resource."""
        return f"/api/v1/runtime/workflow/{workflow.pk}/action/status"


def _deployment(workflow: Workflow) -> Deployment | None:
    try:
        return workflow.deployment
    except Deployment.DoesNotExist:
        return None


class RevisionSerializer(serializers.ModelSerializer):
    """What was published once."""

    created_by: Any = serializers.SlugRelatedField(slug_field="username", read_only=True, allow_null=True)

    class Meta:
        model = Revision
        fields = ["number", "restored_from", "created_at", "created_by", "body"]


class ScaleSerializer(Strict):
    """How many instances of which service."""

    service = TextField(max_length=40)
    replicas = NumberField(min_value=0, max_value=1000)


class RollbackSerializer(Strict):
    """Which revision to return to; by default the one before the present."""

    revision = NumberField(min_value=1, max_value=2**31 - 1, allow_null=True, default=None)


class StartedSerializer(serializers.Serializer):
    """What was begun: follow it at /events/background-task?taskId=..."""

    background_task = serializers.UUIDField()
    status = serializers.CharField()
    message = serializers.CharField()


class RunSerializer(serializers.ModelSerializer):
    """One analysis of an asynchronous workflow; `answer` as text, once there is one."""

    answer = serializers.SerializerMethodField()

    class Meta:
        model = Run
        fields = [
            "id",
            "workflow",
            "status",
            "attempts",
            "error",
            "created_at",
            "expires_at",
            "finished_at",
            "background_task",
            "answer_status",
            "answer_type",
            "answer",
        ]

    def get_answer(self, run: Run) -> str:
        """The entry service's answer."""
        return bytes(run.answer).decode("utf-8", "replace")


class RuntimeSerializer(Strict):
    """Where workflows run. Secret settings are taken and never shown."""

    name = serializers.SlugField(max_length=63)
    kind = serializers.ChoiceField([])
    settings = serializers.JSONField(default=dict)
    error = serializers.CharField(read_only=True)
    created_at = serializers.DateTimeField(read_only=True)

    def get_fields(self) -> dict[str, Any]:
        from workflows_app.drivers import kinds

        fields = super().get_fields()
        fields["kind"].choices = kinds()  # type: ignore[attr-defined]
        return fields

    def validate_settings(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise serializers.ValidationError("Settings are an object.")
        return value
