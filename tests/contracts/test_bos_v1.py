"""BOS v1: templates, sessions and the writes to their status; v1 and v2 show the same rows."""

from __future__ import annotations

from typing import Any

import pytest

from sessions_app.models import BootSession, NodePhase, SessionTemplate
from sessions_app.setup import set_up_session
from sessions_app.states import Category, SessionStatus, Step
from tests.contracts.bos import V1, V2, BosClient, begin, is_problem, move
from tests.factories import make_node, make_nodes, make_olga, make_template

pytestmark = pytest.mark.django_db

NAMES = ["x1000c0s0b0n0", "x1000c0s0b0n1"]
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def bos() -> BosClient:
    return BosClient(make_olga())


def plain(answer: Any, status: int, document: Any = None) -> None:
    """One of v1's own errors: JSON that is no problem document; None: no body at all."""
    assert answer.status_code == status, answer.content
    if document is None:
        assert answer.content == b""
    else:
        assert answer.json() == document


def test_documents_are_sorted_and_indented(bos):
    text = bos.ask("GET", f"{V1}/healthz").content.decode()
    assert text == '{\n  "apiStatus": "ok",\n  "dbStatus": "ok"\n}\n'
    version = bos.get(f"{V1}/version")
    assert (version["major"], version["minor"]) == ("2", "16")
    assert version["links"][1]["href"].endswith("/apis/bos/v1")
    assert bos.get("/v1") == bos.get("/v1/version")


def test_no_tenants_here(bos):
    detail = "BOS v1 endpoints do not support multi-tenancy and a tenant was specified in the header"
    for path in ("session", "sessiontemplate", f"session/{NOBODY}", f"session/{NOBODY}/status"):
        answer = bos.ask("GET", f"{V1}/{path}", Cray_Tenant_Name="blue")
        is_problem(answer, 400, "Multi-tenancy not supported", detail)
    assert bos.ask("GET", f"{V1}/version", Cray_Tenant_Name="blue").status_code == 200
    assert bos.ask("GET", f"{V1}/sessiontemplatetemplate", Cray_Tenant_Name="blue").status_code == 200


# -- templates ------------------------------------------------------------------------------------


def test_a_template_is_posted_and_old_fields_are_dropped(bos):
    boot_set = {
        "path": "s3://b/manifest.json",
        "type": "s3",
        "node_list": ["X1000C0S0B0N0"],
        "boot_ordinal": 1,
        "shutdown_ordinal": 2,
        "network": "nmn",
    }
    body = {
        "name": "t",
        "partition": "p1",
        "cfs_url": "u",
        "cfs_branch": "b",
        "enable_cfs": True,
        "cfs": {"configuration": "c", "clone_url": "u", "branch": "b", "playbook": "p", "commit": "c"},
        "boot_sets": {"compute": boot_set},
    }
    for _ in range(2):
        plain(bos.ask("POST", f"{V1}/sessiontemplate", body), 201, "t")
    document = bos.get(f"{V1}/sessiontemplate/t")
    assert document == bos.get(f"{V2}/sessiontemplates/t")
    assert bos.get(f"{V1}/sessiontemplate") == [document]
    assert document["cfs"] == {"configuration": "c"}
    assert set(document["boot_sets"]["compute"]) == {"arch", "node_list", "path", "type"}
    assert not {"partition", "cfs_url", "cfs_branch"} & set(document)


def test_a_template_needs_only_a_name_and_a_session_needs_more(bos):
    plain(bos.ask("POST", f"{V1}/sessiontemplate", {"name": "bare"}), 201, "bare")
    body = {"name": "nobody", "boot_sets": {"c": {"path": "p", "type": "s3"}}}
    plain(bos.ask("POST", f"{V1}/sessiontemplate", body), 201, "nobody")
    for name in ("bare", "nobody"):
        answer = bos.ask("POST", f"{V1}/session", {"operation": "boot", "templateName": name})
        assert (answer.status_code, type(answer.json())) == (400, str)
    assert not BootSession.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "a b"},
        {"name": "t", "surprise": 1},
        {"name": "t", "boot_sets": {"c": {"path": "p"}}},
        {"name": "t", "boot_sets": {"c": {"path": "p", "type": "s3", "node_list": []}}},
        {"name": "t", "boot_sets": {"c": {"path": "p", "type": "s3", "network": "hsn"}}},
    ],
)
def test_a_bad_template_is_a_problem(bos, body):
    is_problem(bos.ask("POST", f"{V1}/sessiontemplate", body), 400, "Bad Request")
    assert not SessionTemplate.objects.exists()


def test_a_template_is_deleted(bos):
    make_template(make_nodes(1), name="t")
    assert bos.ask("DELETE", f"{V1}/sessiontemplate/t").status_code == 204
    for method in ("GET", "DELETE"):
        is_problem(bos.ask(method, f"{V1}/sessiontemplate/t"), 404, "Sessiontemplate could not found.")


# -- sessions -------------------------------------------------------------------------------------


