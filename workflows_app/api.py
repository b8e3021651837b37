"""Our own API: describe workflows, scale them, roll them back; look at runtimes and queued analyses."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from accounts_app.idempotency import idempotent
from accounts_app.permissions import RolePermission, SuperadminWrites
from accounts_app.problems import problem
from accounts_app.states import Verb
from events_app.models import BackgroundTask
from workflows_app import services
from workflows_app.document import status_document
from workflows_app.drivers.base import RuntimeFault
from workflows_app.models import Run, Runtime, Workflow
from workflows_app.serializers import (
    WORKFLOW_ID,
    RevisionSerializer,
    RollbackSerializer,
    RunSerializer,
    RuntimeSerializer,
    ScaleSerializer,
    StartedSerializer,
    WorkflowSerializer,
)

PUBLISHING = {"publish", "unpublish", "scale", "rollback", "cancel"}


class WorkflowPermission(RolePermission):
    """Describing a workflow means choosing what runs on our machines: for administrators. Publishing,
    scaling and rolling back what they described: for operators."""

    def has_permission(self, request: Request, view: Any) -> bool:
        view.verb = Verb.OPERATE if view.action in PUBLISHING else Verb.ADMIN
        return super().has_permission(request, view)

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        workflow = obj if isinstance(obj, Workflow) else obj.workflow
        return workflow.opens_to(request.auth)


def started(task: BackgroundTask) -> Response:
    """202 with the progress bar of what was begun."""
    body = {"background_task": str(task.pk), "status": task.status, "message": task.message}
    return Response(body, status=status.HTTP_202_ACCEPTED)


class WorkflowViewSet(viewsets.GenericViewSet):
    """Workflows of the caller's domain."""

    queryset = Workflow.objects.none()
    serializer_class = WorkflowSerializer
    permission_classes = [WorkflowPermission]

    def get_queryset(self) -> QuerySet[Workflow]:
        rows = Workflow.objects.visible_to(self.request.user)
        rows = rows.select_related("domain", "runtime", "deployment__revision")
        return rows.prefetch_related("keys", "deployment__services")

    def get_object(self) -> Workflow:
        if not WORKFLOW_ID.fullmatch(self.kwargs["pk"]):
            raise NotFound("There is no such workflow.")  # nobody's id, and PostgreSQL takes no NUL
        return super().get_object()

    def list(self, request: Request) -> Response:
        """All workflows, by name."""
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        """One workflow."""
        return Response(self.get_serializer(self.get_object()).data)

    def create(self, request: Request) -> Response:
        """Describe a workflow; it runs once it is published."""
        check = self.get_serializer(data=request.data)
        check.is_valid(raise_exception=True)
        user: Any = request.user
        workflow = services.create_workflow(actor=user, domain=user.domain, **check.validated_data)
        return Response(self.get_serializer(workflow).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=WorkflowSerializer)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change the description. Of a published workflow, what changed is rolled out at once."""
        return self._update(request, partial=True)

    def update(self, request: Request, pk: str) -> Response:
        """Replace the description. Of a published workflow, what changed is rolled out at once."""
        return self._update(request, partial=False)

    def _update(self, request: Request, *, partial: bool) -> Response:
        workflow = self.get_object()
        check = self.get_serializer(workflow, data=request.data, partial=partial)
        check.is_valid(raise_exception=True)
        values = dict(check.validated_data)
        if values.pop("id", workflow.pk) != workflow.pk:
            raise ValidationError({"id": ["The id of a workflow can't be changed."]})
        task = services.update_workflow(workflow=workflow, actor=request.user, **values)
        body = dict(self.get_serializer(self.get_queryset().get(pk=workflow.pk)).data)
        body["background_task"] = str(task.pk) if task else None
        return Response(body)

    def destroy(self, request: Request, pk: str) -> Response:
        """Forget a workflow; 409 while anything of it runs."""
        services.delete_workflow(workflow=self.get_object(), actor=request.user)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses={202: StartedSerializer})
    @action(detail=True, methods=["post"])
    @idempotent
    def publish(self, request: Request, pk: str) -> Response:
        """Bring the workflow to its runtime as it is described now."""
        return started(services.publish_workflow(workflow=self.get_object(), actor=request.user))

    @extend_schema(request=None, responses={202: StartedSerializer})
    @action(detail=True, methods=["post"])
    def unpublish(self, request: Request, pk: str) -> Response:
        """Remove what runs."""
        return started(services.unpublish_workflow(workflow=self.get_object(), actor=request.user))

    @extend_schema(request=ScaleSerializer, responses={202: StartedSerializer})
    @action(detail=True, methods=["post"])
    @idempotent
    def scale(self, request: Request, pk: str) -> Response:
        """Ask for another number of instances of one service; the running ones are left alone."""
        workflow = self.get_object()
        check = ScaleSerializer(data=request.data)
        check.is_valid(raise_exception=True)
        return started(services.scale_service(workflow=workflow, actor=request.user, **check.validated_data))

    @extend_schema(request=RollbackSerializer, responses={202: StartedSerializer})
    @action(detail=True, methods=["post"])
    @idempotent
    def rollback(self, request: Request, pk: str) -> Response:
        """Return to an earlier revision."""
        workflow = self.get_object()
        check = RollbackSerializer(data=request.data or {})
        check.is_valid(raise_exception=True)
        return started(services.roll_back(workflow=workflow, actor=request.user, **check.validated_data))

    @extend_schema(responses=RevisionSerializer(many=True))
    @action(detail=True)
    def revisions(self, request: Request, pk: str) -> Response:
        """Everything that was published, newest first."""
        rows = self.get_object().revisions.select_related("created_by")
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(RevisionSerializer(page, many=True).data)

    @extend_schema(responses=OpenApiTypes.OBJECT)
    @action(detail=True)
    def state(self, request: Request, pk: str) -> Response:
        """The status document with what it leaves out: status, revision, each service's own words."""
        workflow = self.get_object()
        deployment = services.deployment_of(workflow)
        if deployment is None:
            raise NotFound("The workflow has never been published.")
        rows = deployment.services.prefetch_related("replicas")
        body = {
            **status_document(deployment),
            "status": deployment.status,
            "revision": deployment.revision.number,
            "usable": deployment.usable(deployment.present_colour()),
            "error": deployment.error,
            "fault": deployment.fault,
            "observed_at": deployment.observed_at,
            "rolled_out_at": deployment.rolled_out_at,
            "messages": {row.key: row.message for row in rows if row.message},
            "restarts": {replica.name: replica.restarts for row in rows for replica in row.replicas.all()},
        }
        return Response(body)

    @extend_schema(
        responses={(200, "text/plain"): str},
        parameters=[
            OpenApiParameter("service", str, required=True),
            OpenApiParameter("replica", str, required=True),
            OpenApiParameter("lines", int, default=200),
        ],
    )
    @action(detail=True)
    def logs(self, request: Request, pk: str) -> HttpResponse | Response:
        """The last lines that one replica wrote, as text."""
        workflow = self.get_object()
        lines = request.query_params.get("lines", "200")
        if not lines.isdecimal() or not 1 <= int(lines[:6]) <= 10000:
            raise ValidationError({"lines": ["Give a number from 1 to 10000."]})
        names = {name: request.query_params.get(name, "") for name in ("service", "replica")}
        try:
            text = services.read_logs(workflow=workflow, lines=int(lines), **names)
        except RuntimeFault as fault:
            return problem(404 if fault.permanent else 503, "No log", str(fault))
        return HttpResponse(text, content_type="text/plain; charset=utf-8")


