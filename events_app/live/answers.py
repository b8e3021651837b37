"""Answers of the documented event doors that are not streams, in Backend.AI's form (contracts, events 3)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

TYPES = "https://api.backend.ai/probs/"
STREAM_HEADERS = [
    (b"Content-Type", b"text/event-stream"),
    (b"Cache-Control", b"no-cache"),
    (b"Connection", b"keep-alive"),
    (b"X-Accel-Buffering", b"no"),
]
ALLOW = "GET,OPTIONS"


@dataclass
class Refused(Exception):
    """A request that gets no stream; `kind` is the end of the problem's type."""

    status: int
    kind: str
    title: str
    message: str | None = None
    data: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """application/problem+json."""
        problem: dict[str, Any] = {"type": TYPES + self.kind, "title": self.title}
        if self.message is not None:
            problem["msg"] = self.message
        if self.data is not None:
            problem["data"] = self.data
        return json.dumps(problem).encode()


def unauthorized(message: str = "Unauthorized access", challenge: str = 'Bearer realm="muster"') -> Refused:
    """401: nobody, or somebody we don't know."""
    headers = {"WWW-Authenticate": challenge}
    return Refused(401, "auth-failed", "Credential/signature mismatch.", message, headers=headers)


def malformed_authorization(message: str) -> Refused:
    """400: the credentials can't be read."""
    return Refused(400, "invalid-auth-params", "Missing or invalid authorization parameters.", message)


def bad_request(message: str) -> Refused:
    """400: anything else that can't be read."""
    return Refused(400, "generic-bad-request", "Bad request.", message)


def bad_parameters(problems: dict[str, Any]) -> Refused:
    """400: parameters, each with what is wrong with it."""
    return Refused(
        400,
        "invalid-api-params",
        "Missing or invalid API parameters.",
        "Input validation error",
        problems,
    )


def forbidden() -> Refused:
    """403."""
    return Refused(403, "generic-forbidden", "Forbidden operation.")


def no_such(title: str, data: Any = None) -> Refused:
    """404: an object."""
    return Refused(404, "object-not-found", title, data=data)


def wrong_method() -> Refused:
    """405."""
    return Refused(405, "method-not-allowed", "HTTP Method Not Allowed.", headers={"Allow": ALLOW})


def too_many_streams(most: int) -> Refused:
    """429: he holds as many as he may in this process."""
    message = f"You have {most} streams open here already."
    return Refused(429, "too-many-requests", "Too many requests.", message, headers={"Retry-After": "10"})


def unavailable() -> Refused:
    """503: the database does not answer, or this process is going down. Come back with the cursor."""
    return Refused(503, "service-unavailable", "Service unavailable.", headers={"Retry-After": "2"})