def test_a_session_is_posted(bos):
    make_template(make_nodes(2), name="t")
    body = {"operation": "Reboot", "templateName": "t", "templateUuid": "ignored", "limit": NAMES[0]}
    answer = bos.ask("POST", f"{V1}/session", body)
    session = BootSession.objects.get()
    path = f"/v1/session/{session.uuid}"
    plain(
        answer,
        201,
        {
            "job": f"boa-{session.uuid}",
            "limit": NAMES[0],
            "links": [
                {"href": path, "jobId": f"boa-{session.uuid}", "rel": "session", "type": "GET"},
                {"href": f"{path}/status", "rel": "status", "type": "GET"},
            ],
            "operation": "Reboot",
            "templateName": "t",
        },
    )
    assert bos.get(f"{V1}/session") == [str(session.uuid)]
    assert [document["name"] for document in bos.get(f"{V2}/sessions")] == [str(session.uuid)]
    older = bos.ask("POST", f"{V1}/session", {"operation": "configure", "templateUuid": "t"})
    assert "limit" not in older.json()


def test_a_pending_session_shows_what_it_will_have(bos):
    make_template(make_nodes(2), name="t")
    bos.ask("POST", f"{V1}/session", {"operation": "boot", "templateName": "t"})
    session = BootSession.objects.get()
    path = f"{V1}/session/{session.uuid}"
    status = bos.get(f"{path}/status")
    assert status["boot_sets"] == ["compute"]
    assert (status["metadata"]["in_progress"], status["metadata"]["complete"]) == (False, False)
    phases = bos.get(f"{path}/status/compute")["phases"]
    assert [phase["name"] for phase in phases] == ["boot", "configure"]
    assert bos.get(f"{path}/status/compute/boot/not_started")["node_list"] == []
    set_up_session(session.pk)
    assert bos.get(f"{path}/status/compute/boot/not_started")["node_list"] == NAMES


@pytest.mark.parametrize(
    ("operation", "phases"),
    [
        ("shutdown", ["shutdown"]),
        ("boot", ["boot", "configure"]),
        ("reboot", ["shutdown", "boot", "configure"]),
        ("configure", ["configure"]),
    ],
)
def test_each_operation_has_its_phases(bos, operation, phases):
    session = begin(make_template(make_nodes(1)), operation)
    document = bos.get(f"{V1}/session/{session.uuid}/status/compute")
    assert [phase["name"] for phase in document["phases"]] == phases


def test_bad_sessions_are_refused(bos):
    make_template(make_nodes(1), name="t")
    post = f"{V1}/session"
    missing = "Session Template ID invalid: nosuch"
    plain(bos.ask("POST", post, {"operation": "boot", "templateName": "nosuch"}), 404, missing)
    for body in ({"operation": "boot"}, {"templateName": "t"}, {"operation": "dance", "templateName": "t"}):
        is_problem(bos.ask("POST", post, body), 400, "Bad Request")
    answer = bos.ask("POST", post, {"operation": "boot", "templateName": "t", "limit": "nosuch"})
    assert (answer.status_code, type(answer.json())) == (400, str)
    assert not BootSession.objects.exists()


def test_unknown_sessions_have_the_originals_errors(bos):
    for name in (NOBODY, "nonsense"):
        plain(bos.ask("GET", f"{V1}/session/{name}"), 404, {})
        plain(bos.ask("DELETE", f"{V1}/session/{name}"), 404, f"Sesssion: {name} not found")
        plain(bos.ask("GET", f"{V1}/session/{name}/status"), 404)
        plain(bos.ask("PATCH", f"{V1}/session/{name}/status", {}), 404)


def test_a_deleted_session_is_gone_from_both_views(bos):
    session = begin(make_template(make_nodes(1)), name="s")
    assert bos.ask("DELETE", f"{V1}/session/{session.uuid}").status_code == 204
    assert bos.get(f"{V1}/session") == bos.get(f"{V2}/sessions") == []


def test_unknown_boot_sets_phases_and_categories_are_404(bos):
    session = begin(make_template(make_nodes(1)))
    for rest in ("nosuch", "compute/nosuch", "compute/boot/nosuch", "nosuch/boot/failed"):
        plain(bos.ask("GET", f"{V1}/session/{session.uuid}/status/{rest}"), 404)


# -- writes to the status -------------------------------------------------------------------------


def change(source: str, destination: str, *nodes: str, phase: str = "shutdown") -> list[dict[str, Any]]:
    data = {"phase": phase, "source": source, "destination": destination, "node_list": list(nodes)}
    return [{"update_type": "NodeChangeList", "phase": phase, "data": data}]


@pytest.fixture
def session(bos) -> BootSession:
    return begin(make_template([make_node(name) for name in NAMES]))


def status(bos: BosClient, session: BootSession) -> dict[str, dict[str, list[str]]]:
    document = bos.get(f"{V1}/session/{session.uuid}/status/compute")
    return {
        phase["name"]: {item["name"]: item["node_list"] for item in phase["categories"] if item["node_list"]}
        for phase in document["phases"]
    }


