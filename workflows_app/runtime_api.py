"""The documented door of a workflow: its status; beside it publish, unpublish, run (seed 003)."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts_app.idempotency import idempotent_apart, settle
from accounts_app.problems import PROBLEM
from accounts_app.states import Verb
from workflows_app import services
from workflows_app.api import started
from workflows_app.document import status_document
from workflows_app.gateway.wire import (
    GAP_SECONDS,
    LOOK_AGAIN,
    NO_REPLICA,
    PASS_HEADER,
    SPARE_SECONDS,
    gateway_pass,
    passing_headers,
)
from workflows_app.models import Deployment, Gateway, Workflow
from workflows_app.serializers import WORKFLOW_ID, StartedSerializer
from workflows_app.states import PublishingMode

NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class WorkflowDoor(APIView):
    """Finds the workflow and decides whether the caller may: the key first, then whether there is one."""

    def workflow(self, workflow_id: str) -> Workflow | None:
        """None where there is none. Raises PermissionDenied for a key of other workflows."""
        return find_workflow(self.request, workflow_id)


def find_workflow(request: Request, workflow_id: str) -> Workflow | None:
    """None where there is none. Raises PermissionDenied for a key of other workflows or another domain."""
    if not WORKFLOW_ID.fullmatch(workflow_id):
        return None  # nobody's id, and PostgreSQL takes no NUL
    workflow = Workflow.objects.select_related("domain").filter(pk=workflow_id).first()
    if workflow is None:
        return None
    key = request.auth
    if key is not None and workflow.keys.filter(pk=key.pk).exists():
        return workflow
    seen = Workflow.objects.visible_to(request.user).filter(pk=workflow_id).exists()
    if not seen or not workflow.opens_to(key):
        raise PermissionDenied("The key does not belong to this workflow.")
    return workflow


class StatusView(WorkflowDoor):
    """Whether a workflow can be used, and if not, why."""

    @extend_schema(responses={200: OpenApiTypes.OBJECT, 404: None}, tags=["runtime"])
    def get(self, request: Request, workflow_id: str) -> Response:
        """The documented status; 404 without body where the workflow has never been published."""
        workflow = self.workflow(workflow_id)
        deployment = services.deployment_of(workflow) if workflow else None
        if deployment is None:
            return Response(status=404)
        response = Response(status_document(deployment))
        response["Cache-Control"] = "no-store"
        return response


class PublishView(WorkflowDoor):
    """Bring a workflow to its runtime."""

    @extend_schema(request=None, responses={202: StartedSerializer, 404: None}, tags=["runtime"])
    def post(self, request: Request, workflow_id: str) -> Response:
        """Publish the workflow as it is described now; repeating it changes nothing."""
        workflow = self.workflow(workflow_id)
        if workflow is None:
            return Response(status=404)
        return started(services.publish_workflow(workflow=workflow, actor=request.user))


class UnpublishView(WorkflowDoor):
    """Remove what runs of a workflow."""

    @extend_schema(request=None, responses={202: StartedSerializer, 404: None}, tags=["runtime"])
    def post(self, request: Request, workflow_id: str) -> Response:
        """Unpublish the workflow; repeating it changes nothing. 404 where it was never published."""
        workflow = self.workflow(workflow_id)
        if workflow is None or services.deployment_of(workflow) is None:
            return Response(status=404)
        return started(services.unpublish_workflow(workflow=workflow, actor=request.user))


class RunGate(WorkflowDoor):
    """Who may use a workflow; what is to be done with the request. Runs in a thread; the proxying doesn't."""

    verb = Verb.OPERATE

    @extend_schema(
        request=OpenApiTypes.BINARY,
        responses={200: OpenApiTypes.BINARY, 202: OpenApiTypes.OBJECT, 404: None, 503: OpenApiTypes.OBJECT},
        tags=["runtime"],
        description="SYNC: the answer of the workflow's entry service, or 503 with the status document where "
        "the workflow can't be used. ASYNC: 202; the analysis is kept until the workflow can take it.",
    )
    @idempotent_apart
    def post(self, request: Request, workflow_id: str) -> Response | HttpResponse:
        """Use the workflow."""
        workflow = self.workflow(workflow_id)
        deployment = services.deployment_of(workflow) if workflow else None
        if workflow is None or deployment is None:
            return Response(status=404)
        colour = deployment.present_colour()
        if not deployment.usable(colour):
            return unusable(deployment)
        if deployment.mode == PublishingMode.ASYNC:
            return self._queue(request, workflow)
        gateways = list(Gateway.objects.at_work())
        if not gateways:
            return unusable(deployment)
        body = deployment.revision.body
        urls = list({gateway.url for gateway in gateways})
        random.SystemRandom().shuffle(urls)
        passed = Passed(tuple(urls), workflow_id, body.get("request_seconds", 60))
        response = HttpResponse(status=200)
        response.passed = passed  # type: ignore[attr-defined]
        return response

    def _queue(self, request: Request, workflow: Workflow) -> Response:
        try:
            run = services.queue_run(
                workflow=workflow,
                actor=request.user,
                body=request._request.body,
                content_type=request.META.get("CONTENT_TYPE", ""),
            )
        except services.NotUsable:
            deployment = services.deployment_of(workflow)
            return Response(status_document(deployment) if deployment else None, status=503)
        answer = {
            "run": str(run.pk),
            "status": run.status,
            "background_task": str(run.background_task_id),
            "expires_at": run.expires_at,
        }
        return Response(answer, status=202, headers={"Location": f"/api/v1/runs/{run.pk}"})


