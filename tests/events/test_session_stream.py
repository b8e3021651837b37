"""GET /events/session on the wire: bytes, names, who hears what."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import Group

from accounts_app.services import revoke_key
from accounts_app.states import Role
from events_app.models import LifecycleEvent
from tests import factories
from tests.events.tell import OTHER, SESSION, tell, tell_many
from tests.events.wire import Listener, Web, bearer, data_of

pytestmark = pytest.mark.process

V7 = {"X-BackendAI-Version": "v7.20230615"}
V5 = {"X-BackendAI-Version": "v5.20191215"}


def heard(stream: Listener, count: int) -> list[tuple[str, str]]:
    """Names and session names of the first events."""
    return [(event["event"], data_of(event)["sessionName"]) for event in stream.wait_for(count)]


def test_it_sends_the_documented_bytes_and_nothing_before_the_first_event(web: Web):
    issued = factories.make_key(factories.make_olga())
    with web.listen("/events/session", bearer(issued) | V7) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream"
        assert stream.headers["cache-control"] == "no-cache"
        assert stream.headers["x-accel-buffering"] == "no"
        assert stream.headers["connection"] == "keep-alive"
        assert stream.chunked
        assert stream.raw == b""
        number = tell(access_key=issued.access_key, data={"reason": "user-requested"})
        stream.wait_for(1)
        assert stream.body == (
            b"event: session_started\r\n"
            b'data: {"reason": "user-requested", "sessionName": "mysession-01", "ownerAccessKey": "'
            + issued.access_key.encode()
            + b'", "sessionId": "'
            + SESSION.encode()
            + b'", "exitCode": null}\r\n'
            + f"id: {number}\r\n\r\n".encode()
        )
        assert stream.chunks == [stream.body]  # one chunk for each event, as the real server


def test_each_event_is_a_chunk_of_its_own_also_when_several_are_written_at_once(web: Web):
    issued = factories.make_key(factories.make_olga())
    with web.listen("/events/session", bearer(issued)) as stream:
        tell_many(5)
        stream.wait_for(5)
        assert [chunk.count(b"event: ") for chunk in stream.chunks] == [1] * 5


def test_the_session_is_named_as_the_callers_version_knows_it(web: Web):
    issued = factories.make_key(factories.make_olga())
    streams = [web.listen("/events/session", bearer(issued) | version) for version in ({}, V5, V7)]
    tell("session_terminated", data={"reason": "self-terminated", "result": "SUCCESS"})
    events = [stream.wait_for(1)[0] for stream in streams]
    for stream in streams:
        stream.close()
    assert [data_of(event)["sessionId"] for event in events] == ["mysession-01", "mysession-01", SESSION]
    for event in events:
        data = data_of(event)
        assert event["event"] == "session_terminated"
        assert (data["sessionName"], data["reason"], data["result"]) == (
            "mysession-01",
            "self-terminated",
            "SUCCESS",
        )


def test_a_heartbeat_is_a_comment_that_comes_after_fifteen_seconds(web: Web):
    issued = factories.make_key(factories.make_olga())
    with web.listen("/events/session", bearer(issued)) as stream:
        while not stream.body:
            assert stream.read_more(40)
        assert stream.body == b": ping\r\n\r\n"


@pytest.fixture
def people(web: Web) -> dict[str, Any]:
    """Keys of a user, another one of his domain, its admin, its viewer, a stranger and a superadmin."""
    ours, theirs = factories.make_domain("physics"), factories.make_domain("biology")
    users = {
        "user": factories.make_user("una", Role.USER, ours),
        "colleague": factories.make_user("carl", Role.USER, ours),
        "viewer": factories.make_user("vic", Role.VIEWER, ours),
        "admin": factories.make_user("ada", Role.ADMIN, ours),
        "stranger": factories.make_user("stan", Role.ADMIN, theirs),
        "superadmin": factories.make_olga(),
    }
    return {name: factories.make_key(user) for name, user in users.items()}


def test_everybody_hears_what_his_role_allows(web: Web, people: dict[str, Any]):
    streams = {name: web.listen("/events/session?sessionName=*", bearer(key)) for name, key in people.items()}
    tell(called="of-carl", domain="physics", user_id=people["colleague"].key.user_id)
    tell(called="of-una", domain="physics", user_id=people["user"].key.user_id)
    tell(called="elsewhere", domain="biology", user_id=people["stranger"].key.user_id)
    tell(called="last-carl", domain="physics", user_id=people["colleague"].key.user_id)
    tell(called="last-una", domain="physics", user_id=people["user"].key.user_id)
    tell(called="last-stan", domain="biology", user_id=people["stranger"].key.user_id)
    physics = ["of-carl", "of-una", "last-carl", "last-una"]
    wanted = {
        "user": ["of-una", "last-una"],
        "colleague": ["of-carl", "last-carl"],
        "viewer": physics,
        "admin": physics,
        "stranger": ["elsewhere", "last-stan"],
        "superadmin": ["of-carl", "of-una", "elsewhere", "last-carl", "last-una", "last-stan"],
    }
    for name, stream in streams.items():
        with stream:
            assert [called for _, called in heard(stream, len(wanted[name]))] == wanted[name], name


def test_a_name_belongs_to_the_key_of_the_session(web: Web, people: dict[str, Any]):
    admin, user = people["admin"], people["user"]
    own = {"domain": "physics", "user_id": admin.key.user_id}
    of_user = {"domain": "physics", "user_id": user.key.user_id, "access_key": user.access_key}
    mine = web.listen("/events/session?name=train", bearer(admin))
    theirs = web.listen(f"/events/session?name=train&ownerAccessKey={user.access_key}", bearer(admin))
    sdk = web.listen(f"/events/session?name=train&owner_access_key={user.access_key}", bearer(admin))
    tell(called="train", data={"reason": "theirs"}, **of_user)
    tell(called="other", access_key=admin.access_key, **own)
    tell(called="train", access_key=admin.access_key, data={"reason": "mine"}, **own)
    tell(called="train", data={"reason": "by hand"}, **own)
    with mine, theirs, sdk:
        assert [data_of(event)["reason"] for event in mine.wait_for(2)] == ["mine", "by hand"]
        assert [data_of(event)["reason"] for event in theirs.wait_for(1)] == ["theirs"]
        assert [data_of(event)["reason"] for event in sdk.wait_for(1)] == ["theirs"]


def test_a_uuid_wins_over_name_and_owner_and_a_slug_is_a_name(web: Web, people: dict[str, Any]):
    key = people["superadmin"]
    by_uuid = web.listen(f"/events/session?sessionId={OTHER}&name=x&ownerAccessKey=y", bearer(key))
    by_slug = web.listen("/events/session?sessionId=train", bearer(key))
    everything = web.listen("/events/session?sessionId=*&group=*", bearer(key))
    tell(called="train", access_key=key.access_key)
    tell(called="test", session=OTHER)
    with by_uuid, by_slug, everything:
        assert heard(by_uuid, 1) == [("session_started", "test")]
        assert heard(by_slug, 1) == [("session_started", "train")]
        assert len(heard(everything, 2)) == 2


def test_group_and_scope_narrow_what_is_heard(web: Web, people: dict[str, Any]):
    Group.objects.create(name="laser")
    key = people["superadmin"]
    project = web.listen("/events/session?groupName=laser", bearer(key))
    sessions = web.listen("/events/session?scope=session", bearer(key))
    kernels = web.listen("/events/session?scope=session,kernel&scope=kernel", bearer(key))
    tell(called="without")
    tell(called="within", project="laser")
    tell("kernel_started", called="kernel", project="laser")
    with project, sessions, kernels:
        assert [called for _, called in heard(project, 2)] == ["within", "kernel"]
        assert [called for _, called in heard(sessions, 2)] == ["without", "within"]
        assert [called for _, called in heard(kernels, 3)] == ["without", "within", "kernel"]


def test_a_cursor_replays_what_was_missed_and_goes_on(web: Web, people: dict[str, Any]):
    numbers = [tell(called=f"s{place}") for place in range(5)]
    key = people["superadmin"]
    header = web.listen("/events/session", bearer(key) | {"Last-Event-ID": str(numbers[1])})
    query = web.listen(f"/events/session?last_event_id={numbers[3]}", bearer(key))
    both = web.listen(
        f"/events/session?lastEventId={numbers[0]}", bearer(key) | {"Last-Event-ID": str(numbers[4])}
    )
    numbers.append(tell(called="live"))
    with header, query, both:
        assert [int(event["id"]) for event in header.wait_for(4)] == numbers[2:]
        assert [int(event["id"]) for event in query.wait_for(2)] == numbers[4:]
        assert [int(event["id"]) for event in both.wait_for(1)] == numbers[5:]


def test_a_cursor_older_than_what_is_kept_gets_a_reset_and_then_what_comes(web: Web, people: dict[str, Any]):
    numbers = [tell(called=f"s{place}") for place in range(4)]
    LifecycleEvent.objects.filter(number__lt=numbers[2]).delete()
    web.kill()
    web.start()  # what this process had read would have sufficed for a replay
    key = people["superadmin"]
    old = web.listen("/events/session", bearer(key) | {"Last-Event-ID": str(numbers[0] - 1)})
    kept = web.listen("/events/session", bearer(key) | {"Last-Event-ID": str(numbers[1])})
    beyond = web.listen("/events/session", bearer(key) | {"Last-Event-ID": str(numbers[3] + 100)})
    with old, kept, beyond:
        for stream in (old, beyond):
            reset = stream.wait_for(1)[0]
            assert (reset["event"], int(reset["id"])) == ("stream-reset", numbers[3])
        assert [int(event["id"]) for event in kept.wait_for(2)] == numbers[2:]
        new = tell(called="live")
        for stream in (old, beyond):
            assert int(stream.wait_for(2)[1]["id"]) == new


def test_a_snapshot_tells_where_each_session_stands_and_carries_one_cursor(web: Web, people: dict[str, Any]):
    tell("session_preparing", called="one")
    tell("session_started", called="one")
    tell("session_preparing", called="two", session=OTHER)
    tell("session_terminated", called="old", session="00000000-0000-0000-0000-000000000009")
    last = tell("session_creating", called="two", session=OTHER)
    key = people["superadmin"]
    with web.listen("/events/session?snapshot=1", bearer(key)) as stream:
        assert heard(stream, 2) == [("session_started", "one"), ("session_creating", "two")]
        assert [event.get("id") for event in stream.events] == [None, str(last)]
        new = tell("session_started", called="two", session=OTHER)
        assert int(stream.wait_for(3)[2]["id"]) == new
    with web.listen("/events/session?snapshot=1", bearer(key) | {"Last-Event-ID": str(last)}) as stream:
        assert [int(event["id"]) for event in stream.wait_for(1)] == [new]


def problem(web: Web, path: str, headers: dict[str, str], **options: Any) -> tuple[int, dict[str, Any]]:
    """Status and body of a refusal, which is a problem document."""
    status, answered, body = web.ask(path, headers=headers, **options)
    assert answered["content-type"] == "application/problem+json; charset=utf-8"
    return status, json.loads(body)


def test_what_is_wrong_is_said_in_the_documented_form(web: Web, people: dict[str, Any]):
    types = "https://api.backend.ai/probs/"
    admin, user = bearer(people["admin"]), bearer(people["user"])
    nobody = bearer(factories.make_key(factories.make_nora()))
    parameters = {
        "type": f"{types}invalid-api-params",
        "title": "Missing or invalid API parameters.",
        "msg": "Input validation error",
    }
    forbidden = {"type": f"{types}generic-forbidden", "title": "Forbidden operation."}
    assert problem(web, "/events/session?foo=1", admin) == (
        400,
        parameters | {"data": {"foo": "foo is not allowed key"}},
    )
    assert problem(web, "/events/session?scope=pod", admin) == (
        400,
        parameters | {"data": {"scope": "value doesn't match any variant"}},
    )
    for bad in ("last_event_id=x", "last_event_id=-1", "snapshot=maybe", "name=%00"):
        assert problem(web, f"/events/session?{bad}", admin)[0] == 400, bad
    other = people["colleague"].access_key
    assert problem(web, f"/events/session?ownerAccessKey={other}", user) == (403, forbidden)
    assert problem(web, "/events/session", nobody) == (403, forbidden)
    assert problem(web, "/events/session?group=nowhere", admin) == (
        404,
        {"type": f"{types}object-not-found", "title": "No such user group (or project)."},
    )
    assert problem(web, "/events/session", admin | {"X-BackendAI-Version": "next"}) == (
        400,
        {"type": f"{types}generic-bad-request", "title": "Bad request.", "msg": "Unsupported API version."},
    )
    assert problem(web, "/events/nothing", admin) == (
        404,
        {"type": f"{types}url-not-found", "title": "Unknown URL path.", "data": "/events/nothing"},
    )
    status, headers, body = web.ask("/events/session", "POST", b"{}", admin)
    assert (status, headers["allow"]) == (405, "GET,OPTIONS")
    assert json.loads(body) == {
        "type": f"{types}method-not-allowed",
        "title": "HTTP Method Not Allowed.",
    }


def test_a_body_replaces_the_query(web: Web, people: dict[str, Any]):
    key = bearer(people["superadmin"])
    assert problem(web, "/events/session?name=a", key, body=b"[1]")[0] == 400
    assert problem(web, "/events/session?name=a", key, body=b'{"foo": 1}')[0] == 400
    for text in (rb"\ud800", rb"\u0000"):
        assert problem(web, "/events/session", key, body=b'{"name": "' + text + b'"}')[0] == 400
    with web.listen("/events/session?name=a", key, body=b'{"scope": ["session", "kernel"]}') as stream:
        tell(called="anything")
        assert heard(stream, 1) == [("session_started", "anything")]


def test_other_origins_may_ask_without_credentials(web: Web, people: dict[str, Any]):
    origin = {"Origin": "https://elsewhere.example"}
    status, headers, _ = web.ask(
        "/events/session", "OPTIONS", headers=origin | {"Access-Control-Request-Headers": "x-a"}
    )
    assert status == 200
    assert headers["access-control-allow-origin"] == "*"
    assert headers["access-control-allow-headers"] == "x-a"
    assert "access-control-allow-credentials" not in headers
    with web.listen("/events/session", bearer(people["admin"]) | origin) as stream:
        assert stream.headers["access-control-allow-origin"] == "*"
    assert web.ask("/events/session", headers=origin)[0] == 401


def test_who_loses_his_rights_loses_the_stream(web: Web, people: dict[str, Any]):
    user = people["user"]
    kept = web.listen("/events/session", bearer(people["admin"]))
    with kept, web.listen("/events/session", bearer(user)) as stream:
        revoke_key(key=user.key, actor=user.key.user)
        stream.read_to_end()
        assert stream.complete
        assert web.ask("/events/session", headers=bearer(user))[0] == 401
        tell(domain="physics", called="still")
        assert heard(kept, 1) == [("session_started", "still")]
