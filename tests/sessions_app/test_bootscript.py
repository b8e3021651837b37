"""The boot script door and the node's report: what a machine without any other identity may do."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from events_app.models import LifecycleEvent
from sessions_app import services
from sessions_app.models import BootToken, Node
from sessions_app.states import Category, Step
from tests.contracts.bos import V2, BosClient, begin, is_problem, move, token_for
from tests.factories import make_node, make_template

pytestmark = pytest.mark.django_db

DOOR = "/apis/bss/boot/v1/bootscript"
NAME = "x1000c0s0b0n0"
MAC = "02:00:00:00:00:01"


@pytest.fixture
def node() -> Node:
    """A node that is to be booted."""
    node = make_node(NAME, mac=MAC, nid=7)
    begin(make_template([node]), "boot")
    node.refresh_from_db()
    return node


def script(**question: str) -> Any:
    return Client().get(DOOR, question)


@pytest.mark.parametrize(
    "question", [{"mac": MAC}, {"mac": "02-00-00-00-00-01"}, {"name": NAME}, {"nid": "7"}]
)
def test_a_node_gets_its_kernel_initrd_and_parameters(node, question):
    answer = script(**question)
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain")
    lines = answer.content.decode().splitlines()
    assert lines[0] == "#!ipxe"
    assert lines[1].startswith(f"kernel --name kernel {node.desired.kernel} initrd=initrd ")
    assert lines[2].startswith(f"initrd --name initrd {node.desired.initrd}")
    assert lines[3].startswith("boot")
    words = lines[1].split()
    assert f"xname={NAME}" in words
    assert "nid=7" in words
    assert "bos_update_frequency=4h" in words
    token = re.search(r"bss_referral_token=(\S+)", lines[1])
    assert BootToken.objects.find(token[1]).node == node


def test_a_stored_token_is_not_the_token(node):
    text = re.search(r"bss_referral_token=(\S+)", script(name=NAME).content.decode())[1]
    assert text not in BootToken.objects.get().digest


@pytest.mark.parametrize("question", [{}, {"mac": "nonsense"}, {"nid": "seven"}, {"nid": "-1"}, {"mac": ""}])
def test_a_wrong_question_is_a_400(node, question):
    answer = script(**question)
    assert answer.status_code == 400
    assert answer.content.startswith(b"#!ipxe\necho ")
    assert not BootToken.objects.exists()


@pytest.mark.parametrize("question", [{"mac": "02:00:00:00:00:99"}, {"name": "x9000c0s0b0n0"}, {"nid": "8"}])
def test_an_unknown_node_is_a_404_that_tries_again(node, question):
    answer = script(**question)
    assert answer.status_code == 404
    assert answer.content.decode().splitlines()[-1].startswith("chain ")


def test_a_node_with_nothing_to_boot_is_a_404():
    make_node(NAME)
    answer = script(name=NAME)
    assert answer.status_code == 404
    assert NAME in answer.content.decode()


def test_a_question_cannot_write_lines_into_the_script():
    answer = script(name="x\nshell\r\n&$(reboot)")
    assert answer.status_code == 404
    assert len(answer.content.decode().splitlines()) == 4
    assert b"$(" not in answer.content


# -- who may fetch it -----------------------------------------------------------------------------


def fetch(address: str) -> Any:
    return Client(REMOTE_ADDR=address).get(DOOR, {"name": NAME})


def token_in(answer: Any) -> str:
    found = re.search(r"bss_referral_token=(\S+)", answer.content.decode())
    return found[1] if found else ""


def events() -> list[dict[str, Any]]:
    return list(LifecycleEvent.objects.filter(name="boot_script_contested").values_list("data", flat=True))


def test_a_second_address_is_told_of(node, redis_server):
    assert token_in(fetch("10.2.0.7"))
    assert token_in(fetch("10.2.0.7"))  # iPXE tries again
    assert events() == []
    for _ in range(3):
        assert token_in(fetch("10.2.0.8"))
    assert events() == [{"address": "10.2.0.8", "other_address": "10.2.0.7"}]


def test_strictly_the_first_address_wins_for_a_while(node, redis_server, settings):
    settings.MUSTER_BOOT_STRICT = True
    first = token_in(fetch("10.2.0.7"))
    answer = fetch("10.2.0.8")
    assert (answer.status_code, token_in(answer), len(events())) == (409, "", 1)
    assert answer.content.startswith(b"#!ipxe\necho ")
    assert BootToken.objects.find(first).node == node
    assert token_in(fetch("10.2.0.7"))
    BootToken.objects.update(created_at=timezone.now() - services.SCRIPT_HELD)
    assert token_in(fetch("10.2.0.8"))  # DHCP has given the node another one


def test_strictly_there_is_a_token_only_while_a_session_boots_the_node(node, settings):
    settings.MUSTER_BOOT_STRICT = True
    assert token_in(fetch("10.2.0.7"))
    move(node.session, "boot", NAME, to=Category.SUCCEEDED)
    answer = fetch("10.2.0.7")
    assert (answer.status_code, token_in(answer)) == (200, "")  # it comes up all the same


def test_scripts_can_be_kept_to_the_boot_network_and_to_a_nodes_own_address(node, redis_server, settings):
    settings.MUSTER_BOOT_NETWORKS = ["10.2.0.0/24"]
    assert fetch("10.3.0.7").status_code == 403
    assert fetch("10.2.0.7").status_code == 200
    Node.objects.update(boot_address="10.2.0.9")
    assert fetch("10.2.0.7").status_code == 403
    assert events() == [{"address": "10.2.0.7", "other_address": "10.2.0.9"}]
    assert fetch("10.2.0.9").status_code == 200


# -- the report -----------------------------------------------------------------------------------


def waiting(node: Node) -> str:
    """The node's token, the engine waiting for its report."""
    session = node.session
    move(session, "boot", node.name, to=Category.IN_PROGRESS, step=Step.AWAIT_REPORT)
    return token_for(node)


