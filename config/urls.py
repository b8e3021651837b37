"""One include per app; each app's urls.py lists its pages and its API."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from config import health
from sessions_app import urls as sessions
from tasks_app import urls as tasks
from workflows_app import urls as workflows

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    *sessions.api,
    *tasks.api,
    *workflows.api,
    *sessions.pages,
    *tasks.pages,
    *workflows.pages,
]
