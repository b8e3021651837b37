"""Events as the engine records them, for tests of who hears them."""

from __future__ import annotations

import uuid
from typing import Any

from events_app.services import record_event, recording

SESSION = str(uuid.UUID(int=7))
OTHER = str(uuid.UUID(int=8))


def tell(name: str = "session_started", session: str = SESSION, **fields: Any) -> int:
    """Record an event of a session as the engine does; its number."""
    called = fields.pop("called", "mysession-01")
    key = fields.get("access_key", "")
    data = {"sessionId": session, "sessionName": called, "ownerAccessKey": key, "reason": ""}
    data |= fields.pop("data", {})
    event = record_event(
        name=name, area="session", subject_id=session, subject_name=called, data=data, **fields
    )
    return event.number


def tell_many(count: int, name: str = "session_started", block: int = 500, **fields: Any) -> list[int]:
    """Record events in as few transactions as blocks; their numbers."""
    numbers: list[int] = []
    while len(numbers) < count:
        events = []
        with recording():
            for _ in range(min(block, count - len(numbers))):
                events.append(
                    record_event(
                        name=name,
                        area="session",
                        subject_id=SESSION,
                        subject_name="mysession-01",
                        data={"sessionId": SESSION, "sessionName": "mysession-01", "reason": ""},
                        **fields,
                    )
                )
        numbers += [event.number for event in events]
    return numbers


def tell_of_nodes(session: str, changes: dict[str, Any], **fields: Any) -> int:
    """Deltas of the node map."""
    event = record_event(
        name="node_phases",
        area="node",
        subject_id=session,
        subject_name="mysession-01",
        data={"session": "mysession-01", "changes": changes},
        **fields,
    )
    return event.number
