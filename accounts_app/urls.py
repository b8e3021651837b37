"""Doors of this app: `pages` for people, `api` for programs."""

from django.urls import URLPattern, URLResolver, include, path
from rest_framework.routers import SimpleRouter

from accounts_app import views
from accounts_app.api import AuditViewSet, KeyViewSet, MeView

router = SimpleRouter()
router.register("keys", KeyViewSet, "api-key")
router.register("audit", AuditViewSet, "api-audit")

pages: list[URLPattern | URLResolver] = [
    path("login/sso", views.sso_start, name="sso"),
    path("login/sso/callback", views.sso_callback, name="sso-callback"),
    path("keys/", views.keys, name="keys"),
    path("keys/<str:access_key>/revoke", views.key_revoke, name="key-revoke"),
    path("filters/", views.filter_save, name="filter-save"),
    path("filters/<int:number>/forget", views.filter_forget, name="filter-forget"),
]
api: list[URLPattern | URLResolver] = [
    path("api/v1/me", MeView.as_view(), name="api-me"),
    path("api/v1/", include(router.urls)),
]