def test_an_agent_moves_nodes_through_their_phases(bos, session):
    path = f"{V1}/session/{session.uuid}/status/compute"
    answer = bos.ask("PATCH", path, change("Not_Started", "In_Progress", *NAMES, phase="Shutdown"))
    plain(answer, 204)
    assert status(bos, session)["shutdown"] == {"in_progress": NAMES}
    assert bos.get(path)["metadata"]["in_progress"] is True
    bos.ask("PATCH", path, change("in_progress", "succeeded", NAMES[0]))
    bos.ask("PATCH", path, change("in_progress", "failed", NAMES[1]))
    assert status(bos, session)["shutdown"] == {"succeeded": [NAMES[0]], "failed": [NAMES[1]]}
    row = NodePhase.objects.get(phase__name="boot", node__name=NAMES[0])
    assert row.step == Step.CHECK
    assert row.due_at is not None
    errors = [{"update_type": "NodeErrorsList", "phase": "shutdown", "data": {"no answer": [NAMES[1]]}}]
    plain(bos.ask("PATCH", path, errors), 204)
    assert bos.get(f"{path}/shutdown")["errors"] == {"no answer": [NAMES[1]]}
    assert bos.get(f"{V2}/sessions/{session.name}/status")["error_summary"] == {
        "no answer": {"count": 1, "list": NAMES[1]}
    }
    bos.ask("PATCH", path, change("not_started", "excluded", NAMES[0], phase="boot"))
    session.refresh_from_db()
    assert (session.status, session.result) == (SessionStatus.COMPLETE, "failed")
    bos.ask("PATCH", path, change("failed", "not_started", NAMES[1]))
    session.refresh_from_db()
    assert session.status == SessionStatus.RUNNING


def test_moves_that_cannot_be_change_nothing(bos, session):
    path = f"{V1}/session/{session.uuid}/status/compute"
    move(session, "shutdown", NAMES[0], to=Category.FAILED, error="e")
    before = status(bos, session)
    for body in (
        change("not_started", "succeeded", "x9"),
        change("failed", "succeeded", NAMES[0]),
        change("not_started", "succeeded", NAMES[1], phase="boot"),
        change("not_started", "in_progress", NAMES[1]) + change("failed", "excluded", NAMES[0]),
        change("not_started", "nowhere", NAMES[1]),
        [{"update_type": "Other", "phase": "boot", "data": {}}],
        [{"update_type": "GenericMetadata", "phase": "boot_set", "data": {}}],
        [{"update_type": "GenericMetadata", "phase": "boot", "data": {"start_time": "soon"}}],
        {},
    ):
        is_problem(bos.ask("PATCH", path, body), 400, "Bad Request")
    assert status(bos, session) == before


def test_times_are_set(bos, session):
    path = f"{V1}/session/{session.uuid}/status/compute"
    time = "2020-07-22 13:39:07.706774"
    for phase in ("boot", ""):
        update = {"update_type": "GenericMetadata", "phase": phase, "data": {"start_time": time}}
        plain(bos.ask("PATCH", path, [update]), 204)
    assert bos.get(path)["metadata"]["start_time"] == time
    assert bos.get(f"{path}/boot")["metadata"]["start_time"] == time
    began = bos.get(f"{V1}/session/{session.uuid}/status")["metadata"]["start_time"]
    patched = bos.ask("PATCH", f"{V1}/session/{session.uuid}/status", {"start_time": time})
    assert patched.json()["metadata"]["start_time"] == began  # the first write counts


def test_a_status_exists_until_it_is_deleted(bos, session):
    path = f"{V1}/session/{session.uuid}/status"
    whole = bos.get(path)
    body = {"id": str(session.uuid), "boot_sets": ["compute"], "metadata": {"start_time": "x"}}
    plain(bos.ask("POST", path, body), 409, whole)
    plain(bos.ask("DELETE", path), 204)
    plain(bos.ask("GET", path), 404)
    assert bos.get(f"{V1}/session/{session.uuid}")["complete"] == ""
    plain(bos.ask("POST", path, body), 200, whole)
    assert bos.get(path) == whole


def test_a_boot_sets_status_exists_until_it_is_deleted(bos, session):
    path = f"{V1}/session/{session.uuid}/status/compute"
    whole = bos.get(path)
    body = {"name": "compute", "session": str(session.uuid), "phases": whole["phases"]}
    plain(bos.ask("POST", path, body), 409, whole)
    plain(bos.ask("DELETE", path), 204)
    plain(bos.ask("GET", path), 404)
    assert bos.get(f"{V1}/session/{session.uuid}/status")["boot_sets"] == []
    plain(bos.ask("POST", path, body), 200, whole)
    assert bos.get(path) == whole
    is_problem(bos.ask("POST", f"{V1}/session/{session.uuid}/status/other", body), 400, "Bad Request")
