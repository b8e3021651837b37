"""Every request that would change something leaves one row that nobody can change."""

from __future__ import annotations

import importlib
import uuid
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import Client

from accounts_app.models import AuditEntry, Unchangeable
from accounts_app.states import Role
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


def test_rows_are_exported_as_csv_that_no_spreadsheet_executes():
    make_entry(username="=cmd()", target="name=x1")
    make_entry(username="dora", status=403)
    client = client_of(make_olga())
    text = b"".join(client.get("/api/v1/audit/export.csv/?status=403").streaming_content).decode()
    assert "dora" in text
    assert "cmd" not in text
    text = b"".join(client.get("/api/v1/audit/export.csv/").streaming_content).decode()
    assert "'=cmd()" in text
