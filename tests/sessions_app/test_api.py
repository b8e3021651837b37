"""Our own API of nodes, BMCs, groups and sessions, by key, as scripts use it."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from accounts_app.states import Role
from sessions_app import steps
from sessions_app.models import Bmc, BootSession, Node, NodeGroup, NodePhase
from tests.factories import (
    make_bmc,
    make_domain,
    make_key,
    make_node,
    make_nodes,
    make_olga,
    make_session,
    make_template,
    make_user,
    make_victor,
)

pytestmark = pytest.mark.django_db

CANARY = "canary-5f3759df"


@pytest.fixture
def olga() -> Client:
    return client_of(make_olga())


def client_of(user: Any) -> Client:
    return Client(headers={"authorization": f"Bearer {make_key(user).token}"})


def post(client: Client, path: str, body: Any) -> Any:
    return client.post(path, body, content_type="application/json")


def assert_problem(response: Any, status: int, words: str = "") -> None:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["status"] == status
    assert words in response.json()["detail"]


def test_without_identity_nothing_is_told():
    for path in ("/api/v1/nodes/", "/api/v1/bmcs/", "/api/v1/groups/", "/api/v1/sessions/"):
        response = Client().get(path)
        assert_problem(response, 401)
        assert response["WWW-Authenticate"].startswith("Bearer")


def test_a_wrong_key_is_refused():
    assert_problem(Client(headers={"authorization": "Bearer mst_A_b"}).get("/api/v1/nodes/"), 401)


def test_a_viewer_sees_and_changes_nothing(olga):
    make_node()
    victor = client_of(make_victor())
    assert victor.get("/api/v1/nodes/").json()["count"] == 1
    assert_problem(post(victor, "/api/v1/nodes/", {"name": "x1c0s0b0n1"}), 403)
    assert_problem(post(victor, "/api/v1/sessions/", {}), 403)
    assert Node.objects.count() == 1


def test_a_node_is_created_in_its_canonical_form(olga):
    make_bmc("bmc-1")
    body = {"name": "X1000C0S07B0N0", "mac": "AA-BB-CC-DD-EE-FF", "nid": 7, "bmc": "bmc-1"}
    assert post(olga, "/api/v1/nodes/", body).status_code == 201
    document = olga.get("/api/v1/nodes/x1000c0s7b0n0/").json()
    assert (document["mac"], document["nid"], document["bmc"]) == ("aa:bb:cc:dd:ee:ff", 7, "bmc-1")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "x1000c0s0b0nZ"}, "is not the name of a node"),
        ({"mac": "nonsense"}, "is not a MAC address"),
        ({"bmc": "nobody"}, "bmc"),
        ({"colour": "red"}, "There is no such field"),
        ({"power_state": "on"}, "can't be written"),
    ],
)
def test_bad_nodes_are_refused_and_change_nothing(olga, change, words):
    body = {"name": "x1000c0s0b0n0", **change}
    assert_problem(post(olga, "/api/v1/nodes/", body), 400, words)
    assert not Node.objects.exists()


def test_a_mistyped_filter_is_refused_instead_of_ignored(olga):
    make_node()
    assert_problem(olga.get("/api/v1/nodes/?rolle=Compute"), 400, "There is no such filter")
    assert olga.get("/api/v1/nodes/?role=Storage").json()["count"] == 0


def test_a_node_that_exists_is_not_overwritten_by_post(olga):
    node = make_node(nid=5)
    assert_problem(post(olga, "/api/v1/nodes/", {"name": node.name, "nid": 6}), 400, "exists already")
    assert Node.objects.get().nid == 5


def test_patch_changes_only_what_it_names(olga):
    node = make_node(mac="aa:bb:cc:dd:ee:ff")
    path = f"/api/v1/nodes/{node.name}/"
    answer = olga.patch(path, {"role": "Application"}, content_type="application/json")
    assert answer.status_code == 200, answer.content
    node.refresh_from_db()
    assert (node.role, node.mac) == ("Application", "aa:bb:cc:dd:ee:ff")
    assert node.bmc is not None
    assert_problem(olga.patch(path, {"name": "x1c0s0b0n1"}, content_type="application/json"), 400)


def test_a_secret_goes_in_and_never_comes_out(olga):
    body = {"name": "b1", "kind": "fake", "address": "", "settings": {"password": CANARY, "delay": 0.5}}
    answer = post(olga, "/api/v1/bmcs/", body)
    assert answer.status_code == 201, answer.content
    assert answer.json()["secrets_set"] == ["password"]
    listed = olga.get("/api/v1/bmcs/")
    assert CANARY not in answer.content.decode() + listed.content.decode()
    assert CANARY not in str(Bmc.objects.values())
    path = "/api/v1/bmcs/b1/"
    assert olga.patch(path, {"settings": {"delay": 1}}, content_type="application/json").status_code == 200
    bmc = Bmc.objects.get()
    assert (bmc.settings, bmc.secrets()) == ({"delay": 1.0}, {"password": CANARY})


def test_settings_that_the_driver_does_not_declare_are_refused(olga):
    body = {"name": "b1", "kind": "fake", "settings": {"pasword": CANARY}}
    answer = post(olga, "/api/v1/bmcs/", body)
    assert_problem(answer, 400, "pasword")
    assert CANARY not in answer.content.decode()
    assert_problem(post(olga, "/api/v1/bmcs/", {"name": "b1", "kind": "telepathy"}), 400, "telepathy")
    assert not Bmc.objects.exists()


def test_groups_hold_nodes_by_name(olga):
    nodes = make_nodes(2)
    body = {"name": "blue", "nodes": [node.name for node in nodes]}
    assert post(olga, "/api/v1/groups/", body).status_code == 201
    assert set(NodeGroup.objects.get(name="blue").nodes.all()) == set(nodes)
    assert olga.get("/api/v1/nodes/?group=blue").json()["count"] == 2
    assert_problem(post(olga, "/api/v1/groups/", {"name": "red", "nodes": ["x9c9s9b9n9"]}), 400)


def test_a_preview_names_what_is_hit_and_what_is_left_out(olga):
    nodes = make_nodes(4)
    Node.objects.filter(pk=nodes[3].pk).update(hardware_enabled=False)
    make_template([*nodes, "x9c0s0b0n0"])
    answer = post(olga, "/api/v1/sessions/preview/", {"template": "sample", "operation": "boot"})
    assert answer.json() == {
        "count": 3,
        "boot_sets": {"compute": "x1000c0s0b0n[0-2]"},
        "left_out": {"disabled in the inventory": "x1000c0s0b0n3", "not in the inventory": "x9c0s0b0n0"},
    }
    assert not BootSession.objects.exists()


def test_a_session_is_started_and_cancelled(olga):
    make_template(make_nodes(2))
    answer = post(olga, "/api/v1/sessions/", {"template": "sample", "operation": "reboot", "name": "s1"})
    assert answer.status_code == 201, answer.content
    document = answer.json()
    assert (document["status"], document["name"], document["owner"]) == ("pending", "s1", "olga")
    steps.start_pending()
    path = f"/api/v1/sessions/{document['id']}/"
    phases = olga.get(path).json()["phases"]
    assert [(phase["boot_set"], phase["name"], phase["not_started"]) for phase in phases] == [
        ("compute", "shutdown", 2),
        ("compute", "boot", 2),
        ("compute", "configure", 2),
    ]
    assert post(olga, f"{path}cancel/", {}).json()["result"] == "cancelled"
    assert_problem(post(olga, f"{path}cancel/", {}), 409, "can't become")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"template": "nobody"}, "template"),
        ({"operation": "explode"}, "operation"),
        ({"limit": "x9c9s9b9n9"}, "which is no node"),
        ({"limit": "!x1000c0s0b0n0"}, "No nodes were found"),
        ({"limit": "a,,b"}, "is empty"),
        ({"name": "-bad-"}, "is not a session's name"),
        ({"surprise": 1}, "There is no such field"),
    ],
)
def test_bad_sessions_are_refused_and_nothing_is_created(olga, change, words):
    make_template(make_nodes(1))
    body = {"template": "sample", "operation": "reboot", **change}
    assert_problem(post(olga, "/api/v1/sessions/", body), 400, words)
    assert not BootSession.objects.exists()


def test_a_name_is_taken_once(olga):
    template = make_template(make_nodes(1))
    make_session(template, name="s1")
    body = {"template": "sample", "operation": "reboot", "name": "s1"}
    assert_problem(post(olga, "/api/v1/sessions/", body), 409, "already exists")


def test_errors_are_given_whole_and_folded(olga):
    session = make_session(make_template(make_nodes(3)))
    steps.start_pending()
    NodePhase.objects.filter(session=session, phase__name="boot").update(error="BMC does not answer")
    [document] = olga.get(f"/api/v1/sessions/{session.uuid}/errors/").json()
    assert (document["count"], document["folded"]) == (3, "x1000c0s0b0n[0-2]")
    assert len(document["nodes"]) == 3


def test_a_tenants_admin_reaches_his_own_domain_only(olga):
    mine, theirs = make_domain("tenant-a"), make_domain("tenant-b")
    own = make_node("x1c0s0b0n0", domain=mine)
    foreign = make_node("x1c0s0b0n1", domain=theirs)
    template = make_template([foreign], name="theirs", domain=theirs)
    session = make_session(template)
    adam = client_of(make_user("adam", Role.ADMIN, mine))
    assert [node["name"] for node in adam.get("/api/v1/nodes/").json()["results"]] == [own.name]
    assert [bmc["name"] for bmc in adam.get("/api/v1/bmcs/").json()["results"]] == [own.bmc.name]
    assert_problem(adam.get(f"/api/v1/nodes/{foreign.name}/"), 404)
    assert_problem(post(adam, f"/api/v1/sessions/{session.uuid}/cancel/", {}), 404)
    assert_problem(post(adam, "/api/v1/sessions/", {"template": "theirs", "operation": "boot"}), 400)
    created = post(adam, "/api/v1/nodes/", {"name": "x1c0s0b0n2", "domain": "tenant-b"})
    assert created.json()["domain"] == "tenant-a"
