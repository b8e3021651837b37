"""/v1/status of the documented API: shapes, texts, order of checks (contracts, CTS 2.1 to 2.3, 3)."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts_app.states import Role
from tasks_app.models import Task, TaskEvent
from tasks_app.records import refresh_health
from tasks_app.schema import check_task_request
from tasks_app.serializers import finalize
from tasks_app.states import TaskStatus
from tests.factories import make_domain, make_key, make_user
from tests.tasks import conftest as cast
from tests.tasks.conftest import Api, fake_task

pytestmark = pytest.mark.django_db
api, olga, task_home = cast.api, cast.olga, cast.task_home
UNSUPPORTED_STATUS = (
    "unsupported status parameter value. only supporting status values successful, errored, critical, and "
    "unknown but got {}"
)
UNSUPPORTED_INCLUDE = (
    "unsupported ?include parameter value. only supporting 'include=events' but got 'include={}'"
)


def make_task(name: str, outcomes: str = "", enabled: bool = True, **values: Any) -> Task:
    """A task with events, oldest first: s = success, f = failure."""
    document = finalize(check_task_request(fake_task(name, **values))["task"])
    task = Task.objects.create(name=name, document=document, enabled=enabled, status=TaskStatus.ACTIVE)
    begin = timezone.now() - timedelta(hours=1)
    for number, outcome in enumerate(outcomes):
        TaskEvent.objects.create(
            task=task,
            uuid=uuid.uuid4(),
            success=outcome == "s",
            start_time=begin + timedelta(minutes=number),
            end_time=begin + timedelta(minutes=number, seconds=2),
            error="" if outcome == "s" else f"error {number}",
            config={"providers": ["local"], "services": ["api"], "source": "./module"},
        )
    refresh_health(task)
    return task


@pytest.mark.parametrize(
    ("outcomes", "health"),
    [
        ("", "unknown"),
        ("s", "successful"),
        ("f", "errored"),
        ("fs", "successful"),
        ("sf", "errored"),
        ("ssssf", "errored"),
        ("ff", "critical"),
        ("fssf", "critical"),
        ("fssssf", "errored"),  # the older failure has fallen out of the newest five
        ("fsssss", "successful"),
    ],
)
def test_health_follows_from_the_newest_five_events(api: Any, outcomes: str, health: str):
    make_task("t", outcomes)
    assert api.get("/v1/status/tasks/t").found["t"]["status"] == health


def test_overall_status_counts_health_and_enabled(api: Any):
    for name, outcomes, enabled in [
        ("a", "s", True),
        ("b", "sf", True),
        ("c", "ff", False),
        ("d", "", True),
        ("e", "s", False),
    ]:
        make_task(name, outcomes, enabled)
    answer = api.get("/v1/status?anything=1")
    assert answer.status_code == 200
    assert answer.content.endswith(b"}\n")
    assert answer["Content-Type"] == "application/json"
    assert answer.found == {
        "task_summary": {
            "status": {"successful": 2, "errored": 1, "critical": 1, "unknown": 1},
            "enabled": {"true": 3, "false": 2},
        }
    }


def test_all_tasks_and_their_fields(api: Any):
    make_task("a", "s", providers=["null.one"])
    make_task("b", providers=["null"])
    for path in ("/v1/status/tasks", "/v1/status/tasks/"):
        assert api.get(path).found == {
            "a": {
                "task_name": "a",
                "status": "successful",
                "enabled": True,
                "events_url": "/v1/status/tasks/a?include=events",
                "providers": ["local"],
                "services": ["api"],
            },
            "b": {
                "task_name": "b",
                "status": "unknown",
                "enabled": True,
                "events_url": "",
                "providers": ["null"],
                "services": [],
            },
        }


def test_events_are_five_newest_first(api: Any):
    make_task("a", "ssffsfs")
    make_task("b")
    found = api.get("/v1/status/tasks?include=events").found
    assert "events" not in found["b"]
    events = found["a"]["events"]
    assert [event["success"] for event in events] == [True, False, True, False, False]
    assert events[1]["error"] == {"message": "error 5"}
    assert events[0]["error"] is None
    assert set(events[0]) == {"id", "success", "start_time", "end_time", "task_name", "error", "config"}
    assert events[0]["task_name"] == "a"
    assert events[0]["config"] == {"providers": ["local"], "services": ["api"], "source": "./module"}
    assert uuid.UUID(events[0]["id"])
    assert [event["end_time"] for event in events] == sorted((e["end_time"] for e in events), reverse=True)


def test_one_task_and_the_filter(api: Any):
    make_task("good", "s")
    make_task("new")
    assert set(api.get("/v1/status/tasks?status=SUCCESSFUL").found) == {"good"}
    assert api.get("/v1/status/tasks?status=critical").found == {}
    assert api.get("/v1/status/tasks/good?status=critical").found == {}
    assert set(api.get("/v1/status/tasks/good?status=successful").found) == {"good"}
    # One without events is shown whatever the filter says.
    assert set(api.get("/v1/status/tasks/new?status=critical").found) == {"new"}


def test_an_unknown_task_is_a_404_without_request_id(api: Any):
    answer = api.get("/v1/status/tasks/nobody")
    assert answer.status_code == 404
    assert answer.found == {
        "error": {"message": "a task with name 'nobody' does not exist or has not been initialized yet"}
    }


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "/v1/status/tasks/a/b",
            "unsupported path '/v1/status/tasks/a/b'. request must be format 'path/{task-name}'. task name "
            "cannot have '/ ' and api does not support further resources",
        ),
        ("/v1/status/tasks?status=Bad", UNSUPPORTED_STATUS.format("bad")),
        ("/v1/status/tasks?status=", UNSUPPORTED_STATUS.format("")),
        (
            "/v1/status/tasks?status=a&status=b",
            "cannot support more than one status query parameter, got status values: [a b]",
        ),
        ("/v1/status/tasks?include=Events", UNSUPPORTED_INCLUDE.format("Events")),
        ("/v1/status/tasks?include=", UNSUPPORTED_INCLUDE.format("")),
        (
            "/v1/status/tasks?include=a&include=b",
            "cannot support more than one include parameter, got include values: [a b]",
        ),
        # The order of checks: path, status, include, existence.
        ("/v1/status/tasks/nobody?include=x&status=y", UNSUPPORTED_STATUS.format("y")),
        ("/v1/status/tasks/nobody?include=x", UNSUPPORTED_INCLUDE.format("x")),
    ],
)
def test_bad_requests_in_the_originals_words(api: Any, path: str, message: str):
    answer = api.get(path)
    assert answer.status_code == 400
    assert answer.found == {"error": {"message": message}}


@pytest.mark.parametrize(
    ("method", "path", "name", "methods", "allow"),
    [
        ("POST", "/v1/status", "overallStatus", "GET", "GET, OPTIONS"),
        ("PUT", "/v1/status/tasks", "task status", "GET", "GET, OPTIONS"),
        ("DELETE", "/v1/status/tasks/a", "task status", "GET", "GET, OPTIONS"),
        ("DELETE", "/v1/tasks", "task", "PATCH", "GET, POST, PATCH, OPTIONS"),
        ("POST", "/v1/tasks/a", "task", "PATCH", "GET, PUT, PATCH, DELETE, OPTIONS"),
    ],
)
def test_other_methods_are_refused_and_allow_says_the_truth(
    api: Any, method: str, path: str, name: str, methods: str, allow: str
):
    answer = api.ask(method, path, {})
    assert answer.status_code == 405
    text = f"'{method}' in an unsupported method. The {name} API currently supports the method(s): "
    text += f"'{methods}'"
    assert answer.found == {"error": {"message": text}}
    assert set(answer["Allow"].split(", ")) - {"HEAD"} == set(allow.split(", "))


def test_options_is_answered_to_anybody(client: Any):
    answer = client.options("/v1/tasks/anything")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer["Access-Control-Allow-Origin"] == "*"
    assert answer["Access-Control-Allow-Methods"] == "GET, PUT, PATCH, POST, DELETE"
    assert answer["Access-Control-Allow-Headers"] == "Content-Type"


def test_health_and_cluster(api: Any):
    answer = api.get("/v1/health")
    assert (answer.status_code, answer.found) == (200, {})
    cluster = api.get("/v1/status/cluster")
    assert cluster.status_code == 405
    assert cluster.found["error"] == {
        "message": "this endpoint is only available with high availability configured"
    }
    assert uuid.UUID(cluster.found["request_id"])
    other = api.get("/v1/status/whatever")
    assert (other.status_code, set(other.found)) == (404, {"error"})


def test_without_a_key_nothing_is_said(client: Any, olga: Any):
    answer = client.get("/v1/status")
    assert answer.status_code == 401
    assert set(answer.json()) == {"error"}
    assert set(client.get("/v1/tasks").json()) == {"error", "request_id"}


def test_a_viewer_reads_and_a_tenant_sees_his_own(api: Any):
    make_task("untenanted", "s")
    tenant = make_domain("tenant-a")
    theirs = make_task("theirs")
    Task.objects.filter(pk=theirs.pk).update(domain=tenant)
    viewer = Api(make_key(make_user("vera", Role.VIEWER, tenant)).token)
    assert set(viewer.get("/v1/status/tasks").found) == {"theirs"}
    assert viewer.get("/v1/status/tasks/untenanted").status_code == 404
    refused = viewer.delete("/v1/tasks/theirs")
    assert refused.status_code == 403
    assert set(refused.found) == {"error", "request_id"}
    assert set(api.get("/v1/status/tasks").found) == {"untenanted"}
    assert set(api.get("/v1/status/tasks", **{"Cray-Tenant-Name": "tenant-a"}).found) == {"theirs"}
