"""What a hostile client sends on the wire, against a real web process: refused in each door's own words,
bounded in memory and time, and others are served meanwhile."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher

from accounts_app.states import Role
from tests.accounts.hostile import Wire, ask, chunks, dribble, head
from tests.base import RedisServer, wait_until
from tests.events.wire import Web
from tests.factories import PASSWORD, make_key, make_node, make_template, make_user

pytestmark = pytest.mark.django_db(transaction=True)

SECONDS = 4  # in which this process wants a request
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def _process(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    limits = {"MUSTER_REQUEST_SECONDS": str(SECONDS), "MUSTER_STREAMS_PER_USER": "3"}
    web = Web(tmp_path_factory.mktemp("hostile"), **limits)
    yield web
    if web.process is not None:
        web.kill()
    assert "Traceback" not in web.said, web.said[web.said.index("Traceback") :][:5000]


@pytest.fixture
def web(transactional_db: None, redis_server: RedisServer, _process: Web) -> Web:
    """One web process for all of these tests: none of them may bring it down."""
    if _process.process is None:
        _process.start()
    assert _process.process is not None
    assert _process.process.poll() is None, _process.said
    return _process


@pytest.fixture
def key(transactional_db: None) -> dict[str, str | bytes]:
    """Olga's, who may do everything."""
    make_template([make_node()])
    olga = make_user("olga", Role.SUPERADMIN)
    # The process does not know the hash that tests use.
    olga.password = PBKDF2PasswordHasher().encode(PASSWORD, "salt", 1000)
    olga.save()
    return {"Authorization": f"Bearer {make_key(olga).token}"}


def worded(path: str, reply: Any) -> bool:
    """Whether a refusal is in the words of the API that was asked."""
    if path.startswith("/v1/tasks"):
        return isinstance(reply.json["error"]["message"], str)
    if path.startswith(("/login", "/sessions/", "/admin/")):
        return reply.header("content-type").startswith("text/html")
    if path.startswith("/v1/session") and isinstance(reply.json, str):
        return True  # BOS v1 also says no by a text
    kind = reply.header("content-type")
    return kind.startswith("application/problem+json") and bool(reply.json["title"])


# -- paths and headers ---------------------------------------------------------------------------------

TARGETS: list[bytes] = [
    b"/../../etc/passwd", b"/static/../../config/settings.py", b"/static/%2e%2e/%2e%2e/config/settings.py",
    b"/static/..%2f..%2f..%2fetc/passwd", b"/static/..%5c..%5cconfig/settings.py", b"//etc/passwd",
    b"/%00", b"/static/%00", b"/v2/sessions/%00", b"/v2/components/%00", b"/v2/sessiontemplates/%00",
    b"/v1/session/%00", b"/v1/sessiontemplate/%00", b"/v1/tasks/%00", b"/v1/status/tasks/%00",
    b"/api/v1/nodes/%00/", b"/api/v1/bmcs/%00/", b"/api/v1/groups/%00/", b"/api/v1/sessions/%00/",
    b"/api/v1/tasks/%00/", b"/api/v1/tasks/%00/state", b"/api/v1/workflows/%00", b"/api/v1/runtimes/%00",
    b"/api/v1/runtime/workflow/%00/action/status", b"/nodes/%00/", b"/workflows/%00/",
    b"/api/v1/nodes/%ff%fe/", b"/v2/components/%ff", b"/v1/tasks/%c0%ae%c0%ae", b"/api/v1/nodes/..%2fkeys/",
    b"/v2/sessions/%2e%2e%2fsessions", b"/%0d%0aX-Evil:%20yes", b"/events/%0d%0aX-Evil:%20yes", b"/\xff",
    b"/v2/sessions/" + b"a" * 8000, b"/" + b"a" * 15000, b"/" + b"a" * 40000, b"*",
    b"/search?q=%00", b"/nodes/?q=%00&node=%ff", b"/sessions/?q=%00", b"/tasks/?q=%00", b"/workflows/?q=%00",
    b"/activity/?q=%00&name=%00", b"/activity/audit/?username=%00&door=%00", b"/api/v1/audit/?target=%00",
    b"/api/v1/nodes/?name=%00", b"/api/v1/keys/?scope=%00", b"/api/v1/sessions/?name=%00",
    b"/v2/sessions?status=%00&min_age=%ff", b"/v2/components?ids=%00", b"/v2/components?session=%00",
    b"/v1/status/tasks?status=%00", b"/apis/bss/boot/v1/bootscript?name=%00",
    b"/apis/bss/boot/v1/bootscript?mac=%ff&nid=%00", b"/events/session?sessionName=%00",
    b"/events/background-task?task_id=%00", b"/events/stream?channel=%00", b"/search?q=" + b"a" * 15000,
    b"/api/v1/nodes/?limit=99999999999999999999999999&offset=99999999999999999999999999999999999",
    b"/api/v1/nodes/?offset=9223372036854775807", b"/v2/components?limit=" + b"9" * 5000,
    b"/api/v1/task-runs/99999999999999999999999999/", b"/tasks/?page=99999999999999999999999999999",
    b"/nodes/?page=99999999999999999999999999999", b"/api/v1/audit/?status=99999999999999999999999999",
    b"/activity/?before=99999999999999999999999999", b"/api/v1/audit/?since=9999-99-99T99:99:99Z",
]  # fmt: skip


