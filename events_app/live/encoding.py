"""How events look on the wire. A format is a value, as a filter is: equal formats share the bytes.

The documented streams have CRLF line ends, the fields event, data and (background tasks) retry in this
order, and comments as heartbeat (contracts, events 2.2). `id:` lines are our addition.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from events_app.live.rows import Row
from events_app.states import FINISHED

PING = b": ping\r\n\r\n"
PING_EVERY = 15.0
RETRY = 5  # seconds to Backend.AI's clients, milliseconds to browsers
SERVER_CLOSE = b"event: server_close\r\ndata: {}\r\n\r\n"
ENDS = frozenset(f"bgtask_{status}" for status in FINISHED)
TASK_KEYS = ("task_id", "message", "current_progress", "total_progress")

Piece = tuple[int, bytes]  # the number of the newest event in it; what goes on the wire


class Format(Protocol):
    """How a stream writes events."""

    @property
    def ping(self) -> bytes:
        """What keeps a silent connection open."""

    @property
    def ping_every(self) -> float:
        """Seconds between two of them."""

    @property
    def joins_for(self) -> float:
        """For how many seconds events are gathered into one write while they keep coming."""

    def encode(self, rows: Sequence[Row]) -> list[Piece]:
        """The bytes of these events in order; there may be fewer pieces than events."""

    def reset(self, asked: int, number: int) -> bytes:
        """Tells that events between cursor `asked` and `number` can't be replayed."""

    def ends(self, row: Row) -> bool:
        """Whether nothing follows this event."""


def field_lines(name: str, data: str, *, retry: bool = False, number: int | None = None) -> bytes:
    """One documented event. `data` is JSON and so has no line end in it."""
    text = f"event: {name}\r\ndata: {data}\r\n"
    if retry:
        text += f"retry: {RETRY}\r\n"
    if number is not None:
        text += f"id: {number}\r\n"
    return f"{text}\r\n".encode()


@dataclass(frozen=True)
class Documented:
    """What the two documented streams share."""

    ping = PING
    ping_every = PING_EVERY
    joins_for = 0.0

    def encode(self, rows: Sequence[Row]) -> list[Piece]:
        return [(row.number, self._encoded(row)) for row in rows]

    def _encoded(self, row: Row) -> bytes:
        piece = row.encoded.get(self)
        if piece is None:
            piece = row.encoded[self] = self.encode_one(row, row.number)
        return piece

    def encode_one(self, row: Row, number: int | None) -> bytes:
        """One event under this number; None leaves the listener's cursor where it is."""
        raise NotImplementedError

    def reset(self, asked: int, number: int) -> bytes:
        data = {"reason": "events before this one are not kept", "lastEventId": asked, "newest": number}
        return field_lines("stream-reset", json.dumps(data), number=number)

    def ends(self, row: Row) -> bool:
        return False


@dataclass(frozen=True)
class SessionFormat(Documented):
    """/events/session. `by_name`: sessionId is the session's name, as up to API v5 and in seed 004; else
    its UUID."""

    by_name: bool

    def encode_one(self, row: Row, number: int | None) -> bytes:
        recorded = row.data
        # The order is the real server's. What the engine tells beyond it follows: the document allows more.
        data: dict[str, Any] = {
            "reason": recorded.get("reason", ""),
            "sessionName": row.subject_name,
            "ownerAccessKey": row.access_key,
            "sessionId": row.subject_name if self.by_name else row.subject_id,
            "exitCode": recorded.get("exitCode"),
        }
        for key, value in recorded.items():
            data.setdefault(key, value)
        if row.name == "session_terminated":
            data.setdefault("result", "UNDEFINED")
        return field_lines(row.name, json.dumps(data), number=number)


@dataclass(frozen=True)
class TaskFormat(Documented):
    """/events/background-task. `prefix`: `task` for callers up to API v5 and without a version, `bgtask`
    from v6 on (contracts, events 2.1)."""

    prefix: str

    def encode_one(self, row: Row, number: int | None) -> bytes:
        recorded = row.data
        data = {key: recorded[key] for key in TASK_KEYS if key in recorded}
        piece = field_lines(self.named(row.name), json.dumps(data), retry=True, number=number)
        return piece + SERVER_CLOSE if self.ends(row) else piece

    def named(self, name: str) -> str:
        """An event's name as this caller knows it."""
        return f"{self.prefix}_{name.removeprefix('bgtask_')}"

    def present(self, data: dict[str, Any], number: int) -> bytes:
        """How far the task is, as its own event would tell it."""
        return field_lines(f"{self.prefix}_updated", json.dumps(data), retry=True, number=number)

    def finished(self, status: str, data: dict[str, Any], number: int) -> bytes:
        """The one event that a finished task still has, and the end (contracts, events 2.2).

        The real server answers callers from v6 on with numbers as text and the status; older ones get the
        fields that the document lists.
        """
        if self.prefix == "bgtask":
            data = {
                "task_id": data["task_id"],
                "status": status,
                "current_progress": str(data["current_progress"]),
                "total_progress": str(data["total_progress"]),
                "message": data["message"],
            }
        return field_lines(f"{self.prefix}_{status}", json.dumps(data), number=number) + SERVER_CLOSE

    def ends(self, row: Row) -> bool:
        return row.name in ENDS
