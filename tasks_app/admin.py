"""Tasks and runs, for support staff: look, cancel, retry. What a task is set to is changed by its API."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from events_app.admin import ExchangeAdmin, ReadOnlyAdmin, audit_link, link
from events_app.models import InvalidTransition
from tasks_app import services
from tasks_app.importing import import_tasks
from tasks_app.models import Run, RunLog, StateVersion, Task, TaskEvent, TerraformState, Trigger
from tasks_app.serializers import task_json


class ReadOnly(ReadOnlyAdmin):
    """Rows that are looked at; actions change them through services."""

    @admin.display(description="dashboard")
    def page(self, row: Task | Run) -> str:
        """A link to its page, and to what the audit has of it."""
        task = row.task if isinstance(row, Run) else row
        run = f"runs/{row.number}/" if isinstance(row, Run) else ""
        return format_html("{} · {}", link(f"/tasks/{task.uuid}/{run}"), audit_link(f"={task.name}"))


class ReadOnlyInline(admin.TabularInline):
    """Rows of a row."""

    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


class TriggerInline(ReadOnlyInline):
    """What a task watches."""

    model = Trigger
    fields = ["kind", "spec", "fires", "feeds", "seen_at", "due_at", "error"]


@admin.register(Task)
class TaskAdmin(ReadOnly, ExchangeAdmin):
    """Tasks; they go out as the documented API has them, and come in disabled."""

    exchanges = "tasks"

    list_display = [
        "name",
        "domain",
        "status",
        "enabled",
        "health",
        "resources",
        "revision",
        "updated_at",
        "page",
    ]
    list_filter = ["health", "enabled", "status", "domain"]
    search_fields = ["name"]
    inlines = [TriggerInline]
    actions = ["run_now", "check_drift"]

    def document_of(self, task: Task) -> dict[str, Any]:
        """As `GET /v1/tasks/NAME` says it."""
        return task_json(task.document, enabled=task.enabled)

    def take_in(self, document: dict[str, Any], request: HttpRequest) -> None:
        """By the import of Consul-Terraform-Sync's tasks: disabled, what exists is left alone."""
        found = import_tasks(tasks={"tasks": [document]}, statuses={}, actor=request.user)
        refused = [said for said in found.skipped if "exists already" not in said]
        if refused:
            raise ValueError(" ".join(refused))

    def _request(self, request: HttpRequest, tasks: QuerySet[Task], operation: str) -> None:
        for task in tasks:
            try:
                run = services.request_run(task=task, actor=request.user, operation=operation)
            except InvalidTransition as error:
                self.message_user(request, str(error), messages.ERROR)
            else:
                self.message_user(request, f"{run} is {run.status}.")

    @admin.action(permissions=["operate"], description="Run the selected tasks now")
    def run_now(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        """Plan and apply."""
        self._request(request, queryset, "apply")

    @admin.action(permissions=["operate"], description="Check the selected tasks for drift")
    def check_drift(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        """Compare the recorded state with reality."""
        self._request(request, queryset, "drift")


class LogInline(ReadOnlyInline):
    """The newest lines of a run."""

    model = RunLog
    fields = ["number", "at", "phase", "level", "text"]
    ordering = ["-number"]
    max_num = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).exclude(kind="version")


@admin.register(Run)
class RunAdmin(ReadOnly):
    """Runs of tasks."""

    list_display = [
        "id",
        "task",
        "number",
        "operation",
        "status",
        "attempt",
        "created_at",
        "ended_at",
        "error",
        "page",
    ]
    list_filter = ["status", "operation"]
    search_fields = ["task__name", "error"]
    list_select_related = ["task"]
    exclude = ["claim", "worker", "document"]
    inlines = [LogInline]
    actions = ["cancel", "approve", "discard"]

    def _act(self, request: HttpRequest, runs: QuerySet[Run], act: Any) -> None:
        for run in runs:
            try:
                done = act(run=run, actor=request.user)
            except InvalidTransition as error:
                self.message_user(request, str(error), messages.ERROR)
            else:
                self.message_user(request, f"{done} is {done.status}.")

    @admin.action(permissions=["operate"], description="Cancel the selected runs")
    def cancel(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        """Stop them."""
        self._act(request, queryset, services.cancel_run)

    @admin.action(permissions=["operate"], description="Approve the selected runs")
    def approve(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        """Apply their saved plans."""
        self._act(request, queryset, services.approve_run)

    @admin.action(permissions=["operate"], description="Discard the selected runs")
    def discard(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        """Refuse their plans."""
        self._act(request, queryset, services.discard_run)


@admin.register(TaskEvent)
class TaskEventAdmin(ReadOnly):
    """Events of the documented API."""

    list_display = ["task", "success", "start_time", "end_time", "error"]
    list_filter = ["success"]
    search_fields = ["task__name", "error"]
    list_select_related = ["task"]


class VersionInline(ReadOnlyInline):
    """Versions of a state; the content is nowhere to be read."""

    model = StateVersion
    fields = ["serial", "created_at", "md5", "run_id"]


@admin.register(TerraformState)
class TerraformStateAdmin(ReadOnly):
    """States of the HTTP backend, and their locks."""

    list_display = ["name", "domain", "serial", "lock_id", "locked_by_run", "locked_at"]
    search_fields = ["name"]
    inlines = [VersionInline]
