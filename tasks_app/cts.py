"""The documented API of Consul-Terraform-Sync: /v1/status, /v1/tasks, /v1/health (contracts, CTS 2).

Two generations of endpoints differ in their errors: the older ones (status, PATCH) have no request id, the
newer ones have. Texts, order of checks and status codes are the original's but for what
docs/compatibility.md lists.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import re_path
from drf_spectacular.utils import extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts_app.idempotency import idempotent_apart
from accounts_app.models import Domain
from accounts_app.permissions import may
from accounts_app.states import Verb
from tasks_app import services
from tasks_app.decoding import BodyError, decode_enabled, decode_request
from tasks_app.models import Task, TaskEvent, Trigger
from tasks_app.schema import SchemaError, check_task_request
from tasks_app.serializers import TaskError, finalize, task_json
from tasks_app.states import Health, Operation
from tasks_app.triggers import watching_fault

TENANT = "Cray-Tenant-Name"
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "Content-Type",
    "Access-Control-Allow-Methods": "GET, PUT, PATCH, POST, DELETE",
}
_OPERATIONS = {"": "", "now": Operation.APPLY, "inspect": Operation.INSPECT}


class Renderer(JSONRenderer):
    """JSON as Go writes it: `<`, `>` and `&` escaped, a newline at the end."""

    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        for char in "<>&\u2028\u2029":
            text = text.replace(char, f"\\u{ord(char):04x}")
        return text.encode() + b"\n"


class AnyAccept(BaseContentNegotiation):
    """The original always answers JSON, whatever the client says it accepts."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class Refusal(Exception):
    """An answer that is not success: status, message, and whether it carries a request id."""

    def __init__(self, status: int, message: str, *, legacy: bool = False) -> None:
        super().__init__(message)
        self.status, self.message, self.legacy = status, message, legacy


