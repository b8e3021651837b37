"""Our own API: describe, publish, scale, roll back; who may; what is refused, and how."""

from __future__ import annotations

import pytest

from accounts_app.states import Role
from events_app.models import BackgroundTask
from tests.factories import make_domain, make_key, make_user
from tests.workflows.conftest import service
from workflows_app import services, steps
from workflows_app.models import Runtime, Workflow

pytestmark = pytest.mark.django_db
JSON = "application/json"
BASE = "/api/v1/workflows"


def headers(user) -> dict[str, str]:
    return {"HTTP_X_API_KEY": make_key(user).token}


def described(**values):
    return {"name": "sample", "runtime": "fake", "services": [{"name": "entry", "image": "a:1"}], **values}


def post(client, path, body=None, **more):
    return client.post(path, body or {}, content_type=JSON, **more)


def test_a_workflow_is_described_published_scaled_and_rolled_back(client, fake, key, gateway):
    created = post(client, BASE, described(id="my-flow"), **key)
    assert created.status_code == 201, created.content
    body = created.json()
    assert body["status_endpoint"] == "/api/v1/runtime/workflow/my-flow/action/status"
    assert (body["status"], body["colour"], body["revision"]) == (None, None, None)
    assert body["services"][0]["progress_deadline_seconds"] == 600
    published = post(client, f"{BASE}/my-flow/publish", **key)
    assert published.status_code == 202
    steps.reconcile()
    assert BackgroundTask.objects.get(pk=published.json()["background_task"]).status == "done"
    assert client.get(f"{BASE}/my-flow", **key).json()["colour"] == "GREEN"
    changed = client.patch(
        f"{BASE}/my-flow", {"services": [{"name": "entry", "image": "a:2"}]}, content_type=JSON, **key
    )
    assert changed.status_code == 200
    assert changed.json()["background_task"]
    steps.reconcile()
    scaled = post(client, f"{BASE}/my-flow/scale", {"service": "entry", "replicas": 3}, **key)
    assert scaled.status_code == 202
    steps.reconcile()
    state = client.get(f"{BASE}/my-flow/state", **key).json()
    assert (state["actualStatus"], state["revision"], state["usable"]) == ("GREEN", 2, True)
    assert state["details"]["services"][0]["actual"] == 3
    assert post(client, f"{BASE}/my-flow/rollback", **key).status_code == 202
    revisions = client.get(f"{BASE}/my-flow/revisions", **key).json()["results"]
    assert [(each["number"], each["restored_from"]) for each in revisions] == [(3, 1), (2, None), (1, None)]
    replica = state["details"]["services"][0]["replicasDetail"][0]["name"]
    log = client.get(f"{BASE}/my-flow/logs", {"service": "entry", "replica": replica}, **key)
    assert log.content.decode() == f"{replica} says nothing.\n"
    assert client.get(f"{BASE}/my-flow/logs", {"service": "entry", "replica": "x"}, **key).status_code == 404
    assert client.delete(f"{BASE}/my-flow", **key).status_code == 409
    assert post(client, f"{BASE}/my-flow/unpublish", **key).status_code == 202
    steps.reconcile()
    assert client.delete(f"{BASE}/my-flow", **key).status_code == 204
    assert client.get(f"{BASE}/my-flow", **key).status_code == 404


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": ""}, "name"),
        ({"name": 3}, "name"),
        ({"nmae": "x"}, "nmae"),
        ({"id": "no spaces"}, "id"),
        ({"id": "../up"}, "id"),
        ({"mode": "sync"}, "mode"),
        ({"runtime": "nowhere"}, "runtime"),
        ({"services": {}}, "services"),
        ({"services": [{"name": "Entry", "image": "a"}]}, "services"),
        ({"services": [{"name": "a", "image": "a"}, {"name": "a", "image": "b"}]}, "services"),
        ({"services": [{"name": "a", "image": "a", "replicas": -1}]}, "services"),
        ({"services": [{"name": "a", "image": "a", "replicas": "2"}]}, "services"),
        ({"services": [{"name": "a", "image": "a", "replicas": True}]}, "services"),
        ({"services": [{"name": "a", "image": "a", "port": 70000}]}, "services"),
        ({"services": [{"name": "a", "image": "a", "memory": "lots"}]}, "services"),
        ({"services": [{"name": "a", "image": "a", "memory": "1"}]}, "services"),
        ({"services": [{"name": "a", "image": "a", "environment": {"A B": "c"}}]}, "services"),
        ({"services": [{"name": "a", "image": "a", "environment": {"A": 1}}]}, "services"),
        ({"services": [{"name": "a", "image": "a", "readiness": {"kind": "http"}}]}, "services"),
        ({"services": [{"name": "a", "image": "a", "readiness": {"kind": "exec"}}]}, "services"),
        ({"services": [{"name": "a", "image": "a", "strategy": {"max_surge": "150%"}}]}, "services"),
        ({"services": [{"name": "a", "image": "a", "progress_deadline_seconds": 10}]}, "services"),
        ({"services": [{"name": "a", "image": "a", "surprise": 1}]}, "services"),
        ({"entry": "other"}, "entry"),
        ({"entry_path": "no-slash"}, "entry_path"),
        ({"request_seconds": 0}, "request_seconds"),
        ({"keys": ["NOSUCHKEY"]}, "keys"),
    ],
)
def test_what_does_not_hold_together_is_refused_and_changes_nothing(client, fake, key, change, where):
    answer = post(client, BASE, described(**change), **key)
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert where in answer.json()["errors"]
    assert not Workflow.objects.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"services": [{"name": "a", "image": "a\x00"}]},
        {"keys": ["\x00"]},
        {"runtime": "\x00"},
        {"name": "\ud800"},
    ],
)
def test_what_no_database_stores_is_refused_and_changes_nothing(client, fake, key, change):
    answer = post(client, BASE, described(**change), **key)
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    assert not Workflow.objects.exists()


