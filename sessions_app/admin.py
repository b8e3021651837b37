"""Nodes, BMCs and sessions, for support staff: find, look, retry, cancel, rotate credentials.

A BMC's secret goes in and never comes out again: the form has empty fields for it, and nothing shows it.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from accounts_app.permissions import may
from accounts_app.states import Verb
from events_app.admin import ReadOnlyAdmin
from events_app.models import InvalidTransition
from events_app.services import record_event
from sessions_app import drivers, services
from sessions_app.models import (
    Bmc,
    BootArtifacts,
    BootImage,
    BootSession,
    BootSet,
    BosOptions,
    Node,
    NodeGroup,
    NodePhase,
    Phase,
    SessionTemplate,
)


class BmcForm(forms.ModelForm):
    """A BMC with its driver's declared settings; secrets are written, never read."""

    secrets = forms.JSONField(
        required=False,
        label="New secrets",
        help_text='As an object, such as {"password": "…"}. Empty: what is stored stays. Nobody can read it.',
        widget=forms.Textarea(attrs={"rows": 2, "autocomplete": "off"}),
    )

    class Meta:
        model = Bmc
        fields = ["name", "kind", "address", "domain", "settings"]

    def clean(self) -> dict[str, Any]:
        """All settings fit what the driver declares."""
        found = super().clean() or {}
        given = found.get("secrets") or {}
        if not isinstance(given, dict):
            raise forms.ValidationError({"secrets": "An object is expected."})
        kept = self.instance.secrets() if self.instance.pk and self.instance.kind == found.get("kind") else {}
        try:
            drivers.split_settings(found.get("kind", ""), {**kept, **(found.get("settings") or {}), **given})
        except ValueError as error:
            raise forms.ValidationError({"settings": str(error)}) from None
        # Before the model's own check, which joins the stored secrets with the settings.
        self.instance.set_secrets({**kept, **given})
        return found


class NodeInline(admin.TabularInline):
    """The nodes of a BMC."""

    model = Node
    fields = ("name", "role", "power_state", "session")
    readonly_fields = fields
    extra = 0
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Bmc)
class BmcAdmin(admin.ModelAdmin):
    """Controllers, with their credentials write-only."""

    form = BmcForm
    list_display = ["name", "kind", "address", "domain", "has_secret", "created_at"]
    list_filter = ["kind", "domain"]
    list_select_related = ["domain"]
    search_fields = ["name", "address", "nodes__name"]
    inlines = [NodeInline]

    @admin.display(boolean=True, description="credentials")
    def has_secret(self, bmc: Bmc) -> bool:
        """Whether any are stored."""
        return bool(bmc.secret)

    def save_model(self, request: HttpRequest, obj: Bmc, form: BmcForm, change: bool) -> None:
        """Keep, and tell of credentials that were replaced."""
        super().save_model(request, obj, form, change)
        rotated = bool(form.cleaned_data.get("secrets"))
        record_event(
            name="bmc_credentials_rotated" if rotated and change else "bmc_registered",
            area="node",
            subject_id=str(obj.pk),
            subject_name=obj.name,
            data={"by": request.user.get_username()},
            domain=obj.domain.name if obj.domain else services.EVERYBODYS,
        )


@admin.register(Node)
class NodeAdmin(admin.ModelAdmin):
    """The inventory. What a node should run and does run is written by sessions and by the node."""

    list_display = ["name", "role", "power_state", "failed", "locked", "hardware_enabled", "session", "page"]
    list_filter = ["failed", "locked", "hardware_enabled", "power_state", "role", "groups", "domain"]
    list_select_related = ["session"]
    search_fields = ["name", "mac", "nid", "bmc__name", "session__name"]
    autocomplete_fields = ["bmc", "groups"]
    fields = [
        *("name", "nid", "mac", "role", "subrole", "arch", "domain", "groups", "bmc", "system"),
        *("hardware_enabled", "locked", "page", "power_state", "session", "failed", "error", "last_action"),
    ]
    readonly_fields = ["page", "power_state", "session", "failed", "error", "last_action", "system"]

    @admin.display(description="dashboard")
    def page(self, node: Node) -> str:
        """A link to its page."""
        return _link(reverse("node-detail", args=[node.name])) if node.pk else "–"


