"""Users, domains and keys, for support staff."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from accounts_app.models import ApiKey, AuditEntry, AuditPending, AuditWebhook, Domain, User
from accounts_app.permissions import may
from accounts_app.services import revoke_key, rotate_key
from accounts_app.states import Verb


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
    list_select_related = ["user"]
    actions = ["revoke", "rotate"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_administer_permission(self, request: HttpRequest) -> bool:
        """Whether the actions are offered at all."""
        return may(request.user, Verb.ADMIN)

    @admin.action(permissions=["administer"], description="Revoke the selected keys")
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """Make them useless from now on."""
        for key in queryset:
            revoke_key(key=key, actor=request.user)

    @admin.action(permissions=["administer"], description="Rotate the selected keys: new ones, shown once")
    def rotate(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> HttpResponse:
        """Keys like these, which are revoked; the new secrets stand on this one page."""
        usable = [key for key in queryset.select_related("user__domain") if key.is_usable]
        issued = [rotate_key(key=key, actor=request.user) for key in usable]
        left = queryset.count() - len(issued)
        faults = [f"{left} were revoked or have expired, and are left alone."] if left else []
        context = {"title": "New keys", "issued": issued, "faults": faults}
        context |= self.admin_site.each_context(request)
        answer = TemplateResponse(request, "admin/issued.html", context)
        answer["Cache-Control"] = "no-store"
        return answer


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