@extend_schema(exclude=True)
class CtsView(APIView):
    """What all endpoints share: identity, errors, CORS, the 405 of each."""

    renderer_classes = [Renderer]
    content_negotiation_class = AnyAccept
    legacy = True  # errors without request id
    api_name, api_methods = "task", "PATCH"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """OPTIONS is answered without an identity: browsers ask so before they send one."""
        self.request_id = str(uuid.uuid4())
        if request.method == "OPTIONS":
            response: HttpResponseBase = HttpResponse(status=200)
        else:
            response = super().dispatch(request, *args, **kwargs)
        for name, value in CORS.items():
            response.headers.setdefault(name, value)
        return response

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, Refusal):
            return self.error(exc.status, exc.message, legacy=exc.legacy)
        return super().handle_exception(exc)

    def problem(self, status: int, title: str, detail: str, errors: Any = None) -> Response:
        """Errors that the framework raises, in this API's form."""
        return self.error(status, detail, legacy=self.legacy)

    def error(self, status: int, message: str, *, legacy: bool = False) -> Response:
        """`{"error":{"message"}}`, and the request id where the endpoint is one of the newer ones."""
        body: dict[str, Any] = {"error": {"message": message}}
        if not legacy:
            body["request_id"] = self.request_id
        return Response(body, status=status)

    def http_method_not_allowed(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        text = (
            f"'{request.method}' in an unsupported method. The {self.api_name} API currently supports the "
            f"method(s): '{self.api_methods}'"
        )
        response = self.error(405, text, legacy=True)
        response["Allow"] = ", ".join(self.allowed_methods)
        return response

    # -- which tasks -----------------------------------------------------------------------------------

    def tasks(self) -> Any:
        """The tasks that the caller sees: of the tenant he names, else of his own domain."""
        user: Any = self.request.user
        found = Task.objects.existing().visible_to(user).select_related("domain")
        tenant = self.request.headers.get(TENANT, "")
        if tenant:
            return found.filter(domain__name=tenant)
        return found.filter(domain_id=user.domain_id)

    def domain(self) -> Domain | None:
        """Where a new task belongs."""
        user: Any = self.request.user
        tenant = self.request.headers.get(TENANT, "")
        if not tenant or (user.domain and user.domain.name == tenant):
            return user.domain
        found = Domain.objects.filter(name=tenant).first() if user.is_superadmin else None
        if found is None:
            raise Refusal(403, f"tenant '{tenant}' is not yours", legacy=self.legacy)
        return found

    def task(self, name: str, *, legacy: bool = False) -> Task:
        """The task of a name, or the documented 404."""
        # PostgreSQL takes no NUL, not even to look for it.
        task = None if "\x00" in name else self.tasks().filter(name=name).first()
        if task is None:
            text = f"a task with name '{name}' does not exist or has not been initialized yet"
            raise Refusal(404, text, legacy=legacy)
        return task


def _name_of(request: Request, rest: str | None) -> str:
    """The task's name in a path of the older endpoints; Refusal where the path goes on."""
    if rest and "/" in rest:
        raise Refusal(
            400,
            f"unsupported path '{request.path}'. request must be format 'path/{{task-name}}'. task name "
            "cannot have '/ ' and api does not support further resources",
            legacy=True,
        )
    return rest or ""


def _go_list(values: list[str]) -> str:
    return f"[{' '.join(values)}]"


class OverallStatus(CtsView):
    """GET /v1/status: how many tasks have which health, how many are enabled."""

    api_name, api_methods = "overallStatus", "GET"

    def get(self, request: Request) -> Response:
        status = dict.fromkeys(("successful", "errored", "critical", "unknown"), 0)
        enabled = {"true": 0, "false": 0}
        for health, is_enabled in self.tasks().values_list("health", "enabled"):
            status[health] += 1
            enabled["true" if is_enabled else "false"] += 1
        return Response({"task_summary": {"status": status, "enabled": enabled}})


class TaskStatus(CtsView):
    """GET /v1/status/tasks[/name]: health and newest events of tasks."""

    api_name, api_methods = "task status", "GET"

    def get(self, request: Request, rest: str | None = None) -> Response:
        name = _name_of(request, rest)
        wanted = self._status(request)
        with_events = self._include(request)
        tasks = self.tasks()
        if name:
            task = self.task(name, legacy=True)
            # A task without events is shown whatever the filter says (contract, CTS 2.3).
            shown = not wanted or task.health in (wanted, Health.UNKNOWN)
            found = [task] if shown else []
        else:
            found = list(tasks.filter(health=wanted) if wanted else tasks)
        return Response(_statuses(found, with_events))

    def _status(self, request: Request) -> str:
        values = request.query_params.getlist("status")
        if not values:
            return ""
        if len(values) > 1:
            text = "cannot support more than one status query parameter, got status values: "
            raise Refusal(400, text + _go_list(values), legacy=True)
        value = values[0].lower()
        if value not in Health.values:
            text = (
                "unsupported status parameter value. only supporting status values successful, errored, "
                f"critical, and unknown but got {value}"
            )
            raise Refusal(400, text, legacy=True)
        return value

    def _include(self, request: Request) -> bool:
        values = request.query_params.getlist("include")
        if not values:
            return False
        if len(values) > 1:
            text = "cannot support more than one include parameter, got include values: "
            raise Refusal(400, text + _go_list(values), legacy=True)
        if values[0] != "events":
            text = (
                "unsupported ?include parameter value. only supporting 'include=events' but got "
                f"'include={values[0]}'"
            )
            raise Refusal(400, text, legacy=True)
        return True


def _statuses(tasks: list[Task], with_events: bool) -> dict[str, Any]:
    events: dict[int, list[TaskEvent]] = {}
    of_tasks = TaskEvent.objects.filter(task__in=[task.pk for task in tasks])
    for event in of_tasks.recent():
        events.setdefault(event.task_id, []).append(event)
    return {task.name: _status_json(task, events.get(task.pk, []), with_events) for task in tasks}


def _status_json(task: Task, events: list[TaskEvent], with_events: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "task_name": task.name,
        "status": task.health,
        "enabled": task.enabled,
        "events_url": f"/v1/status/tasks/{task.name}?include=events" if events else "",
    }
    if with_events and events:
        shown["events"] = [_event_json(task, event) for event in events]
    for key in ("providers", "services"):
        configs = [event.config or {} for event in events] if events else [task.document]
        words = [word for config in configs for word in config.get(key) or []]
        shown[key] = list(dict.fromkeys(words))
    return shown


def _event_json(task: Task, event: TaskEvent) -> dict[str, Any]:
    return {
        "id": str(event.uuid),
        "success": event.success,
        "start_time": event.start_time.isoformat().replace("+00:00", "Z"),
        "end_time": event.end_time.isoformat().replace("+00:00", "Z"),
        "task_name": task.name,
        "error": None if event.success else {"message": event.error},
        "config": event.config,
    }


class HealthCheck(CtsView):
    """GET /v1/health: 200, or 503 with why conditions can't be watched."""

    legacy = False
    api_name, api_methods = "health", "GET"

    def get(self, request: Request) -> Response:
        sick = Trigger.objects.watched().exclude(error="").filter(task__enabled=True, task__in=self.tasks())
        why = [f"task '{row.task.name}': {row.kind}: {row.error}" for row in sick.select_related("task")[:20]]
        if not why:
            why = watching_fault()
        if why:
            return self.error(503, f"CTS is not healthy: {'; '.join(why)}", legacy=True)
        return Response({})


class ClusterStatus(CtsView):
    """GET /v1/status/cluster: only known to the enterprise edition."""

    legacy = False

    def get(self, request: Request) -> Response:
        return self.error(405, "this endpoint is only available with high availability configured")


class UnknownStatus(CtsView):
    """/v1/status/anything else."""

    def get(self, request: Request, rest: str = "") -> Response:
        return self.error(404, f"there is no resource '{request.path}'", legacy=True)

    post = put = patch = delete = get


class Tasks(CtsView):
    """GET and POST /v1/tasks."""

    legacy = False

    def get(self, request: Request) -> Response:
        tasks = [task_json(task.document, enabled=task.enabled) for task in self.tasks()]
        return Response({"request_id": self.request_id, "tasks": tasks})

    @idempotent_apart
    def post(self, request: Request) -> Response:
        operation = _OPERATIONS[_run_of_schema(request)]
        given = _request_of(request)
        domain = self.domain()
        if Task.objects.existing().filter(name=given["name"], domain=domain).exists():
            raise Refusal(400, f"task with name {given['name']} already exists")
        document = _document(request, given)
        inspects = operation == Operation.INSPECT
        try:
            _, run = services.begin_task(
                document=document,
                domain=domain,
                actor=request.user,
                operation=operation or Operation.PREPARE,
            )
            if run is not None:
                run = services.wait_for_run(run)
        except services.TaskExists as error:
            raise Refusal(400, str(error)) from None
        except services.RunFailed as error:
            prefix = "error inspecting new task: " if inspects else ""
            status = 400 if inspects or error.permanent else 500
            raise Refusal(status, f"{prefix}{error}") from None
        except services.NobodyWorks as error:
            raise Refusal(503, str(error)) from None
        body = {"request_id": self.request_id, "task": task_json(document, enabled=document["enabled"])}
        if inspects:
            changes = bool(run and run.has_changes)
            body["run"] = {"changes_present": changes, "plan": run.plan_text if run else ""}
        return Response(body, status=200 if inspects else 201)

    def patch(self, request: Request) -> Response:
        text = (
            "no task name was included in the api request. Updating a task requires the task name: "
            "'/v1/tasks/:task_name'"
        )
        return self.error(400, text, legacy=True)


def _run_of_schema(request: Request) -> str:
    """`run` as the schema checks it."""
    values = request.query_params.getlist("run")
    if not values:
        return ""
    if values[0] not in ("now", "inspect"):
        text = (
            'parameter "run" in query has an error: value is not one of the allowed values ["now","inspect"]'
        )
        raise Refusal(400, text)
    return values[0]


def _request_of(request: Request) -> dict[str, Any]:
    """The task of a request's body, fit for the schema."""
    try:
        return check_task_request(decode_request(request.body, request.content_type or ""))["task"]
    except (BodyError, SchemaError) as error:
        raise Refusal(400, str(error)) from None


def _document(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    try:
        document = finalize(given)
    except TaskError as error:
        raise Refusal(400, str(error)) from None
    if document["driver"] == "command" and not may(request.user, Verb.ADMIN, request.auth):
        raise Refusal(403, "only administrators make tasks of the driver 'command'")
    return document


class OneTask(CtsView):
    """GET, PATCH, PUT (ours) and DELETE /v1/tasks/{name}."""

    legacy = False

    def get(self, request: Request, rest: str) -> Response:
        task = self.task(rest)
        return Response(
            {"request_id": self.request_id, "task": task_json(task.document, enabled=task.enabled)}
        )

    def delete(self, request: Request, rest: str) -> Response:
        """Mark for deletion. `?destroy=true` (ours) destroys first; the header says what stays behind."""
        destroy = request.query_params.get("destroy", "").lower()
        if destroy not in ("", "true", "false"):
            raise Refusal(400, f"unsupported destroy parameter value: {destroy}")
        left = services.delete_task(task=self.task(rest), actor=request.user, destroy=destroy == "true")
        response = Response({"request_id": self.request_id}, status=202)
        if left:
            response["Muster-Left-Behind"] = json.dumps(left)
        return response

    def patch(self, request: Request, rest: str) -> Response:
        name = _name_of(request, rest)
        run = _run_of_patch(request)
        try:
            enabled = decode_enabled(request.body)
        except BodyError as error:
            raise Refusal(400, str(error), legacy=True) from None
        task = self.task(name)
        try:
            started = services.update_enabled(
                task=task, enabled=enabled, actor=request.user, operation=_OPERATIONS[run]
            )
            done = services.wait_for_run(started) if started else None
        except services.TaskActive as error:
            raise Refusal(409, str(error)) from None
        except services.RunFailed as error:
            raise Refusal(400 if error.permanent else 500, str(error)) from None
        except services.NobodyWorks as error:
            raise Refusal(503, str(error)) from None
        if run != "inspect":
            return Response({})
        changes = bool(done and done.has_changes)
        return Response({"inspect": {"changes_present": changes, "plan": done.plan_text if done else ""}})

    def put(self, request: Request, rest: str) -> Response:
        """Replace all settings (ours). Body and checks as of POST; the name stays."""
        run = _run_of_schema(request)
        task = self.task(rest)
        document = _document(request, _request_of(request))
        try:
            started = services.begin_update(
                task=task, document=document, actor=request.user, operation=_OPERATIONS[run]
            )
            done = services.wait_for_run(started) if started else None
        except services.TaskActive as error:
            raise Refusal(409, str(error)) from None
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        except services.RunFailed as error:
            raise Refusal(400 if error.permanent or run == "inspect" else 500, str(error)) from None
        except services.NobodyWorks as error:
            raise Refusal(503, str(error)) from None
        body = {"request_id": self.request_id, "task": task_json(document, enabled=document["enabled"])}
        if run == "inspect":
            changes = bool(done and done.has_changes)
            body["run"] = {"changes_present": changes, "plan": done.plan_text if done else ""}
        return Response(body)


def _run_of_patch(request: Request) -> str:
    values = request.query_params.getlist("run")
    if not values:
        return ""
    if len(values) > 1:
        text = "cannot support more than one run query parameter, got run values: "
        raise Refusal(400, text + _go_list(values), legacy=True)
    value = values[0].lower()
    if value not in ("now", "inspect"):
        text = f"unsupported run parameter value. only supporting run values now and inspect but got {value}"
        raise Refusal(400, text, legacy=True)
    return value


urls = [
    re_path(r"^v1/status/?$", OverallStatus.as_view(), name="cts-status"),
    re_path(r"^v1/status/tasks(?:/(?P<rest>(?s:.*)))?\Z", TaskStatus.as_view(), name="cts-status-tasks"),
    re_path(r"^v1/status/cluster$", ClusterStatus.as_view(), name="cts-cluster"),
    re_path(r"^v1/status/(?P<rest>(?s:.+))\Z", UnknownStatus.as_view()),
    re_path(r"^v1/health$", HealthCheck.as_view(), name="cts-health"),
    re_path(r"^v1/tasks/?$", Tasks.as_view(), name="cts-tasks"),
    re_path(r"^v1/tasks/(?P<rest>(?s:.+))\Z", OneTask.as_view(), name="cts-task"),
]
