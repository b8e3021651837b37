"""Doors of this app: `pages` for people, `api` for programs."""

from django.urls import URLPattern, URLResolver, include, path
from rest_framework.routers import SimpleRouter

from tasks_app import api as own
from tasks_app import cts, state_api, views

pages: list[URLPattern | URLResolver] = [
    path("tasks/", views.task_list, name="task-list"),
    path("tasks/<uuid:uuid>/", views.task_detail, name="task-detail"),
    path("tasks/<uuid:uuid>/run/<str:operation>", views.task_run, name="task-run"),
    path("tasks/<uuid:uuid>/enable", views.task_enable, {"word": "enable"}, name="task-enable"),
    path("tasks/<uuid:uuid>/disable", views.task_enable, {"word": "disable"}, name="task-disable"),
    path("tasks/<uuid:uuid>/runs/<int:number>/", views.run_detail, name="run-detail"),
    path("tasks/<uuid:uuid>/runs/<int:number>/log", views.run_log, name="run-log"),
    path("tasks/<uuid:uuid>/runs/<int:number>/<str:decision>", views.run_decide, name="run-decide"),
]

router = SimpleRouter()
router.register("tasks", own.TaskViewSet, "api-task")
router.register("task-runs", own.RunViewSet, "api-task-run")

api: list[URLPattern | URLResolver] = [
    *cts.urls,
    path("api/v1/tasks/<str:name>/state", state_api.state, name="api-task-state"),
    path("api/v1/", include(router.urls)),
]
