"""GET /events/stream?channel=...: django-eventstream's streams over the event table."""

from __future__ import annotations

import contextlib
import json
from typing import Any
from urllib.parse import quote

import pytest
from django.db import transaction
from django_eventstream.eventstream import EventPermissionError
from django_eventstream.views import Listener as LocalListener
from django_eventstream.views import get_listener_manager
from rest_framework.test import APIRequestFactory, force_authenticate

from accounts_app.services import issue_key
from accounts_app.states import Role
from events_app import stream as channels
from events_app.live.rows import Row, read_after
from events_app.models import LifecycleEvent
from events_app.services import finish_background_task, record_event, recording, start_background_task
from tests import factories
from tests.events.tell import OTHER, SESSION, tell, tell_of_nodes
from tests.events.wire import Listener, Web, bearer, data_of

OPENING = b":" + b" " * 2048 + b"\n\nevent: stream-open\ndata:\n\n"


def named(stream: Listener, count: int) -> list[str]:
    """Names of the first events after the opening."""
    return [event["event"] for event in stream.wait_for(count + 1)[1:]]


def test_a_channel_speaks_as_django_eventstream_does(web: Web):
    issued = factories.make_key(factories.make_olga())
    with web.listen("/events/stream?channel=sessions", bearer(issued)) as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        stream.wait_for(1)
        assert stream.body == OPENING
        number = tell()
        event = stream.wait_for(2)[1]
        assert event["event"] == "session_started"
        assert event["id"] == f"sessions%40%2A:{number}"
        data = data_of(event)
        assert (data["area"], data["subject"], data["sessionName"]) == ("session", SESSION, "mysession-01")
    resumed = {"Last-Event-ID": f"sessions%40%2A:{number - 1}"}
    with web.listen("/events/stream?channel=sessions", bearer(issued) | resumed) as stream:
        assert stream.wait_for(2)[1] == event
    with web.listen(
        "/events/stream?channel=sessions", bearer(issued) | {"Last-Event-ID": str(number - 1)}
    ) as s:
        assert s.wait_for(2)[1] == event
    # Its JavaScript client sends what it saw in the address.
    query = f"channel=sessions&lastEventId={quote(event['id'])}"
    with web.listen(f"/events/stream?{query}", bearer(issued)) as stream:
        later = tell("session_terminated")
        assert stream.wait_for(2)[1]["id"] == f"sessions%40%2A:{later}"


def test_several_channels_share_one_stream_and_one_cursor(web: Web):
    issued = factories.make_key(factories.make_olga())
    path = f"/events/stream?channels=session:{SESSION},news&channel=workflows"
    with web.listen(path, bearer(issued)) as stream:
        tell(session=OTHER)
        tell()
        channels.push("news", "weather", {"sky": "blue"})
        record_event(name="workflow_ready", area="workflow", subject_id="w1")
        assert named(stream, 3) == ["session_started", "weather", "workflow_ready"]
        last = stream.events[-1]["id"]
        assert data_of(stream.events[2]) == {"sky": "blue"}
        assert {part.rsplit(":", 1)[1] for part in last.split(",")} == {
            str(LifecycleEvent.objects.order_by("-number")[0].number)
        }
    with web.listen(path, bearer(issued) | {"Last-Event-ID": last}) as stream:
        channels.push("news", "weather", {"sky": "grey"})
        assert data_of(stream.wait_for(2)[1]) == {"sky": "grey"}


def test_nobody_hears_another_domain_or_anothers_tasks(web: Web):
    physics, biology = factories.make_domain("physics"), factories.make_domain("biology")
    una = factories.make_user("una", Role.USER, physics)
    people = {
        "user": una,
        "viewer": factories.make_user("vic", Role.VIEWER, physics),
        "admin": factories.make_user("ada", Role.ADMIN, physics),
        "stranger": factories.make_user("stan", Role.ADMIN, biology),
        "superadmin": factories.make_olga(),
    }
    path = "/events/stream?channel=sessions&channel=background-tasks&channel=news"
    streams = {name: web.listen(path, bearer(factories.make_key(user))) for name, user in people.items()}
    for stream in streams.values():
        stream.wait_for(1)
    tell("session_preparing", domain="physics", user_id=una.pk)
    tell("session_started", domain="biology")
    task = start_background_task(kind="test", owner=una, domain="physics")
    finish_background_task(task.pk, status="done")
    channels.push("news", "the_end", {})
    wanted = {
        "user": ["session_preparing", "bgtask_done", "the_end"],
        "viewer": ["session_preparing", "the_end"],
        "admin": ["session_preparing", "bgtask_done", "the_end"],
        "stranger": ["session_started", "the_end"],
        "superadmin": ["session_preparing", "session_started", "bgtask_done", "the_end"],
    }
    for name, stream in streams.items():
        with stream:
            assert named(stream, len(wanted[name])) == wanted[name], name


