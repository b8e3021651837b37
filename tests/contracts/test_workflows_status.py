"""The status resource against the document's own examples (seed 003)."""
# ruff: noqa: F811

from __future__ import annotations

import re

import pytest

from accounts_app.states import Role
from tests.factories import make_domain, make_key, make_user
from tests.workflows.conftest import (  # noqa: F401
    fake,
    fake_world,
    gateway,
    key,
    make_workflow,
    olga,
    service,
    status_of,
)
from workflows_app import services, steps
from workflows_app.drivers.fake import FakeRuntime
from workflows_app.models import Deployment

pytestmark = pytest.mark.django_db
AGE = re.compile(r"(\d+h)?(\d+m)?\d+(\.\d+)?(s|ms|µs)")


def publish(workflow, actor):
    services.publish_workflow(workflow=workflow, actor=actor)
    steps.reconcile()


def checked(client, workflow, key):
    """The document, after what differs from time to time was checked and taken out."""
    response = status_of(client, workflow.pk, key)
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    document = response.json()
    for each in document["details"].get("services", []):
        for replica in each["replicasDetail"]:
            assert AGE.fullmatch(replica.pop("age"))
            assert replica.pop("name").startswith(each["id"])
            if "startedAt" in replica:
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", replica["startedAt"])
                replica["startedAt"] = "then"
    return document


def test_a_sync_workflow_waits_for_cluster_resources(client, make_workflow, olga, key, gateway):
    workflow = make_workflow(service("knowledge-m", fate="unschedulable"))
    publish(workflow, olga)
    document = checked(client, workflow, key)
    assert document == {
        "desiredStatus": "PUBLISHED",
        "actualStatus": "ORANGE",
        "publishingMode": "SYNC",
        "details": {
            "stream": {"id": "gateway", "desired": 1, "actual": 1, "status": "GREEN"},
            "services": [
                {
                    "id": document["details"]["services"][0]["id"],
                    "desired": 1,
                    "actual": 0,
                    "status": "RED",
                    "rolloutStatus": "InProgress",
                    "rolloutStatusReason": "RollingOutReplicaSet",
                    "replicasDetail": [
                        {
                            "ready": False,
                            "available": False,
                            "status": "Unschedulable",
                            "statusMessage": "no nodes available to schedule pods",
                            "atLatestSpec": True,
                        }
                    ],
                }
            ],
        },
    }
    assert re.fullmatch(r"knowledge-m-[0-9a-f]{8}", document["details"]["services"][0]["id"])


def test_a_sync_workflow_waits_for_its_service(client, make_workflow, olga, key, gateway):
    workflow = make_workflow(service(fate="starting"))
    publish(workflow, olga)
    document = checked(client, workflow, key)
    assert document["actualStatus"] == "ORANGE"
    assert document["details"]["services"][0]["replicasDetail"] == [
        {
            "ready": False,
            "available": False,
            "startedAt": "then",
            "status": "ContainerCreating",
            "atLatestSpec": True,
        }
    ]


def test_a_sync_workflow_is_usable(client, make_workflow, olga, key, gateway):
    workflow = make_workflow(service())
    publish(workflow, olga)
    document = checked(client, workflow, key)
    assert document["actualStatus"] == "GREEN"
    (only,) = document["details"]["services"]
    assert only == {
        "id": only["id"],
        "desired": 1,
        "actual": 1,
        "status": "GREEN",
        "rolloutStatus": "Complete",
        "replicasDetail": [
            {
                "ready": True,
                "available": True,
                "startedAt": "then",
                "status": "Running",
                "atLatestSpec": True,
            }
        ],
    }


def test_an_unpublished_workflow_shows_nothing(client, make_workflow, olga, key):
    workflow = make_workflow(service(), mode="ASYNC")
    publish(workflow, olga)
    services.unpublish_workflow(workflow=workflow, actor=olga)
    steps.reconcile()
    assert status_of(client, workflow.pk, key).json() == {
        "desiredStatus": "UNPUBLISHED",
        "actualStatus": "GREEN",
        "publishingMode": "ASYNC",
        "details": {},
    }


def test_an_async_workflow_shows_no_stream_and_is_orange_before_anything_runs(
    client,
    make_workflow,
    olga,
    key,
):
    workflow = make_workflow(
        service("knowledge-m", fate="starting"), service("outprod", fate="starting"), mode="ASYNC"
    )
    publish(workflow, olga)
    document = checked(client, workflow, key)
    assert document["actualStatus"] == "ORANGE"
    assert list(document["details"]) == ["services"]
    assert [each["status"] for each in document["details"]["services"]] == ["RED", "RED"]


