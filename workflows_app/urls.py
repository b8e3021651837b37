"""Doors of this app: `pages` for people, `api` for programs."""

from typing import Any

from django.urls import URLPattern, URLResolver, path

from workflows_app import api as own
from workflows_app import runtime_api as runtime
from workflows_app import views

ACTION = "api/v1/runtime/workflow/<str:workflow_id>/action"
DETAIL: dict[str, Any] = {"get": "retrieve", "put": "update", "patch": "partial_update", "delete": "destroy"}

pages: list[URLPattern | URLResolver] = [
    path("workflows/", views.workflow_list, name="workflow-list"),
    path("workflows/<str:workflow_id>/", views.workflow_detail, name="workflow-detail"),
    path("workflows/<str:workflow_id>/publish", views.workflow_publish, name="workflow-publish-page"),
    path("workflows/<str:workflow_id>/unpublish", views.workflow_unpublish, name="workflow-unpublish-page"),
    path("workflows/<str:workflow_id>/scale", views.workflow_scale, name="workflow-scale-page"),
    path("workflows/<str:workflow_id>/rollback", views.workflow_rollback, name="workflow-rollback-page"),
    path(
        "workflows/<str:workflow_id>/logs/<str:service>/<str:replica>", views.replica_log, name="replica-log"
    ),
]
api: list[URLPattern | URLResolver] = [
    path(f"{ACTION}/status", runtime.StatusView.as_view(), name="workflow-status"),
    path(f"{ACTION}/publish", runtime.PublishView.as_view(), name="workflow-publish"),
    path(f"{ACTION}/unpublish", runtime.UnpublishView.as_view(), name="workflow-unpublish"),
    path(f"{ACTION}/run", runtime.run, name="workflow-run"),
    path("api/v1/workflows", own.WorkflowViewSet.as_view({"get": "list", "post": "create"})),
    path("api/v1/workflows/<str:pk>", own.WorkflowViewSet.as_view(DETAIL)),
    *(
        path(f"api/v1/workflows/<str:pk>/{name}", own.WorkflowViewSet.as_view({"post": name}))
        for name in ("publish", "unpublish", "scale", "rollback")
    ),
    *(
        path(f"api/v1/workflows/<str:pk>/{name}", own.WorkflowViewSet.as_view({"get": name}))
        for name in ("revisions", "state", "logs")
    ),
    path("api/v1/runs", own.RunViewSet.as_view({"get": "list"})),
    path("api/v1/runs/<uuid:pk>", own.RunViewSet.as_view({"get": "retrieve"})),
    path("api/v1/runs/<uuid:pk>/cancel", own.RunViewSet.as_view({"post": "cancel"})),
    path("api/v1/runtimes", own.RuntimeViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "api/v1/runtimes/<str:name>",
        own.RuntimeViewSet.as_view({"get": "retrieve", "delete": "destroy"}),
    ),
]
