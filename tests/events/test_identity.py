"""Who listens: bearer tokens, signatures, the login cookie and the cookie mode; the same for DRF's views."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
from dateutil import parser
from django.contrib.auth.hashers import PBKDF2PasswordHasher

from accounts_app import signatures
from accounts_app.models import ApiKey, User
from accounts_app.services import revoke_key
from accounts_app.states import Role, Verb
from events_app.services import finish_background_task, start_background_task
from tests import factories
from tests.events.tell import tell
from tests.events.wire import Web, bearer, data_of

pytestmark = pytest.mark.process

VECTOR_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.mark.parametrize(
    ("host", "target", "date", "version", "signature"),
    [
        (
            "127.0.0.1:8000",
            "/events/session?sessionName=mysession-01&scope=*",
            "2026-11-22T02:40:00.123456+00:00",
            "v7.20230615",
            "1e1bfae5bc37eb15f0db0e481be95dcdf0949594a29dd93237500c77f5b44900",
        ),
        (
            "api.example.com",
            "/events/background-task?task_id=0d6e1b52-4b5a-4f44-8b7a-3a7d7d3f1c11",
            "2026-11-22T11:40:00+09:00",
            "v5.20191215",
            "875ed98112fa7c936f183f22a0057e742de649a9e375cbd55d95280437eed5ed",
        ),
    ],
)
def test_signatures_are_those_of_the_real_client(
    host: str, target: str, date: str, version: str, signature: str
):
    request = signatures.SignedRequest("GET", target, {"host": host, "x-backendai-version": version})
    made = signatures.sign(
        request, secret=VECTOR_SECRET, date=parser.parse(date), date_text=date, method="sha256"
    )
    assert made == signature


def signed(web: Web, issued: Any, path: str, date: str = "", **changes: str) -> dict[str, str]:
    """Headers of a request as Backend.AI's client signs it."""
    date = date or datetime.now(UTC).isoformat()
    version = changes.pop("version", "v7.20230615")
    version_header = changes.pop("version_header", "X-BackendAI-Version")
    method = changes.pop("method", "sha256")
    headers = {"host": f"127.0.0.1:{web.port}", version_header.lower(): version}
    made = signatures.sign(
        signatures.SignedRequest("GET", path, headers),
        secret=changes.pop("secret", issued.secret_key),
        date=parser.parse(date) if parser.parse(date).tzinfo else parser.parse(date).replace(tzinfo=UTC),
        date_text=date,
        method=method,
    )
    credential = f"{issued.access_key}:{made}"
    return {
        "Date": date,
        version_header: version,
        "Authorization": f"BackendAI signMethod=HMAC-{method.upper()}, credential={credential}",
    } | changes


def test_a_signed_request_is_who_holds_the_key(web: Web):
    issued = factories.make_key(factories.make_user("una", Role.USER))
    now = datetime.now(UTC)
    dates = [
        now.isoformat(),
        format_datetime(now, usegmt=True),
        now.strftime("%Y%m%dT%H:%M:%SZ"),
        now.astimezone(timezone(timedelta(hours=9))).isoformat(),
        (now - timedelta(minutes=14)).isoformat(),
    ]
    # What Django would encode anew must be signed as it is sent.
    path = "/events/session?sessionName=%2A&scope=*"
    for date in dates:
        with web.listen(path, signed(web, issued, path, date)) as stream:
            assert stream.status == 200, date
    legacy = signed(web, issued, path, version_header="X-Sorna-Version", method="sha512")
    with web.listen(path, legacy) as stream:
        assert stream.status == 200
        tell(user_id=issued.key.user_id)
        assert data_of(stream.wait_for(1)[0])["sessionName"] == "mysession-01"


def test_each_fault_of_a_signature_has_its_answer(web: Web):
    issued = factories.make_key(factories.make_user("una", Role.USER))
    path = "/events/session"
    good = signed(web, issued, path)
    late = (datetime.now(UTC) - timedelta(minutes=16)).isoformat()
    mistakes: dict[str, tuple[int, dict[str, str | None]]] = {
        "Unauthorized access": (401, dict.fromkeys(good)),
        "Signature mismatch": (401, signed(web, issued, path, secret="wrong")),
        "Date/time sync error": (400, signed(web, issued, path, late)),
        "Malformed authorization header": (400, {"Authorization": "BackendAI"}),
        "Invalid authorization type name": (400, {"Authorization": "Basic abc"}),
        "Missing or malformed authorization parameters": (400, {"Authorization": "BackendAI foo"}),
        "API version missing in request headers": (400, {"X-BackendAI-Version": None}),
    }
    for message, (status, changes) in mistakes.items():
        headers = {name: value for name, value in {**good, **changes}.items() if value is not None}
        got, _, body = web.ask(path, headers=headers)
        assert (got, json.loads(body)["msg"]) == (status, message)
    for date in ("", "yesterday or so", "9" * 40):
        got, _, body = web.ask(path, headers={**good, "Date": date})
        assert (got, json.loads(body)["msg"]) == (400, "Date/time sync error")
    # A signature is for one address only.
    assert web.ask("/events/session?scope=*", headers=good)[0] == 401
    for unusable in (_revoked, _inactive, _unsigned):
        key = unusable()
        got, _, body = web.ask(path, headers=signed(web, key, path))
        assert (got, json.loads(body)["msg"]) == (401, "Access key not found"), unusable


def _revoked() -> Any:
    issued = factories.make_key(factories.make_user("ron"))
    revoke_key(key=issued.key, actor=issued.key.user)
    return issued