def test_what_may_not_be_heard_is_told_in_its_own_form(web: Web):
    key = bearer(factories.make_key(factories.make_user("una", Role.USER)))
    assert web.ask("/events/stream?channel=sessions")[0] == 401
    nora = bearer(issue_key(user=factories.make_nora(), actor=None))
    assert web.ask("/events/stream?channel=sessions", headers=nora)[0] == 403
    for query in ("", "channel=a%20b", "&".join(f"channel=c{place}" for place in range(60))):
        status, headers, body = web.ask(f"/events/stream?{query}", headers=key)
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        error = body.decode()
        assert error.startswith("event: stream-error\nid: error\n")
        assert '"condition": "bad-request"' in error
    assert web.ask("/events/stream?channel=a", headers=key | {"Last-Event-ID": "error"})[0] == 400


def test_a_cursor_that_is_not_kept_gets_a_reset(web: Web):
    issued = factories.make_key(factories.make_olga())
    number = tell()
    resumed = {"Last-Event-ID": f"sessions%40%2A:{number + 5000}"}
    with web.listen("/events/stream?channel=sessions", bearer(issued) | resumed) as stream:
        reset = stream.wait_for(2)[1]
        assert (reset["event"], data_of(reset)) == ("stream-reset", {"channels": ["sessions"]})
        assert reset["id"] == f"sessions%40%2A:{number}"
        tell()
        assert stream.wait_for(3)[2]["event"] == "session_started"


def test_an_event_of_a_transaction_that_fails_is_not_heard(web: Web):
    issued = factories.make_key(factories.make_olga())
    with web.listen("/events/stream?channel=news", bearer(issued)) as stream:
        for block in (transaction.atomic, recording):
            with contextlib.suppress(RuntimeError), block():
                channels.push("news", "never", {})
                raise RuntimeError
        with recording():
            channels.push("news", "kept", {})
        assert named(stream, 1) == ["kept"]


def test_names_of_the_products_own_channels_are_not_free():
    for name in ("sessions", "session:x", "activity", "with blank", "at@sign", ""):
        with pytest.raises(ValueError, match="can't be the name"):
            channels.push(name, "x", {})


def test_deltas_of_the_node_map_are_joined_and_never_lost(web: Web):
    issued = factories.make_key(factories.make_olga())
    with web.listen(f"/events/stream?channel=session:{SESSION}", bearer(issued)) as stream:
        stream.wait_for(1)
        numbers = []
        for place in range(40):
            changes = {"compute/boot": {"in_progress": [f"n{place}"]}}
            if place:
                changes["compute/boot"]["succeeded"] = [f"n{place - 1}"]
            numbers.append(tell_of_nodes(SESSION, changes))
        last = tell("session_terminated")
        events = stream.wait_for(2)
        while events[-1]["event"] != "session_terminated":
            stream.read_more()
            events = stream.events
        assert int(events[-1]["id"].rpartition(":")[2]) == last
        deltas = [event for event in events if event["event"] == "node_phases"]
        assert 1 <= len(deltas) < 40
        nodes: dict[str, str] = {}
        for event in deltas:
            for category, names in data_of(event)["changes"]["compute/boot"].items():
                nodes |= dict.fromkeys(names, category)
        assert nodes == {f"n{place}": "succeeded" for place in range(39)} | {"n39": "in_progress"}
        cursors = [int(event["id"].rpartition(":")[2]) for event in deltas]
        assert cursors == sorted(cursors)
        assert cursors[-1] == numbers[-1]


def rows_of(*numbers: int) -> list[Row]:
    """Rows as the hub reads them."""
    return [row for row in read_after(min(numbers) - 1, 1000) if row.number in numbers]


