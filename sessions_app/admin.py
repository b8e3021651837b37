"""Nodes, BMCs and sessions, for support staff: find, look, retry, cancel, rotate credentials.

A BMC's secret goes in and never comes out again: the form has empty fields for it, and nothing shows it.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join

from accounts_app.models import Domain
from accounts_app.permissions import may
from accounts_app.states import Verb
from events_app.admin import ExchangeAdmin, ReadOnlyAdmin, audit_link, link
from events_app.models import InvalidTransition
from events_app.services import record_event, wake
from sessions_app import bos_v2_schemas as schemas
from sessions_app import drivers, services, services_bos, services_power, steps
from sessions_app.bos import Problem, check
from sessions_app.confirming import TYPED_ABOVE
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
from sessions_app.serializers import BmcSerializer
from sessions_app.states import ByHand


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
class BmcAdmin(ExchangeAdmin):
    """Controllers, with their credentials write-only."""

    exchanges = "bmcs"
    actions = ["look", "rotate"]

    form = BmcForm
    list_display = [
        *("name", "kind", "address", "domain", "has_secret", "reach", "reach_since", "seen_at", "last_error"),
        "page",
    ]
    list_filter = ["reach", "kind", "domain"]
    readonly_fields = ["reach", "reach_since", "seen_at", "latency", "last_error", "look_at"]
    list_select_related = ["domain"]
    search_fields = ["name", "address", "nodes__name"]
    inlines = [NodeInline]

    @admin.display(description="nodes")
    def page(self, bmc: Bmc) -> str:
        """Links to the pages of its first nodes, and to what the audit has of it."""
        names = [node.name for node in bmc.nodes.all()]
        nodes = format_html_join(" ", "{}", ((link(f"/nodes/{name}/", name),) for name in names[:4]))
        return format_html("{} · {}", nodes or "–", audit_link(f"={bmc.name}"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Bmc]:
        return super().get_queryset(request).prefetch_related("nodes")

    def document_of(self, bmc: Bmc) -> dict[str, Any]:
        """Without its secrets."""
        document = {name: getattr(bmc, name) for name in ("name", "kind", "address", "settings")}
        return {**document, "domain": bmc.domain.name if bmc.domain else None}

    def take_in(self, document: dict[str, Any], request: HttpRequest) -> None:
        """Secrets may stand in `settings`; those that are left out stay."""
        check = BmcSerializer(data=document, context={"request": request})
        if not check.is_valid():
            raise ValueError(" ".join(f"{name}: {said}" for name, said in check.errors.items()))
        services.register_bmc(**check.validated_data, actor=request.user)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whether looking is offered."""
        return may(request.user, Verb.OPERATE)

    @admin.action(permissions=["operate"], description="Look now whether the selected BMCs answer")
    def look(self, request: HttpRequest, queryset: QuerySet[Bmc]) -> None:
        """Soon, by the runner; the list shows it."""
        count = queryset.update(look_at=timezone.now())
        wake(steps.look_at_bmcs)
        self.message_user(request, f"{count} BMCs are looked at within seconds.")

    @admin.action(permissions=["change"], description="Set new credentials of the selected BMCs")
    def rotate(self, request: HttpRequest, queryset: QuerySet[Bmc]) -> HttpResponse | None:
        """Asks for them on a page of its own; nothing shows what was typed."""
        bmcs, fault = list(queryset.order_by("name")), ""
        if request.POST.get("confirmed"):
            new = {name: request.POST.get(name, "") for name in ("username", "password")}
            given = {name: value for name, value in new.items() if value}
            try:
                services.rotate_credentials(bmcs=bmcs, given=given, actor=request.user)
            except services.Refused as error:
                fault = str(error)
            else:
                self.message_user(request, f"{len(bmcs)} BMCs have new credentials; they are tried at once.")
                return None
        context = {"title": "New credentials", "bmcs": bmcs, "fault": fault}
        context |= self.admin_site.each_context(request)
        return TemplateResponse(request, "admin/rotate.html", context, status=400 if fault else 200)

    @admin.display(boolean=True, description="credentials")
    def has_secret(self, bmc: Bmc) -> bool:
        """Whether any are stored."""
        return bool(bmc.secret)

    def save_model(self, request: HttpRequest, obj: Bmc, form: BmcForm, change: bool) -> None:
        """Keep, and tell of credentials that were replaced."""
        obj.look_at = timezone.now()  # whether it answers there, and to these credentials
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

    ordering = ["name"]
    actions = ["switch_on", "shut_down", "power_cycle", "look"]
    change_list_template = "admin/node_list.html"

    @admin.display(description="dashboard")
    def page(self, node: Node) -> str:
        """A link to its page, and to what the audit has of it."""
        if not node.pk:
            return "–"
        return format_html(
            "{} · {}", link(reverse("node-detail", args=[node.name])), audit_link(f"={node.name}")
        )

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whether the actions are offered at all."""
        return may(request.user, Verb.OPERATE)

    def _act(self, request: HttpRequest, nodes: QuerySet[Node], action: str) -> None:
        """By hand, as from every other door; many nodes are switched from the dashboard, which names them."""
        ids = list(nodes.values_list("id", flat=True))
        if len(ids) > TYPED_ABOVE:
            said = (
                f"More than {TYPED_ABOVE} nodes are switched from the dashboard, which asks for their count."
            )
            self.message_user(request, said, messages.ERROR)
            return
        user: Any = request.user
        try:
            session = services_power.act_by_hand(action=action, ids=ids, actor=user)
        except services.Refused as error:
            self.message_user(request, str(error), messages.ERROR)
        else:
            where = link(f"/sessions/{session.uuid}/", session.title)
            self.message_user(request, format_html("{} has begun.", where))

    @admin.action(permissions=["operate"], description="Switch the selected nodes on")
    def switch_on(self, request: HttpRequest, queryset: QuerySet[Node]) -> None:
        """In their own boot order."""
        self._act(request, queryset, ByHand.ON)

    @admin.action(permissions=["operate"], description="Shut the selected nodes down gracefully")
    def shut_down(self, request: HttpRequest, queryset: QuerySet[Node]) -> None:
        """Never cuts the power."""
        self._act(request, queryset, ByHand.SOFT)

    @admin.action(permissions=["operate"], description="Power cycle the selected nodes")
    def power_cycle(self, request: HttpRequest, queryset: QuerySet[Node]) -> None:
        """Cuts the power, then switches on."""
        self._act(request, queryset, ByHand.CYCLE)

    @admin.action(permissions=["operate"], description="Look at the selected nodes now")
    def look(self, request: HttpRequest, queryset: QuerySet[Node]) -> None:
        """Their power, and whether their BMCs answer."""
        self._act(request, queryset, ByHand.LOOK)


@admin.register(NodeGroup)
class NodeGroupAdmin(admin.ModelAdmin):
    """Named sets of nodes."""

    list_display = ["name", "description"]
    search_fields = ["name", "description"]


@admin.register(SessionTemplate)
class SessionTemplateAdmin(ReadOnlyAdmin, ExchangeAdmin):
    """What to boot where; changed through the documented API and the import, which check it."""

    exchanges = "templates"

    def document_of(self, template: SessionTemplate) -> dict[str, Any]:
        """As BOS v2 has it."""
        return {"name": template.name, "tenant": str(template.domain or "") or None, **template.body}

    def take_in(self, document: dict[str, Any], request: HttpRequest) -> None:
        """Checked as a PUT of BOS v2."""
        body = {name: value for name, value in document.items() if name not in ("name", "tenant", "links")}
        try:
            check(body, schemas.TEMPLATE)
        except Problem as error:
            raise ValueError(str(error)) from None
        tenant = document.get("tenant")
        domain = Domain.objects.get_or_create(name=tenant)[0] if tenant else None
        if not services.NAME.fullmatch(document["name"]):
            raise ValueError("This is not a template's name.")
        services_bos.put_template(name=document["name"], body=body, domain=domain, actor=request.user)

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
    list_filter = ["by_hand", "status", "result", "operation", "domain"]
    list_select_related = ["owner"]
    search_fields = ["name", "uuid", "template_name", "owner__username"]
    exclude = ["components"]
    inlines = [BootSetInline]
    actions = ["retry", "cancel"]

    @admin.display(description="dashboard")
    def page(self, session: BootSession) -> str:
        """A link to its page."""
        where = link(reverse("session-detail", args=[session.uuid]))
        return format_html("{} · {}", where, audit_link(f"={session.uuid}"))

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
