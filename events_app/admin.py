"""What happened, for support staff: to read, not to write."""

from django.contrib import admin
from django.http import HttpRequest

from events_app.models import BackgroundTask, LifecycleEvent


class ReadOnlyAdmin(admin.ModelAdmin):
    """Rows that nobody edits by hand."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(LifecycleEvent)
class LifecycleEventAdmin(ReadOnlyAdmin):
    """The event log, newest first."""

    list_display = ["number", "at", "name", "area", "subject_name", "subject_id", "domain"]
    list_filter = ["area", "name", "at"]
    search_fields = ["subject_id", "subject_name"]
    ordering = ["-number"]
    show_full_result_count = False


@admin.register(BackgroundTask)
class BackgroundTaskAdmin(ReadOnlyAdmin):
    """Progress bars and their ends."""

    list_display = [
        "id",
        "kind",
        "status",
        "owner",
        "subject",
        "current_progress",
        "total_progress",
        "created_at",
    ]
    list_filter = ["status", "kind"]
    search_fields = ["id", "subject", "message"]
    ordering = ["-created_at"]
