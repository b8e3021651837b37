"""GET /events/session on the wire: bytes, names, who hears what."""

from __future__ import annotations

import uuid
from typing import Any

from events_app.services import record_event
from tests import factories
from tests.events.wire import Web, bearer

SESSION = str(uuid.UUID(int=7))
V7 = {"X-BackendAI-Version": "v7.20230615"}


def tell(name: str = "session_started", session: str = SESSION, **fields: Any) -> int:
    """Record an event of a session as the engine does; its number."""
    called = fields.pop("called", "mysession-01")
    key = fields.pop("access_key", "")
    data = {"sessionId": session, "sessionName": called, "ownerAccessKey": key, "reason": ""}
    data |= fields.pop("data", {})
    event = record_event(
        name=name,
        area="session",
        subject_id=session,
        subject_name=called,
        data=data,
        access_key=key,
        **fields,
    )
    return event.number


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
