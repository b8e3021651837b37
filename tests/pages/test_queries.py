"""The number of queries of a page does not grow with what it shows."""

import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from sessions_app import setup
from sessions_app.models import Node, NodePhase
from tests.pages import rows

pytestmark = pytest.mark.django_db

# At most so many, login and frame included. A page that needs more has got a query for each row.
MOST = {
    "/overview": 40,
    "/sessions/": 20,
    "/nodes/": 24,
    "/tasks/": 22,
    "/workflows/": 20,
    "/activity/": 20,
    "session": 34,
    "session-live": 16,
    "session-map": 8,
    "node": 24,
    "session-node": 34,
    "api-nodes": 12,
    "api-session-nodes": 12,
    "bos-components": 14,
}


def paths(session):
    return {
        **{path: path for path in MOST if path.startswith("/")},
        "session": f"/sessions/{session.uuid}/",
        "session-live": f"/sessions/{session.uuid}/live",
        "session-map": f"/sessions/{session.uuid}/map.json",
        "node": "/nodes/x1000c0s1b0n0/",
        "session-node": f"/sessions/{session.uuid}/?node=x1000c0s1b0n0",
        "api-nodes": "/api/v1/nodes/",
        "api-session-nodes": f"/api/v1/sessions/{session.uuid}/nodes/",
        "bos-components": "/apis/bos/v2/components",
    }


def count(client, path):
    """How many; none joins sessions with the names of all their nodes: 150 KB a row for 10,000."""
    accept = "application/json" if path.startswith("/api") else "text/html"
    with CaptureQueriesContext(connection) as seen:
        assert client.get(path, headers={"accept": accept}).status_code == 200
    long = [query["sql"] for query in seen if '"components"' in query["sql"]]
    assert len(long) <= path.startswith("/api/v1/sessions/"), path  # the session itself, once
    return len(seen)


def test_queries_are_few_and_as_many_for_many_rows(ada, people):
    session = rows.small(people["ada"])
    few = {name: count(ada, path) for name, path in paths(session).items()}
    rows.make_tasks_more(people["ada"], 12)
    for number in range(20):
        rows.make_session(
            [*session.nodes.all()[:6]], name=f"more-{number}", owner=people["ada"], over=True, owns=False
        )
    many = {name: count(ada, path) for name, path in paths(session).items()}
    assert {name: number for name, number in few.items() if number > MOST[name]} == {}
    assert {name: (few[name], number) for name, number in many.items() if number > few[name]} == {}


@pytest.mark.skipif(
    connection.vendor != "sqlite", reason="PostgreSQL plans by statistics that tests have not"
)
@pytest.mark.parametrize("of", ["rows", "session", "owners"])
def test_sqlite_looks_for_a_nodes_failures_among_its_own_rows(of):
    """And not among all of its session's, for each node anew: with 10,000 nodes that took minutes."""
    rows_of = {
        "rows": NodePhase.objects.filter(id__among=[1, 2]),
        "session": NodePhase.objects.of_session(1),
        "owners": next(setup.owned_rows([1, 2])),
    }[of]
    plan = rows_of.unfinished().explain()
    assert "SEARCH U0 USING INDEX node_phase_session (session_id=? AND node_id=?)" in plan
    assert of != "owners" or "nodephase USING INDEX node_phase_session (session_id=? AND node_id=?)" in plan


def test_ids_among_many_are_found_by_one_parameter(people):
    nodes = rows.make_fleet(8)
    wanted = {node.pk for node in nodes[:3]}
    with CaptureQueriesContext(connection) as seen:
        found = Node.objects.filter(id__among=[*wanted, 0]).values_list("id", flat=True)
        assert set(found) == wanted
        assert set(Node.objects.filter(bmc_id__among={nodes[0].bmc_id}).values_list("name", flat=True)) == {
            node.name for node in nodes[:2]
        }
        assert not Node.objects.filter(id__among=[]).exists()
        assert Node.objects.exclude(id__among=wanted).count() == len(nodes) - len(wanted)
    assert len(seen) == 3  # nothing is among none


def test_the_map_of_ten_thousand_nodes_is_compact(olga, people):
    nodes = rows.make_fleet(10_240)
    rows.make_template()
    session = rows.make_session(nodes, owner=people["olga"], failed=18)
    plain = olga.get(f"/sessions/{session.uuid}/map.json")
    document = json.loads(plain.content)
    packed = olga.get(f"/sessions/{session.uuid}/map.json", headers={"accept-encoding": "gzip"})
    page = olga.get(f"/sessions/{session.uuid}/", headers={"accept-encoding": "gzip"})
    [members] = document["sets"]
    names = members["nodes"].split(" ")
    assert len(names) == 10_240
    assert [len(phase["letters"]) for phase in members["phases"]] == [10_240] * 3
    boot = members["phases"][1]["letters"]
    assert boot.count("f") == 18
    assert len(packed.content) + len(page.content) < 300 * 1024
