"""Components: documents, filters, merging, bulk writes, staged sessions; no acknowledged write is lost."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connections

from sessions_app import services_components
from sessions_app.models import BootSession, Node, NodePhase
from sessions_app.states import Category, SessionStatus, Step
from tests.contracts.bos import V2, BosClient, begin, is_problem, move, token_for
from tests.factories import make_node, make_nodes, make_olga, make_template

pytestmark = pytest.mark.django_db

NAME = "x1000c0s0b0n0"
OTHER = "x1000c0s0b0n1"
NOT_FOUND = "The resource was not found"
ARTIFACTS = {"kernel": "k", "kernel_parameters": "p", "initrd": "i"}


@pytest.fixture
def bos() -> BosClient:
    return BosClient(make_olga())


def patch(bos: BosClient, body: Any, name: str = NAME) -> Any:
    answer = bos.ask("PATCH", f"{V2}/components/{name}", body)
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_a_new_component_has_all_fields(bos):
    make_node(NAME)
    nothing = {"initrd": "", "kernel": "", "kernel_parameters": ""}
    assert bos.get(f"{V2}/components/{NAME}") == {
        "actual_state": {"boot_artifacts": nothing, "bss_token": ""},
        "desired_state": {"boot_artifacts": nothing, "bss_token": "", "configuration": ""},
        "enabled": False,
        "error": "",
        "event_stats": {
            "power_off_forceful_attempts": 0,
            "power_off_graceful_attempts": 0,
            "power_on_attempts": 0,
        },
        "id": NAME,
        "last_action": {"action": "newly_discovered", "failed": False},
        "session": "",
        "staged_state": {"boot_artifacts": nothing, "configuration": "", "session": ""},
        "status": {"phase": "", "status": "stable", "status_override": ""},
    }
    is_problem(bos.ask("GET", f"{V2}/components/x9"), 404, NOT_FOUND, "Component 'x9' does not exist")


def test_the_phase_and_status_follow_the_engine(bos):
    session = begin(make_template([make_node(NAME)]), name="s")
    said = [bos.get(f"{V2}/components/{NAME}")]
    move(session, "shutdown", NAME, to=Category.IN_PROGRESS, step=Step.AWAIT_OFF)
    Node.objects.update(last_action="powering_off_gracefully")
    said.append(bos.get(f"{V2}/components/{NAME}"))
    move(session, "shutdown", NAME, to=Category.SUCCEEDED)
    said.append(bos.get(f"{V2}/components/{NAME}"))
    Node.objects.update(last_action="powering_on")
    said.append(bos.get(f"{V2}/components/{NAME}"))
    move(session, "boot", NAME, to=Category.FAILED, error="no")
    said.append(bos.get(f"{V2}/components/{NAME}"))
    assert [(document["status"]["phase"], document["status"]["status"]) for document in said] == [
        ("powering_off", "power_off_pending"),
        ("powering_off", "power_off_gracefully_called"),
        ("powering_on", "power_on_pending"),
        ("powering_on", "power_on_called"),
        ("", "failed"),
    ]
    assert said[0]["session"] == "s"
    assert said[0]["enabled"] is True
    assert (said[-1]["enabled"], said[-1]["error"]) == (False, "no")


def test_filters_are_joined_and_pages_follow_each_other(bos):
    nodes = make_nodes(6)
    session = begin(make_template(nodes[:3]), name="s")
    move(session, "shutdown", *(node.name for node in nodes[:1]), to=Category.FAILED, error="no")

    def names(query: str) -> list[str]:
        return [document["id"] for document in bos.get(f"{V2}/components?{query}")]

    everyone = sorted(node.name for node in nodes)
    assert names("") == everyone
    assert names(f"ids={everyone[0]},{everyone[4]},nosuch") == [everyone[0], everyone[4]]
    assert names("session=s&enabled=true") == everyone[1:3]
    assert names("enabled=false") == [everyone[0], *everyone[3:]]
    assert names("phase=powering_off") == everyone[1:3]
    assert names("status=failed,power_off_pending") == everyone[:3]
    assert names("status=stable&page_size=2") == everyone[3:5]
    assert names("page_size=2") == everyone[:2]
    assert names(f"page_size=2&start_after_id={everyone[1]}") == everyone[2:4]
    assert names("staged_session=s") == []
    for query in (
        "enabled=maybe",
        "page_size=x",
        "page_size=-1",
        "page_size=1048577",
        "phase=on",
        "session=a%20b",
    ):
        is_problem(bos.ask("GET", f"{V2}/components?{query}"), 400, "Bad Request")


def test_a_patch_merges_one_level_and_artifacts_one_deeper(bos):
    make_node(NAME)
    patch(bos, {"desired_state": {"boot_artifacts": ARTIFACTS, "configuration": "c"}})
    document = patch(bos, {"desired_state": {"boot_artifacts": {"kernel": "k2"}}, "error": "e"})
    assert document["desired_state"]["boot_artifacts"] == {**ARTIFACTS, "kernel": "k2"}
    assert document["desired_state"]["configuration"] == "c"
    assert document["desired_state"]["last_updated"]
    assert document["error"] == "e"
    document = patch(bos, {"staged_state": {"configuration": "s"}, "retry_policy": 5, "id": NAME})
    assert document["staged_state"]["configuration"] == "s"
    assert document["retry_policy"] == 5
    document = patch(bos, {"last_action": {"action": "powering_on", "failed": True}})
    assert document["last_action"]["action"] == "powering_on"
    assert document["last_action"]["failed"] is True
    document = patch(bos, {"status": {"status_override": "on_hold"}, "event_stats": {"power_on_attempts": 3}})
    assert document["status"]["status"] == "on_hold"
    assert document["event_stats"]["power_on_attempts"] == 3
    assert document["error"] == "e"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"enabled": "yes"},
        {"surprise": 1},
        {"retry_policy": -1},
        {"event_stats": {"power_on_attempts": 1.5}},
        {"session": "no session of this name"},
        {"session": "nosuch"},
        {"status": {"status_override": "confused"}},
        {"desired_state": {"boot_artifacts": {"rootfs": "x"}}},
    ],
)
def test_a_bad_patch_changes_nothing(bos, body):
    make_node(NAME)
    before = bos.get(f"{V2}/components/{NAME}")
    is_problem(bos.ask("PATCH", f"{V2}/components/{NAME}", body), 400, "Bad Request")
    assert bos.get(f"{V2}/components/{NAME}") == before


def test_a_manual_update_takes_the_node_out_of_its_session(bos):
    nodes = [make_node(NAME), make_node(OTHER)]
    session = begin(make_template(nodes), name="s")
    document = patch(bos, {"desired_state": {"boot_artifacts": ARTIFACTS}})
    assert document["session"] == ""
    assert set(NodePhase.objects.filter(node__name=NAME).values_list("category", "due_at")) == {
        ("excluded", None)
    }
    session.refresh_from_db()
    assert (session.open_nodes, session.taken_over) == (1, 1)
    assert bos.get(f"{V2}/sessions/s/status")["managed_components_count"] == 1


def test_disabling_a_node_stops_what_its_session_does_to_it(bos):
    session = begin(make_template([make_node(NAME)]), name="s")
    document = patch(bos, {"enabled": False})
    assert (document["enabled"], document["session"], document["status"]["phase"]) == (False, "s", "")
    assert not NodePhase.objects.filter(due_at__isnull=False).exists()
    session.refresh_from_db()
    assert session.status == SessionStatus.COMPLETE


def test_enabling_a_failed_node_tries_it_again(bos):
    session = begin(make_template([make_node(NAME)]), name="s")
    move(session, "shutdown", NAME, to=Category.FAILED, error="no")
    document = patch(bos, {"enabled": True})
    assert (document["enabled"], document["status"]["phase"]) == (True, "powering_off")
    session.refresh_from_db()
    assert session.status == SessionStatus.RUNNING


def test_an_enabled_node_without_a_session_is_on_hold(bos):
    make_node(NAME)
    document = patch(bos, {"enabled": True})
    assert document["status"] == {"phase": "", "status": "on_hold", "status_override": "on_hold"}


def test_the_actual_state_is_not_written_on_the_way_down(bos):
    session = begin(make_template([make_node(NAME)]), name="s")
    body = {"actual_state": {"boot_artifacts": ARTIFACTS}}
    answer = bos.ask("PATCH", f"{V2}/components/{NAME}", body)
    is_problem(answer, 409, "Actual state can not be updated.")
    move(session, "shutdown", NAME, to=Category.SUCCEEDED)
    Node.objects.update(last_action="powering_on")
    assert patch(bos, body)["actual_state"]["boot_artifacts"] == ARTIFACTS


def test_a_known_token_says_what_was_booted(bos):
    node = make_node(NAME)
    begin(make_template([node]), "boot")
    Node.objects.update(last_action="powering_on")
    body = {"actual_state": {"bss_token": token_for(node), "boot_artifacts": ARTIFACTS}}
    document = patch(bos, body)
    assert document["actual_state"]["boot_artifacts"] == document["desired_state"]["boot_artifacts"]


def test_bulk_patches_by_array_by_ids_and_by_session(bos):
    nodes = make_nodes(4)
    names = [node.name for node in nodes]
    begin(make_template(nodes[:2]), name="s")
    path = f"{V2}/components"
    answer = bos.ask("PATCH", path, [{"id": names[0], "error": "a"}, {"id": names[3], "error": "b"}])
    assert [(document["id"], document["error"]) for document in answer.json()] == [
        (names[0], "a"),
        (names[3], "b"),
    ]
    body = {"patch": {"error": "c"}, "filters": {"ids": ",".join(names[:3])}}
    assert [document["error"] for document in bos.ask("PATCH", path, body).json()] == ["c"] * 3
    body = {"patch": {"error": "d"}, "filters": {"session": "s"}}
    assert [document["id"] for document in bos.ask("PATCH", path, body).json()] == names[:2]
    body = {"patch": {"error": "e"}, "filters": {"ids": names[0], "session": "s"}}
    is_problem(bos.ask("PATCH", path, body), 400, "Bad Request")
    body = [{"id": names[0], "error": "f"}, {"id": "nosuch", "error": "f"}]
    is_problem(bos.ask("PATCH", path, body), 404, NOT_FOUND, "Component 'nosuch' does not exist")
    assert Node.objects.get(name=names[0]).error == "d"
    answer = bos.ask("PATCH", f"{path}?skip_bad_ids=true", body)
    assert [document["id"] for document in answer.json()] == [names[0]]
    is_problem(bos.ask("PATCH", path, [{"error": "no id"}]), 400, "Bad Request")


def test_put_creates_and_replaces(bos):
    created = bos.ask("PUT", f"{V2}/components/{NAME}", {"enabled": False, "error": "e", "retry_policy": 1})
    assert created.status_code == 200
    assert created.json()["retry_policy"] == 1
    replaced = bos.ask("PUT", f"{V2}/components/{NAME}", {"desired_state": {"configuration": "c"}}).json()
    assert (replaced["error"], replaced["desired_state"]["configuration"]) == ("", "c")
    assert "retry_policy" not in replaced
    many = bos.ask("PUT", f"{V2}/components", [{"id": OTHER}, {"id": NAME, "error": "x"}])
    assert [document["id"] for document in many.json()] == [OTHER, NAME]
    none = bos.ask("PUT", f"{V2}/components", [])
    assert (none.status_code, none.json()) == (200, [])
    for name in ("x1000c0s0", "a b"):
        is_problem(bos.ask("PUT", f"{V2}/components", [{"id": name}]), 400, "Bad Request")
    assert Node.objects.count() == 2


def test_a_deleted_component_is_gone(bos):
    session = begin(make_template([make_node(NAME), make_node(OTHER)]), name="s")
    assert bos.ask("DELETE", f"{V2}/components/{NAME}").status_code == 204
    is_problem(bos.ask("DELETE", f"{V2}/components/{NAME}"), 404, NOT_FOUND)
    session.refresh_from_db()
    assert session.open_nodes == 1


# -- staged sessions ------------------------------------------------------------------------------


def apply(bos: BosClient, *names: str) -> dict[str, list[str]]:
    return bos.ask("POST", f"{V2}/applystaged", {"xnames": list(names)}).json()


def test_a_staged_session_begins_per_node_and_ends_by_itself(bos):
    nodes = [make_node(NAME), make_node(OTHER)]
    session = begin(make_template(nodes), name="s", stage=True)
    assert not NodePhase.objects.filter(due_at__isnull=False).exists()
    document = bos.get(f"{V2}/components/{NAME}")
    assert (document["staged_state"]["session"], document["session"], document["enabled"]) == ("s", "", False)
    status = bos.get(f"{V2}/sessions/s/status")
    assert (status["percent_staged"], status["managed_components_count"]) == (100.0, 2)
    assert set(status["phases"].values()) == {0.0}

    assert apply(bos, NAME, "nosuch") == {"failed": [], "ignored": ["nosuch"], "succeeded": [NAME]}
    status = bos.get(f"{V2}/sessions/s/status")
    assert (status["percent_staged"], status["phases"]["percent_powering_off"]) == (50.0, 50.0)
    assert status["managed_components_count"] == 2
    document = bos.get(f"{V2}/components/{NAME}")
    assert (document["session"], document["last_action"]["action"]) == ("s", "apply_staged")
    assert document["desired_state"]["boot_artifacts"] == document["staged_state"]["boot_artifacts"]
    assert apply(bos, NAME)["ignored"] == [NAME]

    assert apply(bos, OTHER)["succeeded"] == [OTHER]
    move(session, "shutdown", NAME, OTHER, to=Category.FAILED, error="no")
    session.refresh_from_db()
    assert session.status == SessionStatus.COMPLETE


def test_a_staged_shutdown_works(bos):
    session = begin(make_template([make_node(NAME)]), "shutdown", name="s", stage=True)
    assert apply(bos, NAME)["succeeded"] == [NAME]
    move(session, "shutdown", NAME, to=Category.SUCCEEDED)
    session.refresh_from_db()
    assert session.status == SessionStatus.COMPLETE


def test_what_is_staged_is_cleared_where_the_option_says_so(bos):
    begin(make_template([make_node(NAME)]), name="s", stage=True)
    bos.ask("PATCH", f"{V2}/options", {"clear_stage": True})
    apply(bos, NAME)
    document = bos.get(f"{V2}/components/{NAME}")
    assert document["staged_state"]["session"] == ""
    assert document["desired_state"]["boot_artifacts"]["kernel"]


def test_staged_artifacts_must_fit_the_operation(bos):
    begin(make_template([make_node(NAME)]), name="s", stage=True)
    patch(bos, {"staged_state": {"boot_artifacts": {"kernel": ""}}})
    assert apply(bos, NAME)["failed"] == [NAME]
    document = bos.get(f"{V2}/components/{NAME}")
    assert document["error"].startswith("Staged operation is reboot")
    assert document["enabled"] is False


def test_changed_staged_artifacts_are_what_is_booted(bos):
    begin(make_template([make_node(NAME)]), name="s", stage=True)
    patch(bos, {"staged_state": {"boot_artifacts": ARTIFACTS}})
    apply(bos, NAME)
    assert bos.get(f"{V2}/components/{NAME}")["desired_state"]["boot_artifacts"] == ARTIFACTS


def test_a_newer_staged_session_takes_the_nodes_of_the_older(bos):
    shop = make_template([make_node(NAME)])
    old = begin(shop, name="old", stage=True)
    begin(shop, name="new", stage=True)
    old.refresh_from_db()
    assert (old.status, old.result) == (SessionStatus.COMPLETE, "superseded")
    assert apply(bos, NAME)["succeeded"] == [NAME]
    assert bos.get(f"{V2}/components/{NAME}")["session"] == "new"


def test_applying_takes_the_node_from_its_session(bos):
    shop = make_template([make_node(NAME), make_node(OTHER)])
    running = begin(shop, name="running")
    begin(shop, name="staged", stage=True)
    apply(bos, NAME)
    running.refresh_from_db()
    assert (running.open_nodes, running.taken_over) == (1, 1)
    assert (
        NodePhase.objects.filter(session=running, node__name=NAME).exclude(category="excluded").count() == 0
    )


# -- together -------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_no_write_is_lost_while_bulk_writes_run():
    olga = make_olga()
    bos = BosClient(olga)
    nodes = make_nodes(200)
    ids = [node.pk for node in nodes]
    together = threading.Barrier(20)
    problems: list[BaseException] = []
    stop = threading.Event()

    def bulk() -> None:
        try:
            while not stop.is_set():
                services_components.patch_components(
                    patches={pk: {"last_action": {"action": "powering_on"}} for pk in ids}, actor=olga
                )
        except BaseException as error:
            problems.append(error)
        finally:
            connections.close_all()

    def single(part: list[Node]) -> None:
        try:
            together.wait(60)
            for node in part:
                body = {"error": f"error {node.pk}", "desired_state": {"configuration": f"c{node.pk}"}}
                answer = bos.ask("PATCH", f"/v2/components/{node.name}", body)
                assert answer.status_code == 200, answer.content
        except BaseException as error:
            problems.append(error)
        finally:
            connections.close_all()

    others = [threading.Thread(target=bulk) for _ in range(2)]
    singles = [threading.Thread(target=single, args=(nodes[start::20],)) for start in range(20)]
    for thread in (*others, *singles):
        thread.start()
    for thread in singles:
        thread.join()
    stop.set()
    for thread in others:
        thread.join()
    assert problems == []
    for node in Node.objects.all():
        assert (node.error, node.desired_configuration) == (f"error {node.pk}", f"c{node.pk}")
        assert node.last_action == "powering_on"
    assert not BootSession.objects.exists()