def _inactive() -> Any:
    issued = factories.make_key(factories.make_user("ina"))
    type(issued.key.user).objects.filter(pk=issued.key.user_id).update(is_active=False)
    return issued


def _unsigned() -> Any:
    return factories.make_key(factories.make_user("uma"), signs=False)


def test_a_signed_request_opens_the_other_doors_too(web: Web):
    issued = factories.make_key(factories.make_olga())
    path = "/apis/bos/v1/session?limit=%2A"
    assert web.ask(path, headers=signed(web, issued, path))[0] != 401
    assert web.ask(path, headers=signed(web, issued, path, secret="wrong"))[0] == 401
    assert web.ask(path, headers=signed(web, issued, path) | {"Date": "x"})[0] == 400
    assert ApiKey.objects.get(pk=issued.key.pk).last_used_at is not None


def test_a_key_needs_the_right_to_read(web: Web):
    olga = factories.make_olga()
    assert web.ask("/events/session", headers={"Authorization": "Bearer mst_A_b"})[0] == 401
    assert web.ask("/events/session", headers={"Authorization": "Bearer"})[0] == 401
    for scope in (Verb.READ, Verb.OPERATE):
        key = factories.make_key(olga, scope=scope)
        with web.listen("/events/session", {"X-API-KEY": key.token}) as stream:
            assert stream.status == 200


def make_person(name: str) -> User:
    """A user whose password is stored as in service: the web server does not know the tests' quick way."""
    user = factories.make_user(name, Role.USER)
    user.password = PBKDF2PasswordHasher().encode(factories.PASSWORD, "salt")
    user.save()
    return user


def log_in(web: Web, username: str, password: str = factories.PASSWORD) -> tuple[int, Any, str]:
    """Status, body and cookie of POST /server/login."""
    body = json.dumps({"username": username, "password": password}).encode()
    status, headers, answer = web.ask("/server/login", "POST", body, {"Content-Type": "application/json"})
    return status, json.loads(answer), headers.get("set-cookie", "").split(";")[0]


def test_cookie_mode_hears_what_the_person_may_under_func_and_beside_it(web: Web):
    user = make_person("una")
    key = factories.make_key(user)
    status, body, cookie = log_in(web, "una")
    assert (status, body) == (
        200,
        {
            "authenticated": True,
            "data": {"access_key": key.access_key, "role": "user", "status": "active"},
        },
    )
    paths = ("/func/events/session?name=*", "/events/session")
    streams = [web.listen(path, {"Cookie": cookie}) for path in paths]
    tell(called="foreign")
    tell(called="own", user_id=user.pk)
    for stream in streams:
        with stream:
            assert data_of(stream.wait_for(1)[0])["sessionName"] == "own"
    assert web.ask("/func/events/session", headers=bearer(key))[0] == 401
    status, _, body = web.ask("/func/events/session")
    assert (status, json.loads(body)["msg"]) == (401, "Unauthorized access")
    assert web.ask("/server/logout", "POST", headers={"Cookie": cookie})[0] == 201
    assert web.ask("/events/session", headers={"Cookie": cookie})[0] == 401


def test_browsers_in_cookie_mode_get_the_new_names_of_background_tasks(web: Web):
    user = make_person("una")
    task = start_background_task(kind="test", owner=user)
    finish_background_task(task.pk, status="done")
    cookie = {"Cookie": log_in(web, "una")[2]}
    for path, name in (("/func/events", "bgtask_done"), ("/events", "task_done")):
        _, _, body = web.ask(f"{path}/background-task?task_id={task.pk}", headers=cookie)
        assert body.startswith(f"event: {name}\r\n".encode())


def test_logging_in_says_what_is_wrong_and_slows_down_who_guesses(web: Web):
    make_person("una")
    status, body, cookie = log_in(web, "una", "wrong")
    assert (status, body["authenticated"], cookie) == (200, False, "")
    assert set(body["data"]) == {"type", "title", "details"}
    for bad in (b"{}", b"[", b'{"username": 1, "password": "x"}'):
        assert web.ask("/server/login", "POST", bad, {"Content-Type": "application/json"})[0] == 400
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert web.ask("/server/login", "POST", b"username=una&password=x", form)[0] == 400
    for _ in range(9):
        assert log_in(web, "una", "wrong")[0] == 200
    assert log_in(web, "una")[0] == 429
    assert log_in(web, "nobody-else", "wrong")[0] == 200


def test_login_check_names_the_person_but_not_the_cookie(web: Web):
    make_person("una")
    cookie = log_in(web, "una")[2]
    _, _, body = web.ask("/server/login-check", "POST", headers={"Cookie": cookie})
    told = json.loads(body)
    assert told["authenticated"] is True
    assert cookie.split("=")[1] not in body.decode()
    again = {"Cookie": cookie, "Content-Type": "application/json"}
    assert web.ask("/server/login", "POST", b'{"username": "una", "password": "x"}', again)[0] == 400
    _, _, body = web.ask("/server/login-check", "POST")
    assert json.loads(body)["authenticated"] is False


def test_the_root_tells_programs_the_version_and_shows_people_a_page(web: Web):
    for path, headers in (("/", {}), ("/", {"Accept": "*/*"}), ("/func/", {"Accept": "text/html"})):
        status, answered, body = web.ask(path, headers=headers)
        assert (status, answered["content-type"]) == (200, "application/json")
        assert json.loads(body)["version"] == "v7.20230615"
    status, answered, _ = web.ask("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert status == 302
    assert answered["location"].startswith("/login")
