"""Whatever is sent: no 5xx, and nothing half-written."""

# ruff: noqa: F811
from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.workflows.conftest import fake, fake_world, key, make_workflow, olga, service  # noqa: F401
from workflows_app import services
from workflows_app.models import Workflow

pytestmark = pytest.mark.django_db
RUNS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# Also what a JSON text may hold and databases refuse: NUL, halves of surrogate pairs.
text = st.text(max_size=20) | st.sampled_from(["\x00", "a\x00b", "\ud800"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    [
        "name", "image", "command", "args", "replicas", "port", "environment", "cpu", "memory", "readiness",
        "strategy", "min_ready_seconds", "progress_deadline_seconds", "stop_seconds", "drain_seconds",
        "annotations",
    ]
)  # fmt: skip
half_services = st.fixed_dictionaries({"name": st.just("web")}).flatmap(
    lambda base: st.dictionaries(names, values, max_size=4).map(lambda more: {**base, "image": "a:1", **more})
)
fields = st.sampled_from(
    ["id", "name", "description", "runtime", "mode", "entry", "entry_path", "request_seconds", "keys", "x"]
)


def ok(response) -> bool:
    return response.status_code < 500


@RUNS
@given(specs=st.lists(half_services, max_size=2), more=st.dictionaries(fields, values, max_size=3))
def test_descriptions(client, fake, key, specs, more):
    before = Workflow.objects.count()
    body = {"name": "w", "runtime": "fake", "services": specs, **more}
    response = client.post("/api/v1/workflows", json.dumps(body), content_type="application/json", **key)
    assert ok(response), response.content
    assert Workflow.objects.count() == before + (response.status_code == 201)


@RUNS
@given(body=values | st.binary(max_size=30))
def test_bodies_of_actions(client, make_workflow, olga, key, body):
    workflow = Workflow.objects.filter(name="fuzzed").first()
    if workflow is None:
        workflow = make_workflow(service(), name="fuzzed")
        services.publish_workflow(workflow=workflow, actor=olga)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    for action in ("scale", "rollback"):
        path = f"/api/v1/workflows/{workflow.pk}/{action}"
        response = client.generic("POST", path, content, content_type="application/json", **key)
        assert ok(response), response.content
    response = client.generic(
        "PATCH", f"/api/v1/workflows/{workflow.pk}", content, content_type="application/json", **key
    )
    assert ok(response), response.content


@RUNS
@given(text=st.text(max_size=80), verb=st.sampled_from(["get", "post", "put", "delete", "head", "options"]))
def test_ids_and_keys(client, key, text, verb):
    from urllib.parse import quote

    for action in ("status", "publish", "unpublish", "run"):
        path = f"/api/v1/runtime/workflow/{quote(text, safe='')}/action/{action}"
        assert ok(getattr(client, verb)(path, **key))
        assert ok(getattr(client, verb)(path, HTTP_X_API_KEY=quote(text)))
    assert ok(client.get("/api/v1/runs", {"workflow": text, "limit": text, "offset": text}, **key))
    assert ok(client.get(f"/api/v1/workflows/{quote(text, safe='')}/logs", {"lines": text}, **key))
