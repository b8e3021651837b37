"""Doors of this app: `pages` for people, `api` for programs."""

from collections.abc import Callable

from django.http.response import HttpResponseBase
from django.urls import URLPattern, URLResolver, include, path, re_path
from rest_framework.routers import SimpleRouter

from sessions_app import api as own
from sessions_app import bootscript, bos, bos_v1, bos_v1_status, bos_v2, bos_v2_components
from sessions_app.views import acting, imports, nodes, sessions, start

pages: list[URLPattern | URLResolver] = [
    path("sessions/", sessions.session_list, name="session-list"),
    path("sessions/start", start.session_start, name="session-start"),
    path("sessions/<uuid:uuid>/", sessions.session_detail, name="session-detail"),
    path("sessions/<uuid:uuid>/live", sessions.session_live, name="session-live"),
    path("sessions/<uuid:uuid>/map.json", sessions.session_map, name="session-map"),
    path("sessions/<uuid:uuid>/tab/<str:tab>", sessions.session_tab, name="session-tab"),
    path("sessions/<uuid:uuid>/nodes/<str:name>", sessions.session_node, name="session-node"),
    path("sessions/<uuid:uuid>/cancel", sessions.session_cancel, name="session-cancel"),
    path("sessions/<uuid:uuid>/retry", sessions.session_retry, name="session-retry"),
    path("nodes/", nodes.node_list, name="node-list"),
    path("nodes/import", imports.node_import, name="node-import"),
    path("nodes/export.csv", nodes.node_export, name="node-export"),
    path("nodes/act/<str:action>", acting.node_act, name="node-act"),
    path("nodes/<str:name>/", nodes.node_detail, name="node-detail"),
]

router = SimpleRouter()
router.register("nodes", own.NodeViewSet, "api-node")
router.register("bmcs", own.BmcViewSet, "api-bmc")
router.register("groups", own.GroupViewSet, "api-group")
router.register("sessions", own.SessionViewSet, "api-session")


def both(route: str, view: Callable[..., HttpResponseBase]) -> list[URLPattern]:
    """A path of BOS behind its gateway's prefix, and without (the documents' own links have none)."""
    return [path(f"apis/bos/{route}", view), path(route, view)]


api: list[URLPattern | URLResolver] = [
    path("apis/bss/boot/v1/bootscript", bootscript.bootscript, name="bootscript"),
    *both("v2", bos_v2.VersionView.as_view()),
    *both("v2/version", bos_v2.VersionView.as_view()),
    *both("v2/healthz", bos_v2.HealthView.as_view()),
    *both("v2/sessiontemplates", bos_v2.TemplatesView.as_view()),
    *both("v2/sessiontemplates/<str:name>", bos_v2.TemplateView.as_view()),
    *both("v2/sessiontemplatesvalid/<str:name>", bos_v2.TemplateValidView.as_view()),
    *both("v2/sessiontemplatetemplate", bos_v2.TemplateExampleView.as_view()),
    *both("v2/sessions", bos_v2.SessionsView.as_view()),
    *both("v2/sessions/<str:name>", bos_v2.SessionView.as_view()),
    *both("v2/sessions/<str:name>/status", bos_v2.SessionStatusView.as_view()),
    *both("v2/components", bos_v2_components.ComponentsView.as_view()),
    *both("v2/components/<str:name>", bos_v2_components.ComponentView.as_view()),
    *both("v2/applystaged", bos_v2_components.ApplyStagedView.as_view()),
    *both("v2/options", bos_v2_components.OptionsView.as_view()),
    *both("v1", bos_v1.VersionView.as_view()),
    *both("v1/version", bos_v1.VersionView.as_view()),
    *both("v1/healthz", bos_v1.HealthView.as_view()),
    *both("v1/sessiontemplatetemplate", bos_v1.TemplateExampleView.as_view()),
    *both("v1/sessiontemplate", bos_v1.TemplatesView.as_view()),
    *both("v1/sessiontemplate/<str:name>", bos_v1.TemplateView.as_view()),
    *both("v1/session", bos_v1.SessionsView.as_view()),
    *both("v1/session/<str:session_id>", bos_v1.SessionView.as_view()),
    *both("v1/session/<str:session_id>/status", bos_v1_status.SessionStatusView.as_view()),
    *both(
        "v1/session/<str:session_id>/status/<str:boot_set>",
        bos_v1_status.BootSetStatusView.as_view(),
    ),
    *both(
        "v1/session/<str:session_id>/status/<str:boot_set>/<str:phase>",
        bos_v1_status.PhaseStatusView.as_view(),
    ),
    *both(
        "v1/session/<str:session_id>/status/<str:boot_set>/<str:phase>/<str:category>",
        bos_v1_status.CategoryStatusView.as_view(),
    ),
    path("api/v1/", include(router.urls)),
    path("apis/bos", bos_v2.VersionsView.as_view()),
    path("apis/bos/", bos_v2.VersionsView.as_view()),
    re_path(r"^(?:apis/bos/.*|v2/.*)\Z", bos.NotFoundView.as_view()),
]