class RunViewSet(viewsets.GenericViewSet):
    """Analyses that were queued for asynchronous workflows."""

    queryset = Run.objects.none()
    serializer_class = RunSerializer
    permission_classes = [WorkflowPermission]

    def get_queryset(self) -> QuerySet[Run]:
        seen = Workflow.objects.visible_to(self.request.user)
        rows = (
            Run.objects.filter(workflow__in=seen).order_by("-created_at").select_related("workflow__domain")
        )
        workflow = self.request.query_params.get("workflow")
        if not workflow:
            return rows
        return rows.filter(workflow=workflow) if WORKFLOW_ID.fullmatch(workflow) else rows.none()

    def get_object(self) -> Run:
        run = get_object_or_404(self.get_queryset(), pk=self.kwargs["pk"])
        self.check_object_permissions(self.request, run)
        return run

    @extend_schema(parameters=[OpenApiParameter("workflow", str)])
    def list(self, request: Request) -> Response:
        """Newest first; `workflow` narrows it to one."""
        page = self.paginate_queryset(self.get_queryset().filter(workflow__in=self._open_workflows()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def _open_workflows(self) -> QuerySet[Workflow]:
        """A key that is associated with workflows lists the runs of these alone."""
        rows = Workflow.objects.visible_to(self.request.user)
        key: Any = self.request.auth
        if key is not None and key.workflows.exists():
            rows = rows.filter(keys=key)
        return rows

    def retrieve(self, request: Request, pk: str) -> Response:
        """One analysis, with the answer once there is one."""
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Take it from the queue; 409 where it was delivered already."""
        run = self.get_object()
        services.cancel_run(run=run, actor=request.user)
        return Response(self.get_serializer(run).data)


class RuntimeViewSet(viewsets.GenericViewSet):
    """Where workflows can run."""

    queryset = Runtime.objects.order_by("name")
    serializer_class = RuntimeSerializer
    permission_classes = [SuperadminWrites]
    lookup_field = "name"

    def get_object(self) -> Runtime:
        if "\0" in self.kwargs["name"]:
            raise NotFound("There is no such runtime.")
        return super().get_object()

    def list(self, request: Request) -> Response:
        """All runtimes, by name."""
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Request, name: str) -> Response:
        """One runtime, without its secrets."""
        return Response(self.get_serializer(self.get_object()).data)

    def create(self, request: Request) -> Response:
        """Add a runtime; secret settings are stored encrypted."""
        check = self.get_serializer(data=request.data)
        check.is_valid(raise_exception=True)
        runtime = services.create_runtime(actor=request.user, **check.validated_data)
        return Response(self.get_serializer(runtime).data, status=status.HTTP_201_CREATED)

    def destroy(self, request: Request, name: str) -> Response:
        """Remove a runtime; 409 while a workflow names it."""
        services.delete_runtime(runtime=self.get_object(), actor=request.user)
        return Response(status=status.HTTP_204_NO_CONTENT)