def test_an_async_workflow_is_green_when_all_runs(client, make_workflow, olga, key):
    workflow = make_workflow(service("knowledge-m"), service("outprod"), mode="ASYNC")
    publish(workflow, olga)
    document = checked(client, workflow, key)
    assert document["actualStatus"] == "GREEN"
    assert [each["rolloutStatus"] for each in document["details"]["services"]] == ["Complete", "Complete"]


def test_the_status_is_right_before_the_runtime_was_asked(client, make_workflow, olga, key, gateway):
    workflow = make_workflow(service(replicas=2))
    services.publish_workflow(workflow=workflow, actor=olga)
    document = checked(client, workflow, key)
    assert document["actualStatus"] == "ORANGE"
    (only,) = document["details"]["services"]
    assert (only["desired"], only["actual"], only["replicasDetail"]) == (2, 0, [])
    assert only["rolloutStatusReason"] == "RollingOutReplicaSet"


def test_without_gateway_the_stream_is_red_and_the_workflow_orange(client, make_workflow, olga, key):
    workflow = make_workflow(service())
    publish(workflow, olga)
    document = checked(client, workflow, key)
    assert document["details"]["stream"] == {"id": "gateway", "desired": 1, "actual": 0, "status": "RED"}
    assert document["actualStatus"] == "ORANGE"


def test_what_is_still_ending_is_listed_and_yellow(client, make_workflow, olga, key):
    workflow = make_workflow(service())
    publish(workflow, olga)
    FakeRuntime.world("fake").lingering = True
    services.unpublish_workflow(workflow=workflow, actor=olga)
    steps.reconcile()
    document = checked(client, workflow, key)
    assert (document["desiredStatus"], document["actualStatus"]) == ("UNPUBLISHED", "YELLOW")
    assert "stream" not in document["details"]
    assert len(document["details"]["services"]) == 1


def test_a_failed_rollout_with_nothing_active_is_red(client, make_workflow, olga, key, gateway):
    workflow = make_workflow(service(fate="deadline"))
    publish(workflow, olga)
    document = checked(client, workflow, key)
    assert document["actualStatus"] == "RED"
    assert document["details"]["services"][0]["rolloutStatus"] == "Failed"
    assert document["details"]["services"][0]["rolloutStatusReason"] == "ProgressDeadlineExceeded"
    assert Deployment.objects.get().status == "failed"


def test_a_workflow_never_published_is_not_found_and_nothing_is_said(client, make_workflow, key):
    for name in (make_workflow().pk, "no-such-workflow", "0", "%00", "💡"):
        response = status_of(client, name, key)
        assert response.status_code == 404
        assert response.content == b""


def test_the_key_is_asked_for_first(client, make_workflow, olga):
    published = make_workflow(name="one")
    publish(published, olga)
    for workflow_id in (published.pk, make_workflow(name="two").pk, "no-such-workflow"):
        for headers in ({}, {"HTTP_X_API_KEY": "mst_A_b"}, {"HTTP_X_API_KEY": "nonsense"}):
            response = status_of(client, workflow_id, headers)
            assert response.status_code == 401
            assert b"PUBLISHED" not in response.content
            assert "WWW-Authenticate" in response


def test_another_workflows_key_is_refused(client, make_workflow, olga, fake):
    mine, other = make_key(olga), make_key(olga)
    first = make_workflow(name="first", keys=[mine.key])
    second = make_workflow(name="second", keys=[other.key])
    third = make_workflow(name="third", keys=[mine.key, other.key])
    for workflow in (first, second, third):
        publish(workflow, olga)

    def answer(issued, workflow):
        return status_of(client, workflow.pk, {"HTTP_X_API_KEY": issued.token}).status_code

    assert [answer(mine, each) for each in (first, second, third)] == [200, 403, 200]
    assert [answer(other, each) for each in (first, second, third)] == [403, 200, 200]
    # A key of no workflow opens what its user may see.
    assert answer(make_key(olga), first) == 200
    stranger = make_key(make_user("sven", Role.ADMIN, make_domain("elsewhere")))
    assert answer(stranger, first) == 403
    nora = make_key(make_user("nora", Role.NONE))
    assert answer(nora, first) == 403


def test_a_revoked_key_is_unknown(client, make_workflow, olga):
    from accounts_app.services import revoke_key

    issued = make_key(olga)
    workflow = make_workflow(keys=[issued.key])
    publish(workflow, olga)
    revoke_key(key=issued.key, actor=olga)
    assert status_of(client, workflow.pk, {"HTTP_X_API_KEY": issued.token}).status_code == 401


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_other_methods_are_not_allowed(client, make_workflow, olga, key, method):
    workflow = make_workflow()
    publish(workflow, olga)
    path = f"/api/v1/runtime/workflow/{workflow.pk}/action/status"
    assert getattr(client, method)(path, **key).status_code == 405