@pytest.mark.parametrize("body", ["", "[]", "null", "3", '"x"', "{", '{"name": "\\ud800"}', "\xff"])
def test_bodies_that_are_no_description_are_refused(client, fake, key, body):
    answer = client.generic("POST", BASE, body, content_type=JSON, **key)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"service": "entry"},
        {"replicas": 1},
        {"service": "entry", "replicas": 1001},
        {"service": "no", "replicas": 1},
    ],
)
def test_scaling_needs_a_service_and_a_number(client, make_workflow, olga, key, body):
    workflow = make_workflow()
    services.publish_workflow(workflow=workflow, actor=olga)
    assert post(client, f"{BASE}/{workflow.pk}/scale", body, **key).status_code == 400


def test_an_id_is_taken_once_and_never_changed(client, fake, key):
    assert post(client, BASE, described(id="one"), **key).status_code == 201
    assert post(client, BASE, described(id="one"), **key).status_code == 400
    assert client.patch(f"{BASE}/one", {"id": "two"}, content_type=JSON, **key).status_code == 400
    assert client.patch(f"{BASE}/one", {"id": "one"}, content_type=JSON, **key).status_code == 200


def test_roles_decide(client, make_workflow):
    domain = make_domain()
    workflow = make_workflow()
    Workflow.objects.update(domain=domain)
    body = described(name="another")

    def answers(role):
        who = headers(make_user(f"{role}-person", role, domain))
        return [
            client.get(f"{BASE}/{workflow.pk}", **who).status_code,
            post(client, f"{BASE}/{workflow.pk}/publish", **who).status_code,
            post(client, BASE, body, **who).status_code,
            post(client, "/api/v1/runtimes", {"name": f"r-{role}", "kind": "fake"}, **who).status_code,
        ]

    assert answers(Role.NONE) == [403, 403, 403, 403]
    assert answers(Role.VIEWER) == [200, 403, 403, 403]
    assert answers(Role.USER) == [200, 202, 403, 403]
    assert answers(Role.ADMIN) == [200, 202, 201, 403]
    assert answers(Role.SUPERADMIN) == [200, 202, 201, 201]
    assert client.get(BASE).status_code == 401
    assert Workflow.objects.filter(name="another", domain=domain).count() == 2


