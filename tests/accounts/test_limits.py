"""Asking twice starts once; asking too often is answered by 429."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts_app import limits
from accounts_app.models import ApiKey, AuditEntry, IdempotentAnswer
from accounts_app.steps import prune_idempotent_answers
from sessions_app.models import BootSession, SessionTemplate
from tasks_app.models import Task
from tests.factories import PASSWORD, make_key, make_node, make_olga, make_template, make_victor

BODY = {"operation": "reboot", "template": "sample"}
TOKEN = "/keycloak/realms/shasta/protocol/openid-connect/token"


def client_of(user: Any) -> Client:
    return Client(headers={"authorization": f"Bearer {make_key(user).token}"})


def start(client: Client, key: str, path: str = "/api/v1/sessions/", **body: Any) -> Any:
    return client.post(
        path, {**BODY, **body}, content_type="application/json", headers={"idempotency-key": key}
    )


@pytest.fixture
def olga(db: None, redis_server: Any) -> Client:
    make_template([make_node()])
    return client_of(make_olga())


def test_the_same_key_starts_once_and_answers_the_same(olga):
    first, second = start(olga, "k1"), start(olga, "k1")
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.content == first.content
    assert second["Content-Type"] == first["Content-Type"]
    assert second["Idempotent-Replayed"] == "true"
    assert BootSession.objects.count() == 1
    assert start(olga, "k2").json()["id"] != first.json()["id"]


def test_boss_door_has_it_too(olga):
    body = {"operation": "reboot", "template_name": "sample"}
    answers = [
        olga.post("/v2/sessions", body, content_type="application/json", headers={"idempotency-key": "b"})
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].content == answers[1].content
    assert BootSession.objects.count() == 1


def test_another_body_with_the_same_key_is_refused(olga):
    start(olga, "k1")
    answer = start(olga, "k1", operation="boot")
    assert (answer.status_code, answer["Content-Type"]) == (422, "application/problem+json")
    assert BootSession.objects.count() == 1


def test_keys_of_two_people_are_two(olga):
    start(olga, "k1")
    victor = client_of(make_victor())
    assert start(victor, "k1").status_code == 403


def test_what_was_refused_may_be_mended_and_sent_again(olga):
    assert start(olga, "k1", template="none").status_code == 400
    assert start(olga, "k1").status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "gr\u00fcn"])
def test_a_key_that_is_none_is_refused(olga, key):
    assert start(olga, key.encode().decode("latin-1")).status_code == 400
    assert not BootSession.objects.exists()


def test_an_old_key_counts_no_more(olga):
    start(olga, "k1")
    IdempotentAnswer.objects.update(created_at=timezone.now() - timedelta(hours=25))
    assert start(olga, "k1").status_code == 201
    assert BootSession.objects.count() == 2
    IdempotentAnswer.objects.update(created_at=timezone.now() - timedelta(hours=25))
    assert prune_idempotent_answers() == 1


def test_a_keys_secret_that_is_shown_once_is_stored_encrypted(olga):
    headers = {"idempotency-key": "k"}
    asked = [
        olga.post("/api/v1/keys/", {"scope": "read"}, content_type="application/json", headers=headers)
        for _ in range(2)
    ]
    assert asked[0].json() == asked[1].json()
    assert asked[0].json()["secret_key"] not in IdempotentAnswer.objects.get().body
    assert ApiKey.objects.filter(scope="read").count() == 1


@pytest.mark.django_db(transaction=True)
def test_in_a_race_one_wins_and_all_hear_the_same(redis_server):
    make_template([make_node()])
    token = make_key(make_olga()).token
    found: list[Any] = []
    together = threading.Barrier(4)

    def race() -> None:
        try:
            together.wait(60)
            found.append(start(Client(headers={"authorization": f"Bearer {token}"}), "race"))
        finally:
            connection.close()

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [answer.status_code for answer in found] == [201] * 4
    assert len({answer.content for answer in found}) == 1
    assert BootSession.objects.count() == 1


TASK = {"name": "t", "module": "./m", "condition": {"schedule": {"cron": "0 0 1 1 *"}}, "driver": "fake"}


def test_what_waits_for_others_is_begun_once_too(olga, monkeypatch):
    def make(name: str = "t") -> Any:
        body = {"task": {**TASK, "name": name}}
        headers = {"idempotency-key": "task"}
        return olga.post("/v1/tasks", body, content_type="application/json", headers=headers)

    meanwhile = []

    def wait(run: Any) -> Any:
        meanwhile.append(make())
        return run

    monkeypatch.setattr("tasks_app.services.wait_for_run", wait)
    assert make("no name").status_code == 400
    first, second = make(), make()
    assert (first.status_code, second.status_code) == (201, 201), first.content
    assert second.content == first.content
    assert second["Idempotent-Replayed"] == "true"
    assert [answer.status_code for answer in meanwhile] == [409]
    assert "no answer yet" in meanwhile[0].json()["error"]["message"]
    assert Task.objects.count() == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/api/v1/keys/{key}/"),
        ("DELETE", "/v2/sessiontemplates/sample"),
        ("DELETE", "/v1/sessiontemplate/sample"),
        ("POST", "/api/v1/sessions/{session}/cancel/"),
    ],
)
def test_a_body_beyond_all_bounds_is_refused_by_doors_that_read_none(olga, method, path, settings):
    session = start(olga, "k").json()["id"]
    path = path.format(key=ApiKey.objects.get().access_key, session=session)
    before = dict(state(session))
    too_long = {"CONTENT_LENGTH": str(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)}
    assert olga.generic(method, path, **too_long).status_code == 413
    assert dict(state(session)) == before
    assert olga.generic(method, path).status_code < 300
    assert dict(state(session)) != before


def state(session: str) -> dict[str, Any]:
    """Whatever one of these requests changes."""
    return {
        "keys": ApiKey.objects.filter(revoked_at=None).count(),
        "templates": SessionTemplate.objects.count(),
        "session": BootSession.objects.get(uuid=session).status,
    }


@pytest.mark.parametrize("path", ["/api/v1/me", "/v2/sessions", "/v1/tasks"])
def test_too_many_requests_of_one_key_are_429_in_the_doors_own_words(
    db, redis_server, settings, monkeypatch, path
):
    monkeypatch.setattr(limits, "clock", lambda: 1_000_000.0)  # one minute, however slow
    monkeypatch.setattr(limits, "tally", limits.Tally())
    settings.MUSTER_API_RATE = 3
    olga = make_olga()
    one, other = client_of(olga), client_of(olga)
    assert [one.get(path).status_code for _ in range(4)] == [200, 200, 200, 429]
    answer = one.get(path)
    assert 1 <= int(answer["Retry-After"]) <= 60
    body = answer.json()
    assert body["error"]["message"] if path == "/v1/tasks" else body["status"] == 429
    assert other.get(path).status_code == 200
    settings.MUSTER_API_RATE = 0
    assert one.get(path).status_code == 200


@pytest.mark.parametrize("door", ["/login", "/server/login", TOKEN])
def test_too_many_wrong_passwords_close_the_door_for_a_while(db, redis_server, door):
    make_olga()
    client = Client(headers={"accept": "text/html"})

    def tell(password: str) -> Any:
        body = {"username": "olga", "password": password, "grant_type": "password"}
        if door == "/server/login":
            return client.post(door, body, content_type="application/json")
        return client.post(door, urlencode(body), content_type="application/x-www-form-urlencoded")

    assert 429 not in [tell("wrong").status_code for _ in range(10)]
    assert tell("wrong").status_code == 429
    assert tell(PASSWORD).status_code == 429


def test_one_password_tried_on_many_names_closes_the_door_for_the_address(db, redis_server):
    make_olga()
    body = {"password": "correct horse battery staple"}

    def tell(name: str, address: str = "10.0.0.9") -> int:
        client = Client(REMOTE_ADDR=address)
        return client.post("/login", {**body, "username": name}, headers={"accept": "text/html"}).status_code

    assert {tell(f"name-{number}") for number in range(50)} == {400}
    assert tell("olga") == 429
    assert tell("olga", "10.0.0.8") == 302


def test_limits_count_on_without_redis(db, redis_server, settings, monkeypatch):
    monkeypatch.setattr(limits, "tally", limits.Tally())
    settings.MUSTER_API_RATE = 2
    olga = client_of(make_olga())
    redis_server.stop()
    monkeypatch.setattr(limits, "clock", lambda: 1_000_000.0)
    assert [olga.get("/api/v1/me").status_code for _ in range(3)] == [200, 200, 429]


def test_all_web_processes_count_together(db, redis_server, settings, monkeypatch):
    monkeypatch.setattr(limits, "clock", lambda: 1_000_000.0)
    settings.MUSTER_API_RATE = 3
    olga = client_of(make_olga())
    found = []
    for _ in range(4):
        monkeypatch.setattr(limits, "tally", limits.Tally())  # another process
        found.append(olga.get("/api/v1/me").status_code)
    assert found == [200, 200, 200, 429]


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "address"),
    [
        ([], "10.0.0.1", "1.2.3.4", "10.0.0.1"),
        (["10.0.0.0/24"], "10.0.0.1", "1.2.3.4", "1.2.3.4"),
        (["10.0.0.0/24"], "10.0.0.1", "9.9.9.9, 1.2.3.4", "1.2.3.4"),  # what stands left anybody may write
        (["10.0.0.0/24"], "10.0.0.1", "1.2.3.4, 10.0.0.7", "1.2.3.4"),
        (["10.0.0.0/24"], "8.8.8.8", "1.2.3.4", "8.8.8.8"),
        (["10.0.0.0/24"], "10.0.0.1", "", "10.0.0.1"),
        (["10.0.0.0/24"], "10.0.0.1", "<script>", "10.0.0.1"),
        (["10.0.0.0/24"], "::ffff:10.0.0.1", "2001:db8::1", "2001:db8::1"),
    ],
)
def test_behind_a_proxy_the_clients_own_address_counts(db, settings, trusted, peer, forwarded, address):
    settings.MUSTER_TRUSTED_PROXIES = trusted
    Client(REMOTE_ADDR=peer).post("/api/v1/sessions/", headers={"x-forwarded-for": forwarded})
    assert AuditEntry.objects.get().address == address


def test_the_admin_has_no_login_of_its_own(db):
    answer = Client().post("/admin/login/?next=/admin/", {"username": "olga", "password": "wrong"})
    assert (answer.status_code, answer["Location"]) == (302, "/login?next=/admin/")
