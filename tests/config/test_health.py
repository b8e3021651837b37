"""/healthz, /readyz and /metrics, as load balancers and Prometheus ask them."""

from __future__ import annotations

import pytest
from django.test import Client

from events_app import services
from tests.factories import make_key, make_node, make_nora, make_olga, make_victor

pytestmark = pytest.mark.django_db


def test_alive_asks_nobody_else():
    assert Client().get("/healthz").json() == {"status": "alive"}


def test_ready_needs_broker_worker_and_beat(redis_server):
    answer = Client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["parts"] == {
        "database": True,
        "broker": True,
        "worker": False,
        "runner": False,
        "beat": False,
    }
    for name in ("worker", "runner", "beat"):
        services.note_seen(name)
    assert Client().get("/readyz").json()["status"] == "ready"
    redis_server.stop()
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()["parts"]["broker"]) == (503, False)


def test_not_being_ready_is_no_error_in_the_log(redis_server, caplog):
    assert Client().get("/readyz").status_code == 503
    assert not caplog.records


def test_metrics_are_the_superadmins_for_they_count_all_domains():
    make_node()
    assert Client().get("/metrics").status_code == 401
    monitoring = {"scope": "read", "areas": ["metrics"]}
    for person, status in ((make_nora(), 403), (make_victor(), 403), (make_olga(), 200)):
        client = Client(headers={"authorization": f"Bearer {make_key(person, **monitoring).token}"})
        answer = client.get("/metrics")
        assert answer.status_code == status
    assert client.get("/api/v1/nodes/").status_code == 403
    assert 'muster_nodes{power_state="unknown"} 1.0' in answer.content.decode()
    assert "muster_due_lag_seconds 0.0" in answer.content.decode()


def test_metrics_cost_the_same_for_any_fleet(django_assert_max_num_queries):
    client = Client(headers={"authorization": f"Bearer {make_key(make_olga()).token}"})
    client.get("/metrics")
    with django_assert_max_num_queries(12):
        assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/no-such", "/v1/no/such"])
def test_programs_get_a_problem_document_for_a_path_that_is_not_there(path):
    answer = Client().get(path)
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
    assert answer.json()["detail"] == "There is no such path."


def test_people_get_a_page():
    assert b"<!DOCTYPE html>" in Client().get("/no-such").content


def test_our_api_takes_a_slash_at_the_end_or_none():
    client = Client(headers={"authorization": f"Bearer {make_key(make_victor()).token}"})
    for path in ("/api/v1/nodes", "/api/v1/workflows"):
        assert client.get(path).json() == client.get(f"{path}/").json()
    assert client.get("/v1/health/").status_code == 404  # others' documented paths are as documented