def test_no_path_and_no_query_leads_out_or_to_an_error(web, key):
    for target in TARGETS:
        reply = ask(web.port, "GET", target, headers=key)
        assert reply.status < 500, (target, reply)
        assert reply.status or reply.closed, target
        assert not reply.header("x-evil"), target
        assert b"INSTALLED_APPS" not in reply.body, target
        assert b"root:" not in reply.body, target


def test_as_a_person_pages_are_as_hard(web, key):
    cookie = login(web)
    for target in TARGETS:
        reply = ask(web.port, "GET", target, headers={"Cookie": cookie, "Accept": "text/html"})
        assert reply.status < 500, (target, reply)


def login(web: Web) -> str:
    body = json.dumps({"username": "olga", "password": PASSWORD}).encode()
    reply = ask(web.port, "POST", "/server/login", body, {"Content-Type": "application/json"})
    assert reply.json["authenticated"], reply
    return next(value for name, value in reply.headers if name == "set-cookie" and "sessionid" in value)


HEADERS: list[tuple[str, bytes]] = [
    ("X-Request-ID", b"a\rX-Evil: yes"), ("X-Request-ID", b"<script>"),
    ("Idempotency-Key", b"a\nX-Evil: yes"),
    ("Idempotency-Key", b"\x00"), ("Idempotency-Key", b"a" * 8000), ("Cray-Tenant-Name", b"\x00"),
    ("Cray-Tenant-Name", b"\xff\xfe"), ("Cray-Tenant-Name", b"a" * 8000), ("Cookie", b"sessionid=\x00"),
    ("Cookie", b'sessionid="\\000aaaaaaaaaaaa"'),
    ("Cookie", b"sessionid=" + b"a" * 8000), ("Cookie", b"=;=;\xff"), ("Authorization", b"Bearer \xff\xfe"),
    ("Authorization", b"Bearer mst_A_\x00"), ("Authorization", b"Bearer " + b"a" * 9000),
    ("Authorization", b"BackendAI signMethod=HMAC-SHA256, credential=\xff:\xff"), ("X-API-KEY", b"mnt_\xff"),
    ("Host", b"evil.example"), ("Host", b"a b"), ("Host", b"127.0.0.1:99999999"), ("Accept", b"\xff/\xff"),
    ("Accept", b"a/b;" * 2000), ("Last-Event-ID", b"\xff"), ("Last-Event-ID", b"9" * 5000),
    ("Date", b"\xff"), ("Content-Type", b"\xff"), ("Content-Length", b"-1"), ("Content-Length", b"9" * 50),
    ("Transfer-Encoding", b"gzip"), ("Range", b"bytes=0-,1-,2-"), ("If-Modified-Since", b"\xff" * 100),
    ("If-None-Match", b'"' * 1000), ("X-Forwarded-For", b"\xff, a, 1.2.3"), ("X-Forwarded-Proto", b"\xff"),
    ("HX-Request", b"true\xff"), ("HX-Current-URL", b"\xff"), ("Upgrade", b"websocket"), ("Origin", b"\xff"),
    ("Expect", b"100-continue, \xff"), ("Connection", b"\xff"),
]  # fmt: skip
ASKED = ("/api/v1/me", "/v2/sessions", "/v1/tasks", "/events/stream?channel=\xff", "/events/session",
         "/login", "/static/app.css", "/api/v1/nodes/", "/apis/bss/boot/v1/bootscript?name=x")  # fmt: skip


