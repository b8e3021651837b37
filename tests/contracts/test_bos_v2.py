"""BOS v2: templates, sessions, options: shapes, codes, error bodies, tenants."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from accounts_app.states import Role
from sessions_app.models import BootSession, BosOptions, SessionTemplate
from sessions_app.states import SessionStatus
from tests.contracts.bos import V2, BosClient, begin, is_problem
from tests.factories import (
    make_domain,
    make_group,
    make_node,
    make_nodes,
    make_olga,
    make_session,
    make_template,
    make_user,
)

pytestmark = pytest.mark.django_db

NOT_FOUND = "The resource was not found"
TAKEN = "The resource to be created already exists"
BAD = "Bad Request"


@pytest.fixture
def bos() -> BosClient:
    return BosClient(make_olga())


def template(**boot_set: Any) -> dict[str, Any]:
    fields = {"path": "s3://b/manifest.json", "type": "s3", "node_list": ["X1000C0S0B0N0"], **boot_set}
    return {"boot_sets": {"compute": {key: value for key, value in fields.items() if value is not None}}}


# -- templates ------------------------------------------------------------------------------------


def test_a_template_is_stored_in_canonical_form(bos):
    body = template(node_list=["X1000C0S0B0N00", "x1000c0s0b0n1"], cfs={}, name="compute")
    body |= {"cfs": {"configuration": ""}, "enable_cfs": True, "description": "d"}
    answer = bos.ask("PUT", f"{V2}/sessiontemplates/cle-1.0", body)
    assert answer.status_code == 200
    assert answer.json() == {
        "boot_sets": {
            "compute": {
                "arch": "X86",
                "node_list": ["x1000c0s0b0n0", "x1000c0s0b0n1"],
                "path": "s3://b/manifest.json",
                "type": "s3",
            }
        },
        "description": "d",
        "enable_cfs": True,
        "name": "cle-1.0",
        "tenant": None,
    }


def test_what_get_answers_can_be_put_back(bos):
    bos.ask("PUT", f"{V2}/sessiontemplates/a", template())
    document = bos.get(f"{V2}/sessiontemplates/a")
    again = bos.ask("PUT", f"{V2}/sessiontemplates/a", document)
    assert (again.status_code, again.json()) == (200, document)
    assert bos.get(f"{V2}/sessiontemplates") == [document]
    other = bos.ask("PUT", f"{V2}/sessiontemplates/b", document)
    is_problem(other, 400, BAD, "Property is read-only - 'name'")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "'boot_sets' is a required property"),
        ({"boot_sets": {}}, None),
        (template(path=None), "'path' is a required property - 'boot_sets.compute'"),
        (template(type=None), "'type' is a required property - 'boot_sets.compute'"),
        (template(node_list=None), None),
        (template(node_list=[]), None),
        (template(node_list="x1"), "'x1' is not of type 'array' - 'boot_sets.compute.node_list'"),
        (template(node_list=["x1000c0s0b0"]), None),
        (template(arch="PDP11"), None),
        (template(name="other"), None),
        (template(surprise=1), None),
        ({**template(), "surprise": 1}, "Additional properties are not allowed ('surprise' was unexpected)"),
        ([], "[] is not of type 'object'"),
        (b"{", "Request body is not valid JSON"),
        (b'{"description": "\\u0000"}', "Request body is not valid JSON"),
        (b'{"description": "\\ud800"}', "Request body is not valid JSON"),
        (b"[" * 100_000, "Request body is not valid JSON"),
        (None, "None is not of type 'object'"),
    ],
)  # fmt: skip
def test_a_bad_template_is_refused_and_stores_nothing(bos, body, detail):
    is_problem(bos.ask("PUT", f"{V2}/sessiontemplates/a", body), 400, BAD, detail)
    assert not SessionTemplate.objects.exists()


def test_other_content_types_are_refused(bos):
    answer = bos.ask(
        "PUT", f"{V2}/sessiontemplates/a", b"a=1", content_type="application/x-www-form-urlencoded"
    )
    is_problem(answer, 415, "Unsupported Media Type")


def test_a_patch_merges_without_repeating_path_and_type(bos):
    bos.ask("PUT", f"{V2}/sessiontemplates/a", {**template(), "cfs": {"configuration": "old"}})
    patch = {"boot_sets": {"compute": {"kernel_parameters": "quiet"}}, "cfs": {"configuration": "new"}}
    document = bos.ask("PATCH", f"{V2}/sessiontemplates/a", patch).json()
    assert document["boot_sets"]["compute"]["kernel_parameters"] == "quiet"
    assert document["boot_sets"]["compute"]["path"] == "s3://b/manifest.json"
    assert document["cfs"] == {"configuration": "new"}
    is_problem(bos.ask("PATCH", f"{V2}/sessiontemplates/a", {"boot_sets": {"new": {"etag": "e"}}}), 400, BAD)
    is_problem(bos.ask("PATCH", f"{V2}/sessiontemplates/b", {"description": "x"}), 404, NOT_FOUND)


def test_a_template_is_deleted(bos):
    bos.ask("PUT", f"{V2}/sessiontemplates/a", template())
    gone = bos.ask("DELETE", f"{V2}/sessiontemplates/a")
    assert (gone.status_code, gone.content, gone["Content-Type"]) == (204, b"", "application/problem+json")
    detail = "Session template 'a' does not exist"
    for method in ("GET", "DELETE"):
        is_problem(bos.ask(method, f"{V2}/sessiontemplates/a"), 404, NOT_FOUND, detail)


def test_a_template_is_validated(bos):
    bos.ask("PUT", f"{V2}/sessiontemplates/a", template(rootfs_provider="sbps"))
    assert bos.get(f"{V2}/sessiontemplatesvalid/a") == "Valid"
    bos.ask("PUT", f"{V2}/sessiontemplates/a", template(rootfs_provider="cpss3", node_list=["nid000001"]))
    warnings = bos.get(f"{V2}/sessiontemplatesvalid/a")
    assert "cpss3" in warnings
    assert "; " in warnings
    bos.ask("PATCH", f"{V2}/options", {"reject_nids": True})
    assert bos.get(f"{V2}/sessiontemplatesvalid/a").startswith("Session template: 'a' boot set: 'compute': ")
    is_problem(bos.ask("GET", f"{V2}/sessiontemplatesvalid/b"), 404, NOT_FOUND)
    example = bos.get(f"{V2}/sessiontemplatetemplate")
    assert bos.ask("PUT", f"{V2}/sessiontemplates/{example['name']}", example).status_code == 200


# -- sessions -------------------------------------------------------------------------------------


def test_a_session_is_created(bos):
    make_template(make_nodes(2), name="t")
    answer = bos.ask("POST", f"{V2}/sessions", {"operation": "boot", "template_name": "t", "limit": None})
    assert answer.status_code == 201
    document = answer.json()
    start = document["status"]["start_time"]
    assert document == {
        "components": "",
        "include_disabled": False,
        "limit": "",
        "name": document["name"],
        "operation": "boot",
        "stage": False,
        "status": {"end_time": None, "error": None, "start_time": start, "status": "pending"},
        "template_name": "t",
        "tenant": None,
    }
    assert timezone.datetime.strptime(start, "%Y-%m-%dT%H:%M:%S")
    assert bos.get(f"{V2}/sessions/{document['name']}") == document
    assert bos.get("/v2/sessions") == [document]


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"template_name": "nosuch"}, "Session Template Name invalid: nosuch"),
        (
            {"operation": "configure"},
            "'configure' is not one of ['boot', 'reboot', 'shutdown'] - 'operation'",
        ),
        ({"operation": None}, None),
        ({"name": "bad name"}, None),
        ({"name": "a" * 128}, None),
        ({"stage": "yes"}, "'yes' is not of type 'boolean' - 'stage'"),
        ({"surprise": 1}, None),
        ({"limit": "nosuchgroup"}, None),
        ({"limit": "!x1000c0s0b0n0"}, None),
        ({"limit": "x1000c0s0b0n0,,x1000c0s0b0n1"}, None),
    ],
)
def test_a_bad_session_is_refused_and_creates_nothing(bos, change, detail):
    make_template(make_nodes(2), name="t")
    body = {"operation": "boot", "template_name": "t", **change}
    is_problem(bos.ask("POST", f"{V2}/sessions", body), 400, BAD, detail)
    assert not BootSession.objects.exists()


def test_a_name_is_given_once(bos):
    make_template(make_nodes(1), name="t")
    body = {"operation": "boot", "template_name": "t", "name": "s"}
    assert bos.ask("POST", f"{V2}/sessions", body).status_code == 201
    is_problem(bos.ask("POST", f"{V2}/sessions", body), 409, TAKEN, "Session 's' already exists")


def test_a_limit_may_be_required(bos):
    make_template(make_nodes(1), name="t")
    bos.ask("PATCH", f"{V2}/options", {"session_limit_required": True})
    body = {"operation": "boot", "template_name": "t"}
    is_problem(bos.ask("POST", f"{V2}/sessions", body), 400, BAD)
    assert bos.ask("POST", f"{V2}/sessions", {**body, "limit": "*"}).status_code == 201


def test_images_may_have_to_be_registered(bos):
    make_template(make_nodes(1), name="t")
    bos.ask("PATCH", f"{V2}/options", {"ims_images_must_exist": True})
    answer = bos.ask("POST", f"{V2}/sessions", {"operation": "boot", "template_name": "t"})
    is_problem(answer, 400, BAD)
    assert answer.json()["detail"].startswith("Session template fails check: ")
    assert (
        bos.ask("POST", f"{V2}/sessions", {"operation": "shutdown", "template_name": "t"}).status_code == 201
    )


def test_sessions_are_filtered_by_age_and_status(bos):
    shop = make_template(make_nodes(1), name="t")
    old, new = make_session(shop, name="old"), make_session(shop, name="new")
    BootSession.objects.filter(pk=old.pk).update(created_at=timezone.now() - timezone.timedelta(hours=3))

    def names(query: str) -> list[str]:
        return [document["name"] for document in bos.get(f"{V2}/sessions?{query}")]

    assert names("min_age=2h") == ["old"]
    assert names("max_age=2h") == ["new"]
    assert names("min_age=0&status=pending") == ["old", "new"]
    assert names("status=complete") == []
    for query in ("min_age=2x", "max_age=-1h", "status=done", "min_age=9999999999w"):
        is_problem(bos.ask("GET", f"{V2}/sessions?{query}"), 400, BAD)
    assert new.status == SessionStatus.PENDING


def test_sessions_are_deleted_complete_ones_only_unless_asked(bos):
    nodes = make_nodes(2)
    running = begin(make_template(nodes, name="t"), name="running")
    done = make_session(make_template(nodes, name="u"), name="done")
    done.move_to(SessionStatus.COMPLETE, stopped_at=timezone.now())
    assert bos.ask("DELETE", f"{V2}/sessions?min_age=1h").status_code == 204
    assert BootSession.objects.count() == 2
    assert bos.ask("DELETE", f"{V2}/sessions").status_code == 204
    assert list(BootSession.objects.all()) == [running]
    assert bos.ask("DELETE", f"{V2}/sessions?status=running").status_code == 204
    assert not BootSession.objects.exists()
    nodes[0].refresh_from_db()
    assert (nodes[0].session, nodes[0].enabled) == (None, False)


def test_one_session_is_deleted(bos):
    begin(make_template(make_nodes(1)), name="s")
    assert bos.ask("DELETE", f"{V2}/sessions/s").status_code == 204
    is_problem(bos.ask("DELETE", f"{V2}/sessions/s"), 404, NOT_FOUND, "Session 's' does not exist")
    for path in ("sessions/s", "sessions/s/status"):
        is_problem(bos.ask("GET", f"{V2}/{path}"), 404, NOT_FOUND)


def test_the_internal_write_may_end_a_session(bos):
    begin(make_template(make_nodes(1)), name="s")
    path = f"{V2}/sessions/s"
    assert bos.ask("PATCH", path, {"components": "a,b"}).json()["components"] == "a,b"
    is_problem(bos.ask("PATCH", path, {"status": {"status": "pending"}}), 400, BAD)
    ended = bos.ask("PATCH", path, {"status": {"status": "complete", "error": "enough"}}).json()
    assert ended["status"]["status"] == "complete"
    assert ended["status"]["error"] == "enough"
    assert ended["status"]["end_time"]
    is_problem(bos.ask("PATCH", path, {"status": {"start_time": "soon"}}), 400, BAD)


def test_a_status_is_the_same_by_get_and_post(bos):
    session = begin(make_template(make_nodes(3)), name="s")
    got = bos.get(f"{V2}/sessions/s/status")
    posted = bos.ask("POST", f"{V2}/sessions/s/status").json()
    got["timing"].pop("duration"), posted["timing"].pop("duration")
    assert got == posted
    assert got["managed_components_count"] == 3
    assert got["phases"]["percent_powering_off"] == 100.0
    assert got["status"] == "running"
    assert (
        bos.get(f"{V2}/sessions/s")["components"]
        == session.components
        == ",".join(sorted(session.components.split(",")))
    )


# -- tenants --------------------------------------------------------------------------------------


def test_tenants_have_names_of_their_own(bos):
    make_domain("blue")
    blue = {"Cray_Tenant_Name": "blue"}
    assert bos.ask("PUT", f"{V2}/sessiontemplates/t", template(), **blue).json()["tenant"] == "blue"
    assert bos.ask("PUT", f"{V2}/sessiontemplates/t", template()).json()["tenant"] is None
    assert len(bos.get(f"{V2}/sessiontemplates")) == 2
    assert len(bos.get(f"{V2}/sessiontemplates", **blue)) == 1
    assert bos.ask("DELETE", f"{V2}/sessiontemplates/t").status_code == 204
    assert bos.get(f"{V2}/sessiontemplates/t", **blue)["tenant"] == "blue"
    detail = "Session template for tenant 'green' 't' does not exist"
    answer = bos.ask("GET", f"{V2}/sessiontemplates/t", Cray_Tenant_Name="green")
    is_problem(answer, 404, NOT_FOUND, detail)
    for method, path, body in (
        ("PUT", "sessiontemplates/t", template()),
        ("POST", "sessions", {"operation": "boot", "template_name": "t"}),
    ):
        answer = bos.ask(method, f"{V2}/{path}", body, Cray_Tenant_Name="green")
        is_problem(answer, 400, "Invalid tenant", "The provided tenant does not exist")


def test_a_tenants_session_has_its_nodes_only(bos):
    blue = make_domain("blue")
    mine, other = make_node("x1000c0s0b0n0", domain=blue), make_node("x1000c0s0b0n1")
    make_template([mine, other], name="t", domain=blue)
    body = {"operation": "boot", "template_name": "t", "name": "s"}
    document = bos.ask("POST", f"{V2}/sessions", body, Cray_Tenant_Name="blue").json()
    assert document["tenant"] == "blue"
    components = bos.get(f"{V2}/components", Cray_Tenant_Name="blue")
    assert [component["id"] for component in components] == ["x1000c0s0b0n0"]
    answer = bos.ask("GET", f"{V2}/components/x1000c0s0b0n1", Cray_Tenant_Name="blue")
    is_problem(answer, 404, NOT_FOUND)
    is_problem(bos.ask("GET", f"{V2}/sessions/s"), 404, NOT_FOUND)


def test_a_user_of_a_domain_acts_in_it_without_saying_so():
    blue = make_domain("blue")
    theirs = BosClient(make_user("bo", Role.USER, blue))
    make_template(make_nodes(1), name="untenanted")
    assert theirs.get(f"{V2}/sessiontemplates") == []
    assert theirs.ask("PUT", f"{V2}/sessiontemplates/t", template()).json()["tenant"] == "blue"
    assert theirs.get(f"{V2}/sessiontemplates/t")["tenant"] == "blue"
    is_problem(theirs.ask("GET", f"{V2}/sessiontemplates/untenanted"), 404, NOT_FOUND)
    make_domain("green")
    answer = theirs.ask("PUT", f"{V2}/sessiontemplates/t", template(), Cray_Tenant_Name="green")
    is_problem(answer, 400, "Invalid tenant")


def test_who_only_views_changes_nothing():
    theirs = BosClient(make_user("victor", Role.VIEWER))
    make_template(make_nodes(1), name="t")
    assert len(theirs.get(f"{V2}/sessiontemplates")) == 1
    for method, path, body in (
        ("PUT", "sessiontemplates/a", template()),
        ("POST", "sessions", {"operation": "boot", "template_name": "t"}),
        ("PATCH", "options", {"clear_stage": True}),
        ("PATCH", "components/x1000c0s0b0n0", {"enabled": True}),
        ("DELETE", "components/x1000c0s0b0n0", None),
        ("POST", "applystaged", {"xnames": []}),
    ):
        is_problem(theirs.ask(method, f"{V2}/{path}", body), 403, "Forbidden")


# -- options, version, health ---------------------------------------------------------------------


def test_options_have_the_originals_names_and_defaults(bos):
    assert bos.get(f"{V2}/options") == {
        "bss_read_timeout": 20,
        "cfs_read_timeout": 20,
        "cleanup_completed_session_ttl": "7d",
        "clear_stage": False,
        "component_actual_state_ttl": "4h",
        "default_retry_policy": 3,
        "discovery_frequency": 300,
        "hsm_read_timeout": 20,
        "ims_errors_fatal": False,
        "ims_images_must_exist": False,
        "ims_read_timeout": 20,
        "logging_level": "INFO",
        "max_boot_wait_time": 1200,
        "max_component_batch_size": 2800,
        "max_power_off_wait_time": 300,
        "max_power_on_wait_time": 120,
        "pcs_read_timeout": 20,
        "polling_frequency": 15,
        "reject_nids": False,
        "session_limit_required": False,
    }


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"default_retry_policy": -1},
        {"default_retry_policy": "3"},
        {"bss_read_timeout": 9},
        {"max_component_batch_size": 131072},
        {"cleanup_completed_session_ttl": "7y"},
        {"cleanup_completed_session_ttl": "7d\n"},
        {"component_actual_state_ttl": "0h"},
        {"logging_level": "LOUD"},
        {"clear_stage": 1},
    ],
)
def test_a_bad_option_is_refused(bos, change):
    is_problem(bos.ask("PATCH", f"{V2}/options", change), 400, BAD)
    assert BosOptions.current() == bos.get(f"{V2}/options")


def test_options_are_merged_and_unknown_ones_dropped(bos):
    changed = bos.ask("PATCH", f"{V2}/options", {"max_boot_wait_time": 60, "unknown": 1})
    assert changed.status_code == 200
    assert changed.json()["max_boot_wait_time"] == 60
    assert "unknown" not in bos.get(f"{V2}/options")
    assert BosOptions.current()["max_boot_wait_time"] == 60


def test_the_version_names_itself(bos):
    document = bos.get(f"{V2}/version")
    assert (document["major"], document["minor"], document["patch"]) == ("2", "50", "0")
    assert [link["rel"] for link in document["links"]] == ["self", "versions"]
    assert document["links"][1]["href"].endswith("/apis/bos/v2")
    assert bos.get("/v2") == bos.get("/v2/version")
    for path in ("/apis/bos", "/apis/bos/"):
        assert [version["major"] for version in bos.get(path)] == ["2"]
    assert bos.get(f"{V2}/healthz") == {"apiStatus": "ok", "dbStatus": "ok"}


def test_other_urls_and_methods_have_the_originals_errors(bos):
    is_problem(bos.ask("GET", f"{V2}/nosuch"), 404, "Not Found")
    is_problem(bos.ask("POST", f"{V2}/components"), 405, "Method Not Allowed")
    is_problem(BosClient(None).ask("GET", f"{V2}/sessions"), 401, "Unauthorized")


def test_groups_and_roles_are_resolved_at_the_start(bos):
    nodes = make_nodes(4)
    make_group("blue", nodes[:2])
    body = template(node_list=None, node_groups=["blue"], node_roles_groups=["Compute"])
    bos.ask("PUT", f"{V2}/sessiontemplates/t", body)
    answer = bos.ask(
        "POST", f"{V2}/sessions", {"operation": "boot", "template_name": "t", "limit": "all,!blue"}
    )
    assert answer.status_code == 201
