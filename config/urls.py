"""One include per app; each app's urls.py lists its pages and its API."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from config import frontdoor, health
from events_app import urls as events
from sessions_app import urls as sessions
from tasks_app import urls as tasks
from workflows_app import urls as workflows

urlpatterns: list[URLPattern | URLResolver] = [
    path("", frontdoor.root, name="root"),
    path("server/login", frontdoor.server_login, name="server-login"),
    path("server/login-check", frontdoor.server_login_check, name="server-login-check"),
    path("server/logout", frontdoor.server_logout, name="server-logout"),
    path("admin/", admin.site.urls),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    *events.api,
    *sessions.api,
    *tasks.api,
    *workflows.api,
    *sessions.pages,
    *tasks.pages,
    *workflows.pages,
]