def test_no_header_leads_to_an_error_or_into_the_answer(web, key):
    for name, value in HEADERS:
        for path in ASKED:
            with Wire(web.port) as wire:
                wire.send(head("GET", path.encode("latin-1"), {"Connection": "close", **key, name: value}))
                reply = wire.read_head()
            assert reply.status < 500, (name, value, path, reply)
            assert not reply.header("x-evil"), (name, value, path)
            assert value.decode("latin-1") not in reply.header("x-request-id"), (name, value, path)


def test_where_a_login_leads_to_is_never_elsewhere(web, key):
    page = ask(web.port, "GET", "/login")
    cookie = page.header("set-cookie").partition(";")[0]
    token = page.body.partition(b'name="csrfmiddlewaretoken" value="')[2].partition(b'"')[0]
    for next_ in (b"//evil.example", b"https://evil.example/", b"/%0d%0aX-Evil:%20yes", b"/\\evil.example"):
        password = PASSWORD.encode().replace(b" ", b"+")
        body = b"csrfmiddlewaretoken=" + token + b"&username=olga&password=" + password
        kind = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie}
        reply = ask(web.port, "POST", b"/login?next=" + next_, body + b"&next=" + next_, kind)
        assert reply.status == 302, reply
        assert reply.header("location").startswith("/")
        assert not reply.header("location").startswith(("//", "/\\")), next_
        assert not reply.header("x-evil"), next_


def test_a_client_cannot_say_where_the_application_lies(web, key):
    assert ask(web.port, "GET", "/x/metrics", headers={**key, "Daphne-Root-Path": "/x"}).status == 404
    upgrade = {"Connection": "Upgrade, close", "Upgrade": "websocket"}
    reply = ask(web.port, "GET", "/api/v1/me", headers={**key, **upgrade})
    assert reply.status == 200, reply


# -- bodies ------------------------------------------------------------------------------------------------

TASK = {"name": "t", "module": "./m", "condition": {"schedule": {"cron": "* * * * *"}}, "enabled": False}
SERVICE = {"name": "s", "image": "a:1", "replicas": 1}
BODIES: list[tuple[str, str, Any]] = [
    ("POST", "/api/v1/sessions/", {"operation": "boot", "template": "sample"}),
    ("POST", "/api/v1/sessions/preview/", {"operation": "boot", "template": "sample", "limit": "x"}),
    ("POST", "/api/v1/nodes/", {"name": "x9c0s0b0n0", "role": "Compute", "groups": [], "nid": 7}),
    ("POST", "/api/v1/bmcs/", {"name": "b", "kind": "fake", "address": "", "settings": {"latency": 1}}),
    ("POST", "/api/v1/groups/", {"name": "g", "description": "d"}),
    ("POST", "/api/v1/keys/", {"name": "k", "scope": "read", "expires_at": "2030-01-01T00:00:00Z"}),
    ("POST", "/api/v1/workflows", {"name": "w", "runtime": "fake", "services": [SERVICE]}),
    ("POST", "/api/v1/runtimes", {"name": "r", "kind": "fake", "settings": {}}),
    ("POST", "/v2/sessions", {"operation": "boot", "template_name": "sample", "limit": "x"}),
    ("PUT", "/v2/sessiontemplates/t", {"description": "d", "boot_sets": {"c": {"path": "p", "type": "s3",
     "node_list": ["x1000c0s0b0n0"], "kernel_parameters": "k"}}}),
    ("PATCH", "/v2/components/x1000c0s0b0n0", {"error": "e", "retry_policy": 3, "enabled": True}),
    ("PATCH", "/v2/options", {"logging_level": "INFO", "max_boot_wait_time": 100}),
    ("POST", "/v2/applystaged", {"xnames": ["x1000c0s0b0n0"]}),
    ("POST", "/v1/session", {"operation": "boot", "templateName": "sample", "limit": "x"}),
    ("POST", "/v1/sessiontemplate", {"name": "t1", "description": "d", "boot_sets": {}}),
    ("POST", "/v1/tasks", {"task": TASK}),
    ("POST", "/server/login", {"username": "olga", "password": "x"}),
]  # fmt: skip
DEEP = 100_000
VALUES = [
    '"a\\u0000b"', '"\\ud800"', "NaN", "1e400", "9" * 25, "9" * 6000, '"' + "x" * 100_000 + '"',
    "[" * 200 + "]" * 200, '"\\r\\nX-Evil: yes"', "[]", "{}",
]  # fmt: skip
WHOLE: list[tuple[bytes, dict[str, str | bytes]]] = [
    (b"[" * DEEP + b"]" * DEEP, {}), (b'{"a":' * DEEP + b"1" + b"}" * DEEP, {}), (b"[" * DEEP, {}), (b"", {}),
    (b"\xff\xfe\x00", {}), ('{"a": 1}'.encode("utf-16"), {}), (b'\xef\xbb\xbf{"a": 1}', {}),
    (b'{"a": "\xff"}', {}), (b"null", {}), (b"[]", {}), (b'"x"', {}), (b"9" * 6000, {}), (b"{" * 3, {}),
    (b"a=b", {"Content-Type": "text/plain"}), (b"<a/>", {"Content-Type": "application/xml"}),
    (b"{}", {"Content-Type": "application/json; charset=utf-7"}), (b"{}", {"Content-Type": ""}),
    (b"{}", {"Content-Type": "application/json; charset=no-such"}), (b"a=1", {"Content-Type":
     "application/x-www-form-urlencoded"}), (b"--x\r\n", {"Content-Type": "multipart/form-data; boundary=x"}),
    (gzip.compress(b'{"a": "' + b"x" * 50_000_000 + b'"}'), {"Content-Encoding": "gzip"}),
]  # fmt: skip


