"""What HPE's `cray` command line sends for `cray bos …`, byte for byte, and what it needs in the answers.

Recorded between the command line (both generations) and a running Muster; the command is in the first
column. `cray` prints an error's `title` and `detail` where a document has both, else the status; an answer
is printed as JSON, YAML or TOML, for which it must be an object, an array or a text.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from sessions_app import setup
from sessions_app.models import BootImage, BootSession
from tests.factories import make_domain, make_key, make_node, make_olga

A, B = "x3000c0s0b0n0", "x3000c0s1b0n0"
BOOT_SET = (
    b'{"compute": {"node_list": ["x3000c0s0b0n0", "x3000c0s1b0n0"], "path": "s3://boot-images/i/manifest.json",'
    b' "type": "s3", "etag": "abc", "kernel_parameters": "quiet", "rootfs_provider": "sbps",'
    b' "rootfs_provider_passthrough": "v1:x:y:300"}}'
)
FILE = b'{"boot_sets": ' + BOOT_SET + b', "cfs": {"configuration": "c"}, "enable_cfs": true'
EMPTY = "Bad Request: None is not of type 'object'"
NO_SESSION = "The resource was not found: Session 'nosuch' does not exist"
NO_NODE = "The resource was not found: Component 'x9' does not exist"

# The command without `cray bos v2`; method, path below /apis/bos; body; status; what must be printed:
# a text is an error's, names are keys of the answer (of its first item, where it is an array).
V2: list[tuple[str, str, str, bytes, int, Any]] = [
    ("list", "GET", "/v2", b"", 200, {"links", "major", "minor", "patch"}),
    ("version list", "GET", "/v2/version", b"", 200, {"links", "major", "minor", "patch"}),
    ("healthz list", "GET", "/v2/healthz", b"", 200, {"apiStatus", "dbStatus"}),
    ("sessiontemplates list", "GET", "/v2/sessiontemplates", b"", 200, set()),
    ("sessiontemplates create t --file", "PUT", "/v2/sessiontemplates/t", FILE + b"}", 200, {"boot_sets"}),
    # A file that was written by `describe` has the name in it.
    ("… --file", "PUT", "/v2/sessiontemplates/t", FILE + b', "name": "t", "tenant": null}', 200, {"name"}),
    (
        "sessiontemplates create bare --description x",
        "PUT",
        "/v2/sessiontemplates/bare",
        b'{"description": "x", "enable_cfs": true}',
        400,
        "Bad Request: 'boot_sets' is a required property",
    ),
    (
        "sessiontemplates update t --description again",
        "PATCH",
        "/v2/sessiontemplates/t",
        b'{"description": "again", "enable_cfs": true}',
        200,
        {"boot_sets", "description"},
    ),
    ("sessiontemplates update t --file", "PATCH", "/v2/sessiontemplates/t", FILE + b"}", 200, {"cfs"}),
    ("sessiontemplates describe t", "GET", "/v2/sessiontemplates/t", b"", 200, {"name", "tenant"}),
    ("sessiontemplatesvalid describe t", "GET", "/v2/sessiontemplatesvalid/t", b"", 200, "Valid"),
    ("sessiontemplatetemplate list", "GET", "/v2/sessiontemplatetemplate", b"", 200, {"boot_sets"}),
    (
        "sessions create --template-name t --operation boot --limit … --name s1",
        "POST",
        "/v2/sessions",
        b'{"name": "s1", "operation": "boot", "template_name": "t", "limit": "x3000c0s0b0n0"}',
        201,
        {"components", "include_disabled", "limit", "name", "operation", "stage", "status", "template_name"},
    ),
    (
        "… again",
        "POST",
        "/v2/sessions",
        b'{"name": "s1", "operation": "boot", "template_name": "t", "limit": "x3000c0s0b0n0"}',
        409,
        "The resource to be created already exists: Session 's1' already exists",
    ),
    (
        "sessions create --template-name nosuch --operation boot",
        "POST",
        "/v2/sessions",
        b'{"operation": "boot", "template_name": "nosuch"}',
        400,
        "Bad Request: Session Template Name invalid: nosuch",
    ),
    (
        "sessions create … --stage true --name st",
        "POST",
        "/v2/sessions",
        b'{"name": "st", "operation": "reboot", "template_name": "t", "stage": true}',
        201,
        {"stage"},
    ),
    ("sessions describe s1", "GET", "/v2/sessions/s1", b"", 200, {"status"}),
    ("sessions describe nosuch", "GET", "/v2/sessions/nosuch", b"", 404, NO_SESSION),
    ("sessions status list s1", "GET", "/v2/sessions/s1/status", b"", 200, {"phases", "timing"}),
    ("sessions list --status running", "GET", "/v2/sessions?status=running", b"", 200, {"name"}),
    ("sessions list --min-age 1h", "GET", "/v2/sessions?min_age=1h", b"", 200, set()),
    (
        "applystaged create --xnames …",
        "POST",
        "/v2/applystaged",
        b'{"xnames": ["x3000c0s1b0n0", "x9"]}',
        200,
        {"succeeded", "failed", "ignored"},
    ),
    ("applystaged create", "POST", "/v2/applystaged", b"", 400, EMPTY),
    ("components list", "GET", "/v2/components", b"", 200, {"id", "status", "actual_state"}),
    (
        "components list --enabled true --phase '' --status stable",
        "GET",
        "/v2/components?enabled=True&phase=&status=failed",
        b"",
        200,
        set(),
    ),
    ("components list --session s1", "GET", "/v2/components?session=s1&page_size=1", b"", 200, {"id"}),
    ("components describe", "GET", f"/v2/components/{A}", b"", 200, {"id", "last_action"}),
    ("components describe x9", "GET", "/v2/components/x9", b"", 404, NO_NODE),
    ("components update", "PATCH", f"/v2/components/{A}", b'{"retry_policy": 5}', 200, {"retry_policy"}),
    ("components update --enabled", "PATCH", f"/v2/components/{A}", b'{"enabled": true}', 200, {"enabled"}),
    ("components update, nothing", "PATCH", f"/v2/components/{A}", b"", 400, EMPTY),
    (
        "components updatemany --filter-ids … --enabled true",
        "PATCH",
        "/v2/components",
        b'{"filters": {"ids": "x3000c0s0b0n0,x3000c0s1b0n0"}, "patch": {"enabled": true}}',
        200,
        {"id"},
    ),
    (
        "components updatemany --filter-session s1 --patch …",
        "PATCH",
        "/v2/components",
        b'{"filters": {"session": "s1"}, "patch": {"retry_policy": 2}}',
        200,
        {"id"},
    ),
    (
        "components updatemany --filter-ids x9 --enabled true",
        "PATCH",
        "/v2/components",
        b'{"filters": {"ids": "x9"}, "patch": {"enabled": true}}',
        404,
        NO_NODE,
    ),
    ("options list", "GET", "/v2/options", b"", 200, {"logging_level", "max_boot_wait_time"}),
    (
        "options update --clear-stage true --logging-level DEBUG",
        "PATCH",
        "/v2/options",
        b'{"clear_stage": true, "logging_level": "DEBUG"}',
        200,
        {"clear_stage"},
    ),
    ("sessions delete s1", "DELETE", "/v2/sessions/s1", b"", 204, set()),
    ("sessiontemplates delete t", "DELETE", "/v2/sessiontemplates/t", b"", 204, set()),
]
V1: list[tuple[str, str, str, bytes, int, Any]] = [
    ("list", "GET", "/v1", b"", 200, {"links", "major"}),
    ("version list", "GET", "/v1/version", b"", 200, {"links", "major"}),
    ("healthz list", "GET", "/v1/healthz", b"", 200, {"apiStatus"}),
    ("sessiontemplatetemplate list", "GET", "/v1/sessiontemplatetemplate", b"", 200, {"boot_sets"}),
    (
        "sessiontemplate create --name t --file",
        "POST",
        "/v1/sessiontemplate",
        FILE + b', "name": "t"}',
        201,
        "t",
    ),
    (
        "sessiontemplate create --name bare --description x --partition p1 …",
        "POST",
        "/v1/sessiontemplate",
        b'{"name": "bare", "description": "x", "enable_cfs": true, "cfs": {"configuration": "c"},'
        b' "partition": "p1"}',
        201,
        "bare",
    ),
    ("sessiontemplate list", "GET", "/v1/sessiontemplate", b"", 200, {"name", "enable_cfs"}),
    ("sessiontemplate describe t", "GET", "/v1/sessiontemplate/t", b"", 200, {"boot_sets"}),
    (
        "sessiontemplate describe nosuch",
        "GET",
        "/v1/sessiontemplate/nosuch",
        b"",
        404,
        "Sessiontemplate could not found.: Sessiontemplate nosuch could not be found",
    ),
    (
        "session create --template-uuid nosuch --operation boot",
        "POST",
        "/v1/session",
        b'{"operation": "boot", "templateUuid": "nosuch"}',
        404,
        "Session Template ID invalid: nosuch",
    ),
    (
        "session create --template-uuid t --operation Reboot --limit …",
        "POST",
        "/v1/session",
        b'{"operation": "Reboot", "templateUuid": "t", "limit": "x3000c0s0b0n0"}',
        201,
        {"job", "limit", "links", "operation", "templateName"},
    ),
    ("session list", "GET", "/v1/session", b"", 200, str),
    ("session describe", "GET", "/v1/session/<id>", b"", 200, {"status_link", "templateName", "job"}),
    ("session describe nosuch", "GET", "/v1/session/nosuch", b"", 404, set()),
    ("session status list", "GET", "/v1/session/<id>/status", b"", 200, {"boot_sets", "links", "metadata"}),
    (
        "session status describe succeeded Boot compute …",
        "GET",
        "/v1/session/<id>/status/compute/Boot/succeeded",
        b"",
        200,
        {"name", "node_list"},
    ),
    ("session status delete compute …", "DELETE", "/v1/session/<id>/status/compute", b"", 204, set()),
    ("session delete", "DELETE", "/v1/session/<id>", b"", 204, set()),
    ("sessiontemplate delete t", "DELETE", "/v1/sessiontemplate/t", b"", 204, set()),
]


class Cray:
    """Asks with exactly the headers of the command line."""

    def __init__(self, **headers: str) -> None:
        self.client = Client()
        self.headers = {
            "User-Agent": "python-requests/2.34.2",
            "Accept-Encoding": "gzip, deflate",
            "Accept": "*/*",
            "Connection": "keep-alive",
            "Authorization": f"Bearer {make_key(make_olga()).token}",
            **headers,
        }

    def ask(self, method: str, path: str, body: bytes = b"") -> Any:
        """A body is labelled; where there is none there is no label either."""
        kind = {"content_type": "application/json"} if body else {}
        return self.client.generic(method, f"/apis/bos{path}", body, headers=self.headers, **kind)


def printed(answer: Any) -> Any:
    """What `cray` makes of an answer: the error that it shows, or the document."""
    if not answer.content:
        return {}
    document = answer.json()
    if answer.status_code >= 400 and isinstance(document, dict) and "detail" in document:
        return f"{document['title']}: {document['detail']}"
    return document


def fits(document: Any, wanted: Any) -> bool:
    """Whether this is the text, or an object (or an array of such) with these keys."""
    if isinstance(wanted, str):
        return bool(document == wanted)
    if isinstance(document, list):
        return not document if wanted == set() else fits(document[0], wanted)
    return isinstance(document, wanted) if isinstance(wanted, type) else wanted <= set(document)


@pytest.fixture
def nodes(db: None) -> None:
    for name in (A, B):
        make_node(name)
    BootImage.objects.create(path="s3://boot-images/i/manifest.json", kernel="s3://k", initrd="s3://i")


@pytest.mark.parametrize("rows", [V2, V1], ids=["v2", "v1"])
def test_every_command_gets_what_it_prints(nodes, rows):
    cray, name = Cray(), ""
    for command, method, path, body, status, wanted in rows:
        answer = cray.ask(method, path.replace("<id>", name), body)
        document = printed(answer)
        assert answer.status_code == status, (command, answer.status_code, answer.content)
        assert fits(document, wanted), (command, document)
        for session in BootSession.objects.filter(status="pending"):
            assert setup.set_up_session(session.pk)  # as a worker does meanwhile
            name = session.name


def test_a_tenant_of_the_configuration_is_a_header(nodes):
    tenant = make_domain("tenant-a")
    make_node("x3000c0s2b0n0", domain=tenant)
    cray = Cray(**{"Cray-Tenant-Name": "tenant-a"})
    body = FILE.replace(b'["x3000c0s0b0n0", "x3000c0s1b0n0"]', b'["x3000c0s2b0n0"]') + b"}"
    made = cray.ask("PUT", "/v2/sessiontemplates/t", body)
    assert (made.status_code, made.json()["tenant"]) == (200, "tenant-a")
    gone = cray.ask("GET", "/v2/sessions/nosuch")
    assert printed(gone).endswith("Session for tenant 'tenant-a' 'nosuch' does not exist")
    assert [item["id"] for item in cray.ask("GET", "/v2/components").json()] == ["x3000c0s2b0n0"]
    refused = cray.ask("GET", "/v1/session")
    assert (refused.status_code, refused.json()["title"]) == (400, "Multi-tenancy not supported")