def report(token: str, name: str = NAME, body: Any = None, *, in_header: bool = True) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if in_header else {}
    body = {"id": name, "actual_state": {"bss_token": token}} if body is None else body
    return BosClient(None, **headers).ask("PATCH", f"{V2}/components/{name}", body)


@pytest.mark.parametrize("in_header", [True, False])
def test_a_node_reports_with_its_token_what_it_runs(node, in_header):
    token = waiting(node)
    answer = report(token, in_header=in_header)
    assert answer.status_code == 200
    document = answer.json()
    assert document["id"] == NAME
    assert document["actual_state"]["boot_artifacts"] == document["desired_state"]["boot_artifacts"]
    node.refresh_from_db()
    assert node.actual == node.desired
    row = node.phases.get(phase__name="boot")
    assert row.due_at <= timezone.now()


def test_a_report_may_be_repeated(node):
    token = waiting(node)
    assert [report(token).status_code for _ in range(3)] == [200, 200, 200]


def test_a_report_by_a_client_that_can_only_post(node):
    token = waiting(node)
    client = BosClient(None, Authorization=f"Bearer {token}")
    body = {"id": NAME, "actual_state": {"bss_token": token}}
    path = f"{V2}/components/{NAME}"
    assert client.ask("POST", path, body, X_HTTP_Method_Override="PATCH").status_code == 200
    is_problem(client.ask("POST", path, body), 403, "Forbidden")


def test_a_void_or_unknown_token_is_a_401(node):
    old = waiting(node)
    token_for(node), token_for(node)
    for token in (old, "mnt_invented"):
        for in_header in (True, False):
            answer = report(token, in_header=in_header)
            is_problem(answer, 401, "Unauthorized")
            assert answer["WWW-Authenticate"].startswith("Bearer")
    node.refresh_from_db()
    assert node.actual is None


def test_a_nodes_token_is_for_that_node_only(node):
    make_node("x1000c0s0b0n1")
    token = waiting(node)
    is_problem(report(token, "x1000c0s0b0n1"), 403, "Forbidden")
    is_problem(
        report(token, body={"id": "x1000c0s0b0n1", "actual_state": {"bss_token": token}}), 403, "Forbidden"
    )


def test_a_nodes_token_can_do_nothing_else(node):
    token = waiting(node)
    for body in (
        {"enabled": False},
        {"actual_state": {"bss_token": token}, "enabled": False},
        {"actual_state": {"bss_token": token, "boot_artifacts": {"kernel": "k"}}},
        {"id": NAME},
    ):
        is_problem(report(token, body=body), 403, "Forbidden")
    client = BosClient(None, Authorization=f"Bearer {token}")
    for method, path in (
        ("GET", "components"),
        ("GET", f"components/{NAME}"),
        ("GET", "sessions"),
        ("POST", "sessions"),
        ("PATCH", "options"),
    ):
        answer = client.ask(method, f"{V2}/{path}", {"x": 1} if method != "GET" else None)
        is_problem(answer, 403, "Forbidden")


def test_without_any_identity_nothing_is_answered(node):
    for method, path in (("GET", "sessions"), ("GET", f"components/{NAME}"), ("PATCH", f"components/{NAME}")):
        answer = BosClient(None).ask(method, f"{V2}/{path}", {"enabled": True} if method == "PATCH" else None)
        is_problem(answer, 401, "Unauthorized")
        assert answer["WWW-Authenticate"].startswith("Bearer")