def places(body: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where values stand in a document."""
    if isinstance(body, dict | list):
        for name, value in body.items() if isinstance(body, dict) else enumerate(body):
            yield (*path, name)
            yield from places(value, (*path, name))


def text_with(body: Any, place: tuple[Any, ...], value: str) -> bytes:
    """The document with a text of JSON at one place, and the same member twice."""
    found = json.loads(json.dumps(body))
    inner = found
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = "@@"
    return json.dumps(found).replace('"@@"', value).encode()


def test_no_body_leads_to_an_error(web, key):
    kind = {"Content-Type": "application/json", **key}
    wrong = []
    with Wire(web.port) as wire:
        for method, path, body in BODIES:
            texts: list[tuple[bytes, dict[str, str | bytes]]] = [*WHOLE]
            texts += [(text_with(body, place, value), {}) for place in places(body) for value in VALUES]
            double = json.dumps(body)[:-1] + ", " + json.dumps(body)[1:]
            for text, more in [*texts, (double.encode(), {})]:
                headers = {**kind, "Content-Length": str(len(text)), **more}
                assert wire.send(head(method, path.encode(), headers) + text), (path, text[:200])
                reply = wire.read()
                assert reply.status, (method, path, text[:200])
                bad = reply.status >= 500 or reply.header("x-evil")
                if bad or (reply.status >= 400 and not worded(path, reply)):
                    wrong.append(f"{method} {path} {text[:200]!r}: {reply.status} {reply.body[:200]!r}")
    assert not wrong, "\n".join(wrong)


LARGE = [
    ("POST", "/api/v1/sessions/"), ("POST", "/v2/sessions"), ("POST", "/v1/session"), ("POST", "/v1/tasks"),
    ("POST", "/server/login"), ("POST", "/login"), ("POST", "/api/v1/runtime/workflow/w/action/run"),
    ("PATCH", "/v2/components"), ("POST", "/api/v1/tasks/t/state"), ("GET", "/events/session"),
    ("POST", "/sessions/start"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), LARGE)
def test_a_body_of_100_megabytes_is_refused_before_it_is_sent(web, key, method, path):
    assert web.process is not None
    process = psutil.Process(web.process.pid)
    before = process.memory_info().rss
    form = path.startswith(("/login", "/sessions/"))
    kind = "application/x-www-form-urlencoded" if form else "application/json"
    headers = {**key, "Content-Type": kind, "Content-Length": str(100 * MEGABYTE), "Expect": "100-continue"}
    with Wire(web.port) as wire:
        wire.send(head(method, path.encode(), headers))
        reply = wire.read()
    assert 400 <= reply.status < 500, reply
    assert worded(path, reply), reply
    assert reply.closed
    del headers["Content-Length"], headers["Expect"]
    with Wire(web.port) as wire:
        wire.send(head(method, path.encode(), {**headers, "Transfer-Encoding": "chunked"}))
        for sent, chunk in enumerate(chunks(MEGABYTE)):
            if wire.answered() or not wire.send(chunk):
                break
            assert sent < 200, "it takes more and more"
        reply = wire.read()
    assert reply.closed
    assert reply.status == 0 or 400 <= reply.status < 500, reply
    assert process.memory_info().rss - before < 100 * MEGABYTE


def test_a_form_of_a_million_fields_is_refused(web, key):
    cookie = "csrftoken=" + "a" * 32  # so that the form is read for its token
    part = b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n"
    for body, kind in (
        (b"a&" * 1_000_000, "application/x-www-form-urlencoded"),
        (part * 100_000, "multipart/form-data; boundary=x"),
    ):
        reply = ask(web.port, "POST", "/login", body, {"Content-Type": kind, "Cookie": cookie})
        assert reply.status == 400, reply


# -- time --------------------------------------------------------------------------------------------------


def test_who_dribbles_is_hung_up_on_and_others_are_served_meanwhile(web, key):
    body = head("POST", b"/v2/sessions", {**key, "Content-Length": "100000"}) + b"x" * 100_000
    with Wire(web.port) as first, Wire(web.port) as second:
        second.send(body[:400])
        idle = [Wire(web.port) for _ in range(300)]
        try:
            began = time.monotonic()
            took = dribble(first, body, 0.1, 60)
            assert took < 60
            assert took >= SECONDS - 1
            wait_until(lambda: not second.is_open(), what="the one who sent half of a request")
            assert time.monotonic() - began < 90
            assert ask(web.port, "GET", "/healthz").status == 200
            assert ask(web.port, "GET", "/api/v1/me", headers=key).status == 200
        finally:
            for wire in idle:
                wire.socket.close()


def test_a_slow_reader_of_a_stream_is_no_slow_sender(web, key):
    """The time is for requests: a stream that was asked for in time stays open."""
    with Wire(web.port) as wire:
        wire.send(head("GET", b"/events/session?sessionName=*", key))
        assert wire.read_head().status == 200
        ended = time.monotonic() + SECONDS + 2
        wait_until(lambda: time.monotonic() > ended, what="the time of a request to be over")
        assert wire.is_open()


# -- streams -----------------------------------------------------------------------------------------------


def test_what_stands_in_a_name_does_not_become_an_event(web, key):
    with Wire(web.port) as wire:
        wire.send(head("GET", b"/events/stream?channel=sessions&channel=nodes", key))
        assert wire.read_head().status == 200
        evil = "a\n\nevent: evil\ndata: {}\r\revent: evil\rdata: {}\u2028event: evil"
        body = json.dumps({"error": evil}).encode()
        kind = {**key, "Content-Type": "application/json"}
        assert ask(web.port, "PATCH", "/v2/components/x1000c0s0b0n0", body, kind).status == 200
        asked = json.dumps({"operation": "boot", "template": "sample"}).encode()
        assert ask(web.port, "POST", "/api/v1/sessions/", asked, kind).status == 201
        said = b""
        while b"session_enqueued" not in said:
            said += wire.socket.recv(65536)
        lines = said.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        assert b"event: evil" not in lines


def test_one_person_holds_so_many_streams_and_no_more(web, key):
    path = b"/events/session?sessionName=*"
    held = [Wire(web.port) for _ in range(3)]
    try:
        for wire in held:
            wire.send(head("GET", path, key))
            assert wire.read_head().status == 200
        reply = ask(web.port, "GET", path, headers=key)
        assert (reply.status, worded("/events", reply)) == (429, True)
        held.pop().socket.close()
        wait_until(lambda: opens(web, path, key), what="the place of the one who left")
    finally:
        for wire in held:
            wire.socket.close()


def opens(web: Web, path: bytes, key: dict[str, str | bytes]) -> bool:
    with Wire(web.port) as wire:
        wire.send(head("GET", path, key))
        return wire.read_head().status == 200
