"""Whatever is sent, the documented tasks API answers below 500 and in its own form."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks_app.models import Task
from tests.tasks import conftest as cast
from tests.tasks.conftest import Api

pytestmark = pytest.mark.django_db
api, olga, task_home = cast.api, cast.olga, cast.task_home

FUZZ = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TEXT = st.text(max_size=20)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
SERVICES = st.fixed_dictionaries(
    {}, optional={"names": st.lists(TEXT, max_size=2), "regexp": TEXT, "filter": TEXT, "datacenter": TEXT}
)
CONDITION = st.fixed_dictionaries(
    {},
    optional={
        "services": SERVICES | ANYTHING,
        "schedule": st.fixed_dictionaries({"cron": TEXT | st.just("* * * * *")}),
        "consul_kv": st.fixed_dictionaries({"path": TEXT}, optional={"recurse": st.booleans()}),
        "catalog_services": st.fixed_dictionaries({"regexp": TEXT}),
        "session": st.fixed_dictionaries({}, optional={"states": st.lists(TEXT, max_size=2), "name": TEXT}),
    },
)
# Disabled from the start: what is fuzzed here is the reading of requests, not Terraform.
TASK = st.fixed_dictionaries(
    {
        "name": TEXT | st.just("t"),
        "module": TEXT,
        "condition": CONDITION | ANYTHING,
        "enabled": st.just(False),
    },
    optional={
        "description": TEXT,
        "providers": st.lists(TEXT, max_size=2),
        "variables": st.dictionaries(TEXT, TEXT, max_size=2),
        "buffer_period": st.fixed_dictionaries({}, optional={"min": TEXT | st.just("5s"), "max": TEXT}),
        "module_input": ANYTHING,
        "timeout": TEXT,
        "retries": st.floats() | st.integers(),
        "drift_schedule": TEXT,
        "backend": TEXT,
    },
)


def _check(answer: Any) -> None:
    assert answer.status_code < 500, answer.content
    if answer.status_code >= 400:
        assert isinstance(answer.found["error"]["message"], str)


def _body(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


@FUZZ
@given(body=TASK)
def test_tasks(api: Api, body: Any):
    before = Task.objects.count()
    answer = api.post("/v1/tasks", _body({"task": body}))
    _check(answer)
    assert Task.objects.count() == before + (answer.status_code == 201)
    if answer.status_code == 201:
        name = answer.found["task"]["name"]
        assert api.get(f"/v1/tasks/{name}").found["task"] == answer.found["task"]
        again = {"task": {**answer.found["task"], "name": "again"}}
        assert api.post("/v1/tasks", _body(again)).status_code == 201  # what it answers, it takes
        assert api.delete("/v1/tasks/again").status_code == 202
        assert api.delete(f"/v1/tasks/{name}").status_code == 202


@FUZZ
@given(body=ANYTHING | st.binary(max_size=40), path=TEXT)
def test_anything_else(api: Api, body: Any, path: str):
    data = body if isinstance(body, bytes) else _body(body)
    _check(api.post("/v1/tasks", data))
    _check(api.patch("/v1/tasks/nobody", data))
    _check(api.put("/v1/tasks/nobody", data))
    name = quote(path.encode("utf-8", "replace"), safe="")
    for prefix in ("/v1/status/tasks/x", "/v1/tasks/x"):
        _check(api.get(prefix + name))
    _check(api.get(f"/v1/status/tasks?include={name}&status={name}"))
    _check(api.patch(f"/v1/tasks/nobody?run={name}", {"enabled": True}))
