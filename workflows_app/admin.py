"""Workflows for support staff: find, inspect, publish, unpublish, try again, renew credentials."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from accounts_app.permissions import may
from accounts_app.states import Verb
from events_app.admin import ExchangeAdmin, ReadOnlyAdmin, audit_link, link
from events_app.models import InvalidTransition
from workflows_app import drivers, services
from workflows_app.models import Deployment, Gateway, Revision, Run, Runtime, Service, Workflow
from workflows_app.serializers import WorkflowSerializer, clean_services
from workflows_app.states import COLOUR_LOOKS, RunStatus

SERVICES_HELP = "A list, such as <code>{}</code>; processes have a command, no image. All fields: {}."
EXAMPLE = '[{"name": "web", "image": "web:1", "port": 8080, "replicas": 2}]'


class RuntimeForm(forms.ModelForm):
    """Public settings to be read and changed; secrets to be set anew, never to be read."""

    new_secrets = forms.JSONField(
        required=False,
        help_text='Such as {"kubeconfig": "..."}. Left empty, the stored ones stay.',
        widget=forms.Textarea(attrs={"rows": 6, "autocomplete": "off"}),
    )

    class Meta:
        model = Runtime
        fields = ["name", "kind", "settings"]

    def clean_new_secrets(self) -> dict[str, Any]:
        """An object whose fields the driver declares as secret."""
        values = self.cleaned_data.get("new_secrets") or {}
        if not isinstance(values, dict):
            raise ValidationError("Secrets are a JSON object.")
        return values

    def clean(self) -> dict[str, Any]:
        """Check public and secret settings together; messages never repeat a secret."""
        cleaned = super().clean() or self.cleaned_data
        kind, public = cleaned.get("kind"), cleaned.get("settings") or {}
        if not kind or not isinstance(public, dict):
            return cleaned
        secret = {setting.name for setting in drivers.driver_class(kind).settings if setting.secret}
        new = cleaned.get("new_secrets") or {}
        if secret & public.keys() or new.keys() - secret:
            raise ValidationError(f"Secret settings of {kind}: {', '.join(sorted(secret)) or 'none'}.")
        cleaned["settings"] = {**public, **new}
        return cleaned


@admin.register(Runtime)
class RuntimeAdmin(admin.ModelAdmin):
    """Where workflows run."""

    form = RuntimeForm
    list_display = ["name", "kind", "failures", "error", "created_at"]
    list_filter = ["kind"]
    readonly_fields = ["error", "failures", "created_at"]


@admin.register(Workflow)
class WorkflowAdmin(ExchangeAdmin):
    """Workflows as they are described, and in short how they are."""

    list_display = ["name", "id", "domain", "runtime", "mode", "colour", "stands", "updated_at", "page"]
    list_filter = ["mode", "runtime", "domain", "deployment__status", "deployment__colour"]
    search_fields = ["id", "name", "description", "keys__access_key"]
    autocomplete_fields = ["keys"]
    exchanges = "workflows"
    actions = ["publish", "unpublish"]
    readonly_fields = ["created_at", "owner"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Workflow]:
        return super().get_queryset(request).select_related("domain", "runtime", "deployment")

    @admin.display(ordering="deployment__colour")
    def colour(self, workflow: Workflow) -> str:
        """Glyph and word: colour is never alone."""
        deployment = getattr(workflow, "deployment", None)
        if deployment is None:
            return "–"
        return format_html("{} {}", COLOUR_LOOKS[deployment.colour][0], deployment.colour)

    @admin.display(ordering="deployment__status", description="publication")
    def stands(self, workflow: Workflow) -> str:
        """Where the publication stands."""
        deployment = getattr(workflow, "deployment", None)
        return deployment.get_status_display() if deployment else "never published"

    @admin.display(description="dashboard")
    def page(self, workflow: Workflow) -> str:
        """A link to its page, and to what the audit has of it."""
        return format_html("{} · {}", link(f"/workflows/{workflow.pk}/"), audit_link(f"={workflow.pk}"))

    def document_of(self, workflow: Workflow) -> dict[str, Any]:
        """As our own API describes it, without its keys."""
        whole = WorkflowSerializer(workflow)
        kept = {name for name, field in whole.fields.items() if not field.read_only} - {"keys"}
        return {name: value for name, value in whole.data.items() if name in kept}

    def take_in(self, document: dict[str, Any], request: HttpRequest) -> None:
        """Checked as by the API; a published workflow that is changed is rolled out."""
        stored = Workflow.objects.filter(pk=document.get("id", "")).first()
        checked = WorkflowSerializer(
            stored, data=document, partial=stored is not None, context={"request": request}
        )
        if not checked.is_valid():
            raise ValueError(json.dumps(checked.errors))
        values = dict(checked.validated_data)
        if stored is None:
            services.create_workflow(actor=request.user, **values)
        else:
            values.pop("id")
            services.update_workflow(workflow=stored, actor=request.user, **values)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whether the actions are offered at all."""
        return may(request.user, Verb.OPERATE)

    def save_model(self, request: HttpRequest, obj: Workflow, form: Any, change: bool) -> None:
        """By the same services as every other door: what changed of a published workflow is rolled out."""
        values = {name: form.cleaned_data[name] for name in form.changed_data if name not in {"id", "keys"}}
        if change:
            services.update_workflow(workflow=obj, actor=request.user, **values)
        else:
            given = {name: form.cleaned_data[name] for name in form.cleaned_data if name != "keys"}
            services.create_workflow(actor=request.user, **given)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """The form checks services as the API does, and the whole before anything is saved."""
        helps = {"services": format_html(SERVICES_HELP, EXAMPLE, link("/api/docs/", "API docs"))}
        form = super().get_form(request, obj, change, help_texts=helps, **kwargs)

        class Checked(form):  # type: ignore[misc, valid-type]
            def clean_services(self) -> list[dict[str, Any]]:
                return clean_services(json.loads(json.dumps(self.cleaned_data["services"])))

            def clean(self) -> Any:
                cleaned = super().clean()
                if not self.errors:
                    services.check_workflow({**self.initial_values(), **self.cleaned_data})
                return cleaned

            def initial_values(self) -> dict[str, Any]:
                return {"id": self.instance.pk}

        return Checked

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only what was never published, or is not any more."""
        deployment = getattr(obj, "deployment", None)
        allowed = super().has_delete_permission(request, obj)
        return allowed and (deployment is None or deployment.status == "unpublished")

    def delete_model(self, request: HttpRequest, obj: Workflow) -> None:
        services.delete_workflow(workflow=obj, actor=request.user)

    @admin.action(permissions=["operate"], description="Publish (or try again)")
    def publish(self, request: HttpRequest, queryset: QuerySet[Workflow]) -> None:
        """Bring them to their runtimes as they are described now."""
        self._do(request, queryset, services.publish_workflow)

    @admin.action(permissions=["operate"], description="Unpublish")
    def unpublish(self, request: HttpRequest, queryset: QuerySet[Workflow]) -> None:
        """Remove what runs of them."""
        self._do(request, queryset, services.unpublish_workflow)

    def _do(self, request: HttpRequest, queryset: QuerySet[Workflow], do: Callable[..., Any]) -> None:
        for workflow in queryset:
            try:
                task = do(workflow=workflow, actor=request.user)
                self.message_user(request, f"{workflow}: {task.message}")
            except (ValidationError, InvalidTransition) as error:
                words = " ".join(error.messages) if isinstance(error, ValidationError) else str(error)
                self.message_user(request, f"{workflow}: {words}", messages.ERROR)


class ServiceInline(admin.TabularInline):
    """Services as last seen."""

    model = Service
    fields = (
        "key",
        "desired",
        "actual",
        "updated",
        "total",
        "rollout",
        "reason",
        "message",
    )
    readonly_fields = fields
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Deployment)
class DeploymentAdmin(ReadOnlyAdmin):
    """What runs of each workflow, and when it is looked at next."""

    list_display = ["workflow", "status", "colour", "revision", "runtime", "observed_at", "due_at", "fault"]
    list_filter = ["status", "colour", "runtime"]
    search_fields = ["workflow__id", "workflow__name", "ref"]
    exclude = ["token"]  # who knows it may send requests to the workflow's services
    inlines = [ServiceInline]


@admin.register(Revision)
class RevisionAdmin(ReadOnlyAdmin):
    """Everything that was published."""

    list_display = ["workflow", "number", "restored_from", "created_at", "created_by"]
    search_fields = ["workflow__id", "workflow__name"]


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    """Queued analyses; the text of one is nobody's business here."""

    list_display = ["id", "workflow", "status", "attempts", "owner", "created_at", "expires_at", "error"]
    list_filter = ["status"]
    search_fields = ["id", "workflow__id", "workflow__name"]
    exclude = ["body", "answer"]
    actions = ["cancel"]

    @admin.action(permissions=["operate"], description="Cancel")
    def cancel(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        """Take them from the queue."""
        for run in queryset.filter(status=RunStatus.QUEUED):
            try:
                services.cancel_run(run=run, actor=request.user)
            except InvalidTransition as error:
                self.message_user(request, str(error), messages.ERROR)


@admin.register(Gateway)
class GatewayAdmin(ReadOnlyAdmin):
    """Processes that take requests to workflows."""

    list_display = ["url", "host", "started_at", "seen_at"]
