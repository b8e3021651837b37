"""Every request that would change something leaves one row that nobody can change."""

from __future__ import annotations

import hmac
import importlib
import json
import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.utils import timezone

from accounts_app.checks import check_audit_webhook
from accounts_app.models import AuditEntry, AuditPending, AuditWebhook, Unchangeable
from accounts_app.states import Role
from accounts_app.steps import deliver_audit
from tests.factories import PASSWORD, make_domain, make_key, make_node, make_olga, make_user, make_victor

pytestmark = pytest.mark.django_db


def client_of(user: Any) -> Client:
    return Client(headers={"authorization": f"Bearer {make_key(user).token}"})


def make_entry(**fields: Any) -> AuditEntry:
    values = {"request_id": uuid.uuid4(), "door": "api", "method": "POST", "path": "/x", "status": 200}
    return AuditEntry.objects.create(**{**values, **fields})


def test_reading_leaves_no_row():
    client_of(make_olga()).get("/api/v1/nodes/")
    assert not AuditEntry.objects.exists()


def test_a_change_says_who_what_and_with_what_result():
    olga = make_olga()
    make_node("x1000c0s0b0n0")
    answer = client_of(olga).patch(
        "/api/v1/nodes/x1000c0s0b0n0/", {"role": "Storage"}, content_type="application/json"
    )
    row = AuditEntry.objects.get()
    assert (row.username, row.access_key, row.door, row.method) == (
        "olga", olga.keys.get().access_key, "api", "PATCH",
    )  # fmt: skip
    assert (row.path, row.target, row.status) == (
        "/api/v1/nodes/x1000c0s0b0n0/", "name=x1000c0s0b0n0", 200,
    )  # fmt: skip
    assert row.address == "127.0.0.1"
    assert answer["X-Request-ID"] == str(row.request_id)


@pytest.mark.parametrize(("person", "status"), [(None, 401), (make_victor, 403)])
def test_refused_requests_leave_a_row_too(person, status):
    client = client_of(person()) if person else Client()
    client.post("/api/v1/sessions/", {}, content_type="application/json")
    assert AuditEntry.objects.get().status == status


def test_a_callers_own_request_id_is_kept_where_it_is_one():
    mine = str(uuid.uuid4())
    Client().post("/api/v1/sessions/", headers={"x-request-id": mine})
    Client().post("/api/v1/sessions/", headers={"x-request-id": '"><script>'})
    first, second = AuditEntry.objects.order_by("id")
    assert str(first.request_id) == mine
    assert str(second.request_id) != mine


def test_pages_and_admin_are_doors_like_the_others():
    make_olga()
    client = Client()
    client.post("/login", {"username": "olga", "password": PASSWORD})
    client.post("/admin/accounts_app/domain/add/", {"name": "d1"})
    assert [row.door for row in AuditEntry.objects.order_by("id")] == ["page", "admin"]


def test_neither_the_orm_nor_the_database_changes_a_row():
    row = make_entry()
    with pytest.raises(Unchangeable):
        row.save()
    with pytest.raises(Unchangeable):
        row.delete()
    with pytest.raises(Unchangeable):
        AuditEntry.objects.update(status=200)
    with pytest.raises(Unchangeable):
        AuditEntry.objects.all().delete()


def test_the_databases_own_triggers_refuse():
    row = make_entry()
    migration = importlib.import_module("accounts_app.migrations.0003_audit_is_append_only")
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            for statement in migration.SQLITE:
                cursor.execute(statement)
        for statement in (
            "UPDATE accounts_app_auditentry SET status = 1",
            "DELETE FROM accounts_app_auditentry",
        ):
            with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
                cursor.execute(statement)
    assert AuditEntry.objects.get().status == row.status


def test_each_sees_the_rows_that_are_his_business():
    domain = make_domain()
    adam, dora = make_user("adam", Role.ADMIN, domain), make_user("dora", Role.USER, domain)
    for name in ("adam", "dora", "stranger"):
        make_entry(username=name)

    def seen(user: Any) -> set[str]:
        return {row["username"] for row in client_of(user).get("/api/v1/audit/").json()["results"]}

    assert seen(make_olga()) == {"adam", "dora", "stranger"}
    assert seen(adam) == {"adam", "dora"}
    assert seen(dora) == {"dora"}