@pytest.mark.django_db
def test_a_cursor_never_points_into_a_run_of_deltas():
    one = tell_of_nodes(SESSION, {"c/boot": {"in_progress": ["a", "b"]}})
    two = tell_of_nodes(OTHER, {"c/boot": {"failed": ["z"]}})
    three = tell_of_nodes(SESSION, {"c/boot": {"succeeded": ["a"]}})
    four = tell()
    format = channels.ChannelFormat((f"session:{SESSION}@*", f"session:{OTHER}@*"))
    pieces = format.encode(rows_of(one, two, three, four))
    assert [number for number, _ in pieces] == [three, four]
    run = pieces[0][1].decode()
    assert run.count("event: node_phases") == 2
    assert run.count("id: ") == 1
    first, second = run.split("\n\n")[:2]
    assert "id: " not in first
    assert '"failed": ["z"]' in first
    assert '"changes": {"c/boot": {"in_progress": ["b"], "succeeded": ["a"]}}' in second


@pytest.mark.django_db
def test_its_storage_is_the_event_table():
    storage = channels.TableStorage()
    event = storage.append_event("news", "weather", json.dumps({"sky": "blue"}))
    assert storage.get_current_id("news@*") == event.id
    tell()
    found = storage.get_events("news@*", event.id - 1)
    assert [(one.type, json.loads(one.data), one.id) for one in found] == [
        ("weather", {"sky": "blue"}, event.id)
    ]
    assert storage.get_events("news@*", storage.get_current_id("news@*")) == []
    with pytest.raises(channels.EventDoesNotExist):
        storage.get_events("news@*", event.id + 100)


@pytest.mark.django_db
def test_its_channel_manager_gives_everybody_his_own_scope():
    manager = channels.ChannelManager()
    una = factories.make_user("una", Role.USER, factories.make_domain("phy sics"))
    olga, nora = factories.make_olga(), factories.make_nora()

    def request(user: Any, query: str) -> Any:
        made = APIRequestFactory().get(f"/events/stream?{query}")
        made.user = user
        return made

    assert manager.get_channels_for_request(request(olga, "channel=sessions"), {}) == {"sessions@*"}
    assert manager.get_channels_for_request(request(una, "channels=sessions,background-tasks,x"), {}) == {
        "sessions@phy%20sics",
        f"background-tasks@phy%20sics#{una.pk}",
        "x@*",
    }
    assert manager.can_read_channel(una, "sessions@phy%20sics")
    assert manager.can_read_channel(una, "x@*")
    for closed in ("sessions@*", "sessions@biology", "sessions", "background-tasks@phy%20sics"):
        assert not manager.can_read_channel(una, closed), closed
    assert not manager.can_read_channel(nora, "x@*")
    assert not manager.can_read_channel(None, "x@*")
    with pytest.raises(EventPermissionError):
        manager.get_channels_for_request(request(nora, "channel=sessions"), {})


@pytest.mark.django_db(transaction=True)
def test_drf_users_get_a_stream_and_browsers_a_page(redis_server: Any, web: Web):
    olga = factories.make_olga()
    view = channels.ChannelsView.as_view({"get": "list"})
    asked = APIRequestFactory().get("/events/stream?channel=sessions", HTTP_ACCEPT="text/event-stream")
    force_authenticate(asked, olga)
    answer = view(asked)
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/event-stream")
    assert answer.streaming
    key = bearer(factories.make_key(olga))
    status, headers, body = web.ask("/events/stream?channel=sessions", headers=key | {"Accept": "text/html"})
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    assert b"sessions" in body


def waiting_at(names: set[str]) -> LocalListener:
    """A listener of django-eventstream's own view."""
    listener = LocalListener()
    listener.channels = names
    listener.wake_threadsafe = lambda: None
    return listener


@pytest.mark.django_db
def test_its_own_views_are_fed_with_what_the_hub_reads():
    manager = get_listener_manager()
    listener = waiting_at({"sessions@physics"})
    manager.add_listener(listener)
    try:
        heard = tell(domain="physics")
        deaf = tell(domain="biology")
        channels.feed_local_views(rows_of(heard, deaf))
        items = listener.channel_items["sessions@physics"]
        assert [(item.type, item.id) for item in items] == [("session_started", heard)]
        assert json.loads(items[0].data)["sessionName"] == "mysession-01"
    finally:
        manager.remove_listener(listener)