@admin.register(NodeGroup)
class NodeGroupAdmin(admin.ModelAdmin):
    """Named sets of nodes."""

    list_display = ["name", "description"]
    search_fields = ["name", "description"]


@admin.register(SessionTemplate)
class SessionTemplateAdmin(ReadOnlyAdmin):
    """What to boot where; changed through the documented API, which checks it."""

    list_display = ["name", "domain", "created_at", "updated_at"]
    list_filter = ["domain"]
    search_fields = ["name"]


class BootSetInline(admin.TabularInline):
    """The boot sets of a session."""

    model = BootSet
    fields = ("name", "node_count", "artifacts", "configuration", "started_at", "stopped_at")
    readonly_fields = fields
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(BootSession)
class BootSessionAdmin(ReadOnlyAdmin):
    """Sessions, to look at, to retry and to cancel."""

    list_display = [
        *("name", "operation", "template_name", "status", "result", "total_nodes", "open_nodes"),
        *("owner", "created_at", "page"),
    ]
    list_filter = ["status", "result", "operation", "domain"]
    list_select_related = ["owner"]
    search_fields = ["name", "uuid", "template_name", "owner__username"]
    exclude = ["components"]
    inlines = [BootSetInline]
    actions = ["retry", "cancel"]

    @admin.display(description="dashboard")
    def page(self, session: BootSession) -> str:
        """A link to its page."""
        return _link(reverse("session-detail", args=[session.uuid]))

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whether the actions are offered at all."""
        return may(request.user, Verb.OPERATE)

    @admin.action(permissions=["operate"], description="Retry the failed nodes of the selected sessions")
    def retry(self, request: HttpRequest, queryset: QuerySet[BootSession]) -> None:
        """From the phases in which they failed."""
        for session in queryset:
            try:
                count = services.retry_failed(session=session, actor=request.user)
            except services.Refused as error:
                self.message_user(request, f"{session}: {error}", messages.ERROR)
            else:
                self.message_user(request, f"{session}: {count} nodes are tried again.")

    @admin.action(permissions=["operate"], description="Cancel the selected sessions")
    def cancel(self, request: HttpRequest, queryset: QuerySet[BootSession]) -> None:
        """What is not over is left out."""
        for session in queryset:
            try:
                services.cancel_session(session=session, actor=request.user)
            except InvalidTransition as error:
                self.message_user(request, str(error), messages.ERROR)
            else:
                self.message_user(request, f"{session} is cancelled.")


@admin.register(NodePhase)
class NodePhaseAdmin(ReadOnlyAdmin):
    """Where each node stands in each phase."""

    list_display = ["node", "session", "phase_name", "category", "step", "attempts", "error", "due_at"]
    list_filter = ["category", "step"]
    list_select_related = ["node", "session", "phase"]
    search_fields = ["node__name", "session__name", "error"]
    show_full_result_count = False
    exclude = ["claim"]

    @admin.display(description="phase")
    def phase_name(self, row: NodePhase) -> str:
        """Without a query for its boot set."""
        return row.phase.name


@admin.register(Phase)
class PhaseAdmin(ReadOnlyAdmin):
    """Phases with their counters."""

    list_display = ["boot_set", "name", "not_started", "in_progress", "succeeded", "failed", "excluded"]
    list_filter = ["name"]
    list_select_related = ["boot_set__session"]
    search_fields = ["boot_set__session__name"]


@admin.register(BootArtifacts)
class BootArtifactsAdmin(ReadOnlyAdmin):
    """Kernels, initrds, parameters."""

    list_display = ["kernel", "initrd", "kernel_parameters"]
    search_fields = ["kernel", "initrd", "kernel_parameters"]


@admin.register(BootImage)
class BootImageAdmin(admin.ModelAdmin):
    """What images consist of."""

    list_display = ["path", "etag", "arch", "kernel"]
    list_filter = ["arch"]
    search_fields = ["path", "kernel"]


@admin.register(BosOptions)
class BosOptionsAdmin(ReadOnlyAdmin):
    """BOS's options that differ from their defaults."""

    list_display = ["pk", "values"]


def _link(path: str) -> str:
    return format_html('<a href="{}">open</a>', path)
