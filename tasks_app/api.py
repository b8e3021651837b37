"""Our own REST API of tasks, runs and their whole history; errors are problem documents.

Tasks are made and changed by the documented API (`/v1/tasks`), which this one shows more of.
"""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import Prefetch, QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts_app.idempotency import idempotent
from tasks_app import services
from tasks_app.api_serializers import (
    DeletedSerializer,
    EventSerializer,
    LineSerializer,
    RequestRunSerializer,
    RunDetailSerializer,
    RunSerializer,
    TaskSerializer,
)
from tasks_app.models import Run, Task, Trigger


class TaskFilter(django_filters.FilterSet):
    """By health and whether it is enabled."""

    class Meta:
        model = Task
        fields = ["health", "enabled", "status"]


class RunFilter(django_filters.FilterSet):
    """By task, status and operation."""

    task = django_filters.CharFilter(field_name="task__name")

    class Meta:
        model = Run
        fields = ["status", "operation"]


class TaskViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet):
    """Tasks as they stand."""

    serializer_class = TaskSerializer
    lookup_field = "name"
    lookup_value_regex = r"[^/\x00]+"
    filterset_class = TaskFilter

    def get_queryset(self) -> QuerySet[Task]:
        """Those of the user's domain."""
        newest = Prefetch("runs", Run.objects.newest_of_each(), to_attr="newest")
        tasks = Task.objects.existing().visible_to(self.request.user).select_related("domain")
        return tasks.prefetch_related(Prefetch("triggers", Trigger.objects.defer("value")), newest)

    @extend_schema(
        parameters=[OpenApiParameter("destroy", OpenApiTypes.BOOL)], responses={202: DeletedSerializer}
    )
    def destroy(self, request: Request, name: str) -> Response:
        """Delete a task; says what stays behind. With `destroy=true` all that it made is destroyed first."""
        wanted = request.query_params.get("destroy", "false").lower()
        if wanted not in ("true", "false"):
            raise ValidationError({"destroy": ["true or false."]})
        left = services.delete_task(task=self.get_object(), actor=request.user, destroy=wanted == "true")
        return Response({"left_behind": left}, status=202)

    @extend_schema(methods=["GET"], responses=RunSerializer(many=True))
    @extend_schema(methods=["POST"], request=RequestRunSerializer, responses={202: RunSerializer})
    @action(detail=True, methods=["get", "post"], filterset_class=None)
    @idempotent
    def runs(self, request: Request, name: str) -> Response:
        """GET: all runs, newest first. POST: ask for a run now; the queued one, where there is one alike."""
        task = self.get_object()
        if request.method == "POST":
            asked = RequestRunSerializer(data=request.data or {})
            asked.is_valid(raise_exception=True)
            run = services.request_run(
                task=task, actor=request.user, operation=asked.validated_data["operation"]
            )
            return Response(RunSerializer(run).data, status=202)
        runs = Run.objects.filter(task=task).select_related("task", "owner").order_by("-number")
        return self.get_paginated_response(RunSerializer(self.paginate_queryset(runs), many=True).data)

    @extend_schema(responses=EventSerializer(many=True))
    @action(detail=True, filterset_class=None)
    def events(self, request: Request, name: str) -> Response:
        """All events, newest first; the documented API shows five."""
        page = self.paginate_queryset(self.get_object().events.all())
        return self.get_paginated_response(EventSerializer(page, many=True).data)


class RunViewSet(mixins.ListModelMixin, viewsets.GenericViewSet):
    """Runs of all tasks, newest first, those of deleted tasks too."""

    serializer_class = RunSerializer
    filterset_class = RunFilter
    lookup_value_regex = r"\d+"

    def get_queryset(self) -> QuerySet[Run]:
        """Of the tasks that the user may see."""
        runs = Run.objects.visible_to(self.request.user).select_related("task__domain", "owner")
        return runs.order_by("-pk")

    @extend_schema(responses=RunDetailSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """One run with its plan."""
        return Response(RunDetailSerializer(self.get_object()).data)

    @extend_schema(
        parameters=[OpenApiParameter("after", OpenApiTypes.INT)], responses=LineSerializer(many=True)
    )
    @action(detail=True, filterset_class=None)
    def log(self, request: Request, pk: str) -> Response:
        """Lines of output in order, those after number `after`."""
        after = request.query_params.get("after", "0")
        if not after.isascii() or not after.isdigit() or len(after) > 9:
            raise ValidationError({"after": ["A line's number."]})
        lines = self.get_object().log.filter(number__gt=int(after)).order_by("number")
        return self.get_paginated_response(LineSerializer(self.paginate_queryset(lines), many=True).data)

    def _act(self, act: Any) -> Response:
        run = act(run=self.get_object(), actor=self.request.user)
        return Response(RunSerializer(run).data, status=202)

    @extend_schema(request=None, responses={202: RunSerializer})
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: str) -> Response:
        """Apply exactly the plan that waits for approval."""
        return self._act(services.approve_run)

    @extend_schema(request=None, responses={202: RunSerializer})
    @action(detail=True, methods=["post"])
    def discard(self, request: Request, pk: str) -> Response:
        """Refuse the plan that waits for approval."""
        return self._act(services.discard_run)

    @extend_schema(request=None, responses={202: RunSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Stop a run; one at work is interrupted (SIGINT)."""
        return self._act(services.cancel_run)