def test_rows_are_exported_as_lines_of_json_by_the_same_filters():
    for number in range(3):
        make_entry(username="dora", status=200 + number, path="/x\n/y")
    client = client_of(make_olga())
    answer = client.get("/api/v1/audit/export.jsonl/?status=201")
    (line,) = b"".join(answer.streaming_content).decode().splitlines()
    listed = client.get("/api/v1/audit/?status=201").json()["results"]
    assert [{**json.loads(line), "at": ""}] == [{**row, "at": ""} for row in listed]
    assert client.get("/api/v1/audit/export.jsonl/?stauts=201").status_code == 400
    found = client.get("/api/v1/audit/export.jsonl/?q=DORA").streaming_content
    assert b"".join(found).count(b"\n") == 3


# -- the webhook ----------------------------------------------------------------------------------------


class Archive:
    """A real HTTP server that keeps what it is sent and answers what a test says."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answer = 204
        archive = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                archive.requests.append((self.path, dict(self.headers), body))
                self.send_response(archive.answer)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def archive(settings: Any) -> Iterator[Archive]:
    archive = Archive()
    settings.MUSTER_AUDIT_WEBHOOK = f"http://127.0.0.1:{archive.server.server_address[1]}/audit"
    settings.MUSTER_AUDIT_WEBHOOK_SECRET = "a secret of the site"
    yield archive
    archive.server.shutdown()
    archive.server.server_close()


def ids(body: bytes) -> list[int]:
    return [entry["id"] for entry in json.loads(body)["entries"]]


def test_each_row_reaches_the_archive_signed_and_in_order(archive, settings):
    for _ in range(3):
        Client().post("/api/v1/sessions/")
    rows = list(AuditEntry.objects.order_by("id").values_list("id", flat=True))
    assert deliver_audit() == 3
    ((path, headers, body),) = archive.requests
    assert (path, ids(body)) == ("/audit", rows)
    signed = headers["X-Muster-Timestamp"].encode() + b"." + body
    digest = hmac.new(b"a secret of the site", signed, "sha256").hexdigest()
    assert headers["X-Muster-Signature"] == f"sha256={digest}"
    assert json.loads(body)["entries"][0]["status"] == 401
    assert deliver_audit() == 0
    assert len(archive.requests) == 1


@pytest.mark.parametrize("status", [500, 302])
def test_rows_wait_while_the_archive_refuses_them(archive, status):
    archive.answer = status
    Client().post("/api/v1/sessions/")
    assert deliver_audit() == 0
    assert [path for path, _, _ in archive.requests] == ["/audit"]  # a redirect is not followed
    state = AuditWebhook.objects.get()
    assert (state.failures, str(status) in state.error) == (1, True)
    assert deliver_audit() == 0  # put off: nobody is asked
    assert len(archive.requests) == 1
    Client().post("/api/v1/sessions/")
    archive.answer = 200
    AuditWebhook.objects.update(next_at=timezone.now())
    assert deliver_audit() == 2
    assert ids(archive.requests[-1][2]) == sorted(ids(archive.requests[-1][2]))
    assert AuditWebhook.objects.get().failures == 0


def test_an_archive_that_is_away_costs_no_row_and_no_answer(archive):
    archive.server.shutdown()
    archive.server.server_close()
    assert Client().post("/api/v1/sessions/").status_code == 401
    assert deliver_audit() == 0
    assert AuditPending.objects.count() == 1
    assert "can't be reached" in AuditWebhook.objects.get().error


def test_what_one_worker_delivers_no_other_does(archive):
    Client().post("/api/v1/sessions/")
    assert AuditWebhook.claim(timedelta(seconds=60))
    assert deliver_audit() == 0
    AuditWebhook.objects.update(next_at=timezone.now())  # the worker died, its claim is over
    assert deliver_audit() == 1


@pytest.mark.parametrize(
    ("address", "secret"), [("https://u:p@a/", "x" * 16), ("file:///x", "x" * 16), ("https://a/", "short")]
)
def test_a_webhook_that_cannot_be_trusted_stops_the_start(settings, address, secret):
    settings.MUSTER_AUDIT_WEBHOOK, settings.MUSTER_AUDIT_WEBHOOK_SECRET = address, secret
    assert len(check_audit_webhook(None)) == 1


def test_rows_are_exported_as_csv_that_no_spreadsheet_executes():
    make_entry(username="=cmd()", target="name=x1")
    make_entry(username="dora", status=403)
    client = client_of(make_olga())
    text = b"".join(client.get("/api/v1/audit/export.csv/?status=403").streaming_content).decode()
    assert "dora" in text
    assert "cmd" not in text
    text = b"".join(client.get("/api/v1/audit/export.csv/").streaming_content).decode()
    assert "'=cmd()" in text