def test_a_domain_sees_its_own_workflows_alone(client, make_workflow):
    workflow = make_workflow()
    Workflow.objects.update(domain=make_domain("theirs"))
    stranger = headers(make_user("sven", Role.ADMIN, make_domain("ours")))
    assert client.get(f"{BASE}/{workflow.pk}", **stranger).status_code == 404
    assert post(client, f"{BASE}/{workflow.pk}/publish", **stranger).status_code == 404
    assert client.get(BASE, **stranger).json()["count"] == 0
    path = f"/api/v1/runtime/workflow/{workflow.pk}/action"
    for verb in ("publish", "unpublish", "run"):
        assert post(client, f"{path}/{verb}", **stranger).status_code == 403


def test_a_key_of_one_workflow_is_none_of_another(client, make_workflow, olga):
    bound = make_key(olga)
    first, second = make_workflow(name="first", keys=[bound.key]), make_workflow(name="second")
    who = {"HTTP_X_API_KEY": bound.token}
    assert post(client, f"{BASE}/{first.pk}/publish", **who).status_code == 202
    assert post(client, f"{BASE}/{second.pk}/publish", **who).status_code == 403
    assert post(client, f"/api/v1/runtime/workflow/{second.pk}/action/publish", **who).status_code == 403


def test_the_documented_door_publishes_and_unpublishes(client, make_workflow, key):
    workflow = make_workflow(service())
    path = f"/api/v1/runtime/workflow/{workflow.pk}/action"
    assert post(client, f"{path}/unpublish", **key).status_code == 404
    for _ in range(2):
        assert post(client, f"{path}/publish", **key).status_code == 202
    steps.reconcile()
    for _ in range(2):
        assert post(client, f"{path}/unpublish", **key).status_code == 202
    assert post(client, "/api/v1/runtime/workflow/none/action/publish", **key).status_code == 404
    assert post(client, f"{path}/publish").status_code == 401
    assert client.get(f"{path}/publish", **key).status_code == 405


def test_runtimes_are_listed_without_their_secrets(client, olga, key):
    body = {"name": "far", "kind": "fake", "settings": {"password": "hunter2-hunter2"}}
    answer = post(client, "/api/v1/runtimes", body, **key)
    assert answer.status_code == 201
    assert b"hunter2" not in answer.content
    assert b"hunter2" not in client.get("/api/v1/runtimes", **key).content
    nul = {"refuses": "\x00"}
    for wrong in (
        {"kind": "nothing"},
        {"settings": {"colour": "red"}},
        {"settings": 3},
        {"settings": nul},
        {"name": "far"},
    ):
        refused = post(client, "/api/v1/runtimes", {**body, "name": "y", **wrong}, **key)
        assert refused.status_code == 400
        assert b"hunter2" not in refused.content
    assert client.delete("/api/v1/runtimes/far", **key).status_code == 204
    assert not Runtime.objects.filter(name="far").exists()


def test_a_runtime_in_use_stays(client, make_workflow, key):
    make_workflow()
    assert client.delete("/api/v1/runtimes/fake", **key).status_code == 409


def test_a_list_costs_the_same_for_many(client, make_workflow, olga, key, django_assert_max_num_queries):
    for place in range(12):
        services.publish_workflow(workflow=make_workflow(name=f"w{place}"), actor=olga)
    steps.reconcile()
    client.get(BASE, **key)
    with django_assert_max_num_queries(12):
        assert client.get(BASE, **key).json()["count"] == 12
