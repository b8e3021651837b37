"""One include per app; each app's urls.py lists its pages and its API."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from accounts_app import urls as accounts
from config import activity, frontdoor, health, metrics, pages, token_door
from config.overview import overview
from events_app import urls as events
from sessions_app import urls as sessions
from tasks_app import urls as tasks
from workflows_app import urls as workflows

urlpatterns: list[URLPattern | URLResolver] = [
    path("", frontdoor.root, name="root"),
    path("server/login", frontdoor.server_login, name="server-login"),
    path("server/login-check", frontdoor.server_login_check, name="server-login-check"),
    path("server/logout", frontdoor.server_logout, name="server-logout"),
    path(token_door.PATH, token_door.token, name="token"),
    path("admin/login/", pages.admin_login, name="admin-login"),  # before the admin's own
    path("admin/", admin.site.urls),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", metrics.MetricsView.as_view(), name="metrics"),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
    path("overview", overview, name="overview"),
    path("login", pages.SignIn.as_view(), name="login"),
    path("logout", pages.sign_out, name="logout"),
    path("preferences", pages.preferences, name="preferences"),
    path("rail", pages.rail, name="rail"),
    path("search", pages.search, name="search"),
    path("activity/", activity.activity, name="activity"),
    path("activity/background/", activity.background_tasks, name="background-tasks"),
    path("activity/audit/", activity.audit, name="audit"),
    *accounts.api,
    *events.api,
    *sessions.api,
    *tasks.api,
    *workflows.api,
    *accounts.pages,
    *sessions.pages,
    *tasks.pages,
    *workflows.pages,
]

admin.site.site_header = admin.site.site_title = "Muster"
admin.site.index_title = "Everything Muster keeps"
admin.site.site_url = None  # its header names the dashboard's pages instead

handler404 = "config.pages.not_found"
