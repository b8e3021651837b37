"""What happened, for support staff: to read, not to write; to send again. And what all admins share."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html

from events_app.models import BackgroundTask, LifecycleEvent
from events_app.services import MOST_RESENT, followed, recording, resend_events

PAGES = {"session": "/sessions/{}/", "task": "/tasks/{}/", "workflow": "/workflows/{}/"}


def link(url: str, words: str = "open") -> str:
    """A link in a list."""
    return format_html('<a href="{}">{}</a>', url, words)


def audit_link(words: str) -> str:
    """To the audit's rows that name this."""
    return format_html(
        '<a href="{}?q={}">audit</a>', reverse("admin:accounts_app_auditentry_changelist"), words
    )


class ReadOnlyAdmin(admin.ModelAdmin):
    """Rows that nobody edits by hand."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whether actions that do something are offered at all."""
        return bool(getattr(request.user, "may", lambda verb: False)("operate"))


class ExchangeAdmin(admin.ModelAdmin):
    """Documents of rows out as JSON, and in again through the use cases that every door calls.

    A library that writes rows by itself would pass by the rules that stand in the services.
    """

    exchanges = ""  # what they are called, and the key of the file
    change_list_template = "admin/exchange_list.html"

    def document_of(self, row: Any) -> dict[str, Any]:
        """A row as its file has it; no secret in it."""
        raise NotImplementedError

    def take_in(self, document: dict[str, Any], request: HttpRequest) -> None:
        """Create or change one by its document. Raises ValueError or ValidationError for what can't be."""
        raise NotImplementedError

    def has_exchange_permission(self, request: HttpRequest) -> bool:
        """Importing is the superadmins'."""
        return bool(getattr(request.user, "is_superadmin", False))

    @admin.action(permissions=["view"], description="Export the selected as JSON")
    def export_json(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
        """A file that the import reads."""
        found = [self.document_of(row) for row in queryset]
        answer = JsonResponse({self.exchanges: found}, json_dumps_params={"indent": 2})
        answer["Content-Disposition"] = f'attachment; filename="{self.exchanges}.json"'
        return answer

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        found = super().get_actions(request)
        export = self.get_action("export_json")
        return {**found, "export_json": export} if export else found

    def get_urls(self) -> list[Any]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_import"
        return [path("import/", self.admin_site.admin_view(self.import_json), name=name), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        context = {**(extra_context or {}), "may_import": self.has_exchange_permission(request)}
        return super().changelist_view(request, context)

    def import_json(self, request: HttpRequest) -> HttpResponse:
        """A file of documents: all of them or none, each wrong one named."""
        if not self.has_exchange_permission(request):
            raise PermissionDenied
        faults: list[str] = []
        text = request.POST.get("text", "")
        if request.method == "POST":
            try:
                upload = request.FILES.get("file")
                text = upload.read().decode("utf-8-sig") if upload else text
                count = self._take_in_all(text, request)
            except (ValueError, ValidationError) as error:
                faults = error.messages if isinstance(error, ValidationError) else str(error).split("\n")
            else:
                word = self.opts.verbose_name if count == 1 else self.opts.verbose_name_plural
                self.message_user(request, f"Imported: {count} {word}.")
                return redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        context = {
            **self.admin_site.each_context(request),
            "title": f"Import {self.opts.verbose_name_plural}",
            "opts": self.opts,
            "exchanges": self.exchanges,
            "faults": faults,
            "text": text,
        }
        return TemplateResponse(request, "admin/exchange_import.html", context, status=400 if faults else 200)

    def _take_in_all(self, text: str, request: HttpRequest) -> int:
        content = json.loads(text)
        documents = content.get(self.exchanges) if isinstance(content, dict) else content
        if not isinstance(documents, list) or not all(isinstance(one, dict) for one in documents):
            raise ValueError(f'A list of {self.exchanges} is expected, or {{"{self.exchanges}": [...]}}.')
        count = len(documents)
        faults = []
        with (
            followed(
                kind=f"import_{self.exchanges}",
                owner=request.user,
                subject=f"{count} {self.exchanges}",
                total=count,
            ) as task,
            recording(),
        ):
            for place, document in enumerate(documents, 1):
                try:
                    self.take_in(document, request)
                except (ValueError, KeyError, TypeError, ValidationError) as error:
                    said = " ".join(error.messages) if isinstance(error, ValidationError) else str(error)
                    said = f"{said} is missing" if isinstance(error, KeyError) else said
                    faults.append(f"{place}. {document.get('name', '')}: {said}")
            if faults:
                raise ValueError("\n".join(faults[:50]))
            task.message = f"{count} {self.exchanges} were imported."
        return count


@admin.register(LifecycleEvent)
class LifecycleEventAdmin(ReadOnlyAdmin):
    """The event log, newest first; events can be sent again to those who listen."""

    list_display = ["number", "at", "name", "area", "subject_name", "subject_id", "domain", "repeats", "page"]
    list_filter = ["area", "name", "at"]
    search_fields = ["subject_id", "subject_name", "name"]
    ordering = ["-number"]
    show_full_result_count = False
    actions = ["resend"]

    @admin.display(description="dashboard")
    def page(self, event: LifecycleEvent) -> str:
        """The page of what it is about."""
        pattern = PAGES.get("session" if event.name.startswith("power_") else event.area)
        return link(pattern.format(event.subject_id)) if pattern and event.subject_id else "–"

    @admin.action(permissions=["operate"], description="Send the selected events again to those who listen")
    def resend(self, request: HttpRequest, queryset: QuerySet[LifecycleEvent]) -> None:
        """As new events marked as repeats; nothing is started by them."""
        asked = queryset.count()
        count = resend_events(queryset.values_list("pk", flat=True))
        self.message_user(request, f"{count} events were sent again.")
        if count < asked:
            said = f"Not sent: {asked - count} (repeats, or beyond {MOST_RESENT} at a time)."
            self.message_user(request, said, messages.WARNING)


@admin.register(BackgroundTask)
class BackgroundTaskAdmin(ReadOnlyAdmin):
    """Progress bars and their ends."""

    list_display = [
        *("id", "kind", "status", "owner", "subject", "current_progress", "total_progress", "message"),
        "created_at",
    ]
    list_filter = ["status", "kind"]
    list_select_related = ["owner"]
    search_fields = ["id", "subject", "message", "owner__username"]
    ordering = ["-created_at"]


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    """Django's own history: what staff changed in the forms of this admin. What else was asked for, by
    whatever door, stands in the audit."""

    list_display = ["action_time", "user", "content_type", "object_repr", "action_flag", "change_message"]
    list_filter = ["action_flag", "content_type", "action_time"]
    list_select_related = ["user", "content_type"]
    search_fields = ["object_repr", "user__username", "change_message"]
    date_hierarchy = "action_time"
