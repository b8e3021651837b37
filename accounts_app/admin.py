"""Users, domains and keys, for support staff."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts_app.models import ApiKey, AuditEntry, AuditPending, AuditWebhook, Domain, User
from accounts_app.services import revoke_key


@admin.register(User)
class MusterUserAdmin(UserAdmin):
    """Django's user pages with role and domain."""

    fieldsets = (*(UserAdmin.fieldsets or ()), ("Muster", {"fields": ("role", "domain", "subject")}))
    add_fieldsets = (*UserAdmin.add_fieldsets, ("Muster", {"fields": ("role", "domain")}))
    list_display = ["username", "role", "domain", "is_active", "is_staff", "last_login"]
    list_filter = ["role", "domain", "is_active", "is_staff"]


@admin.register(Domain)
class DomainAdmin(admin.ModelAdmin):
    """Tenants."""

    list_display = ["name", "description", "created_at"]
    search_fields = ["name", "description"]


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):
    """Keys, to look at and to revoke; the secret is nowhere to be read."""

    list_filter = ["scope", "revoked_at", "expires_at"]
    search_fields = ["access_key", "name", "user__username"]
    fields = readonly_fields = (
        "access_key", "name", "user", "scope", "areas", "created_at", "last_used_at", "expires_at",
        "revoked_at",
    )  # fmt: skip
    list_display = fields
    actions = ["revoke"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    @admin.action(description="Revoke the selected keys")
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """Make them useless from now on."""
        for key in queryset:
            revoke_key(key=key, actor=request.user)


@admin.register(AuditEntry)
class AuditEntryAdmin(admin.ModelAdmin):
    """Who did what: to read and to filter, not to write."""

    list_display = ["at", "username", "door", "method", "path", "target", "status", "address"]
    list_filter = ["door", "method", "status", "at"]
    search_fields = ["username", "access_key", "path", "target", "request_id"]
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(AuditWebhook)
class AuditWebhookAdmin(admin.ModelAdmin):
    """Whether the archive takes the audit's rows: to look at."""

    list_display = ["__str__", "waiting", "failures", "next_at", "delivered_at"]

    @admin.display(description="rows waiting")
    def waiting(self, row: AuditWebhook) -> int:
        return AuditPending.objects.count()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False