@dataclass(frozen=True)
class Passed:
    """A request that may go to a gateway."""

    urls: tuple[str, ...]  # of the gateways at work, each once
    workflow_id: str
    seconds: float


def unusable(deployment: Deployment) -> JsonResponse:
    """503 with the status document: it says why."""
    response = JsonResponse(status_document(deployment), status=503)
    response["Retry-After"] = "5"
    return response


_gate = RunGate.as_view()


@csrf_exempt  # the gate's authentication asks for CSRF where the caller came with a login cookie
async def run(request: HttpRequest, workflow_id: str) -> HttpResponse:
    """POST: use the workflow (see RunGate). No thread waits while the service computes."""
    try:
        body = request.body
    except RequestDataTooBig:
        return _problem(413, "Content Too Large", "The request is larger than this service takes.")
    gate: Any = sync_to_async(_gate)
    response = await gate(request, workflow_id=workflow_id)
    passed: Passed | None = getattr(response, "passed", None)
    if passed is None:
        return response
    answer = await _pass_on(passed, request, body)
    claim = getattr(response, "claim", None)
    if claim is not None:
        await sync_to_async(settle)(claim, answer)
    if answer is None:
        deployment = await sync_to_async(_find_deployment)(workflow_id)
        answer = await sync_to_async(unusable)(deployment) if deployment else HttpResponse(status=404)
    return answer


def _find_deployment(workflow_id: str) -> Deployment | None:
    return Deployment.objects.select_related("revision").filter(pk=workflow_id).first()


async def _pass_on(passed: Passed, request: HttpRequest, body: bytes) -> HttpResponse | None:
    """The answer of one gateway; None where none could be reached, or none could reach a service.

    Where nobody takes the connection nothing was sent, so another may be asked, and all of them again.
    """
    give_up = time.monotonic() + GAP_SECONDS
    while True:
        for url in passed.urls:
            try:
                return await _ask(url, passed, request, body)
            except NOT_CONNECTED:
                continue
        if time.monotonic() >= give_up:
            return None
        await asyncio.sleep(LOOK_AGAIN)


async def _ask(url: str, passed: Passed, request: HttpRequest, body: bytes) -> HttpResponse | None:
    """One gateway's answer. Raises one of NOT_CONNECTED where nothing was sent to it."""
    timeout = aiohttp.ClientTimeout(total=passed.seconds + SPARE_SECONDS, sock_connect=2)
    headers = passing_headers(request.headers.items()) | {PASS_HEADER: gateway_pass()}
    query = request.META.get("QUERY_STRING", "")
    address = f"{url}/run/{passed.workflow_id}{'?' + query if query else ''}"
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
            session.post(address, data=body, headers=headers) as answer,
        ):
            if answer.headers.get(NO_REPLICA):
                return None
            content = await answer.content.read(settings.MUSTER_RUN_BODY_BYTES + 1)
            while len(content) <= settings.MUSTER_RUN_BODY_BYTES and not answer.content.at_eof():
                content += await answer.content.read(settings.MUSTER_RUN_BODY_BYTES + 1 - len(content))
            if len(content) > settings.MUSTER_RUN_BODY_BYTES:
                return _problem(502, "Bad Gateway", "The workflow's answer is too large.")
            response = HttpResponse(content, status=answer.status)
            del response["Content-Type"]
            for name, value in passing_headers(answer.headers.items()).items():
                response[name] = value
            return response
    except NOT_CONNECTED:
        raise
    except TimeoutError:
        return _problem(504, "Gateway Timeout", f"The workflow did not answer within {passed.seconds} s.")
    except aiohttp.ClientError:
        return _problem(502, "Bad Gateway", "The connection to the workflow broke.")


def _problem(status: int, title: str, detail: str) -> JsonResponse:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return JsonResponse(body, status=status, content_type=PROBLEM)
