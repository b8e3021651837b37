"""What the documented event doors are asked: query strings, checked (contracts, events 1.1 and 2).

The names are those of all releases together, so that no client breaks; `snapshot`, `last_event_id` and
`lastEventId` are ours. The first name of an alias wins; anything unknown is refused, as the real server does.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from events_app.live.answers import bad_parameters, bad_request

SESSION_NAMES = {
    "sessionId": "session_id",
    "session_id": "session_id",
    "name": "name",
    "sessionName": "name",
    "session_name": "name",
    "ownerAccessKey": "owner",
    "owner_access_key": "owner",
    "group": "group",
    "groupName": "group",
    "group_name": "group",
    "scope": "scope",
}
TASK_NAMES = {"taskId": "task_id", "task_id": "task_id"}
OURS = {"snapshot": "snapshot", "last_event_id": "cursor", "lastEventId": "cursor"}
SCOPES = frozenset({"session", "kernel"})
FLAGS = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
VERSION = re.compile(r"v(\d{1,4})\.\d{8}")
CURSOR = re.compile(r"\d{1,18}")


@dataclass(frozen=True)
class SessionQuery:
    """What /events/session was asked; None = any."""

    session: str | None
    name: str | None
    owner: str | None
    group: str | None
    prefixes: tuple[str, ...]
    snapshot: bool
    cursor: int | None


@dataclass(frozen=True)
class TaskQuery:
    """What /events/background-task was asked."""

    task: uuid.UUID
    snapshot: bool
    cursor: int | None


def read_version(headers: Mapping[str, str]) -> int | None:
    """The caller's API version, its first number; None where he does not say. Raises Refused."""
    text = headers.get("x-backendai-version") or headers.get("x-sorna-version")
    if not text:
        return None
    match = VERSION.fullmatch(text)
    if match is None:
        raise bad_request("Unsupported API version.")
    return int(match[1])


def read_session_query(query: bytes, body: bytes, headers: Mapping[str, str]) -> SessionQuery:
    """Check the parameters of /events/session. Raises Refused."""
    values, problems, given = _gather(query, body, SESSION_NAMES)
    session, name = None, _any(values.get("name"))
    asked = values.get("session_id")
    if asked is not None:
        session = _uuid(asked)
        if session is None:
            name = _any(asked)
    prefixes = _prefixes(values.get("scope", "*"))
    if prefixes is None:
        problems[given["scope"]] = "value doesn't match any variant"
    snapshot = _flag(values, given, problems)
    cursor = _cursor(values, headers, given, problems)
    if problems:
        raise bad_parameters(problems)
    return SessionQuery(
        session=session,
        name=None if session else name,
        owner=values.get("owner") or None,
        group=_any(values.get("group")),
        prefixes=prefixes or (),
        snapshot=snapshot,
        cursor=cursor,
    )


def read_task_query(query: bytes, body: bytes, headers: Mapping[str, str]) -> TaskQuery:
    """Check the parameters of /events/background-task. Raises Refused."""
    values, problems, given = _gather(query, body, TASK_NAMES)
    task = None
    if "task_id" not in values:
        problems["task_id"] = "is required"
    else:
        text = _uuid(values["task_id"])
        if text is None:
            problems[given["task_id"]] = "cannot convert value to UUID"
        else:
            task = uuid.UUID(text)
    snapshot = _flag(values, given, problems)
    cursor = _cursor(values, headers, given, problems)
    if problems or task is None:
        raise bad_parameters(problems)
    return TaskQuery(task=task, snapshot=snapshot, cursor=cursor)


def read_values(query: bytes, body: bytes) -> list[tuple[str, str]]:
    """All parameters in their order; a body, if there is one, replaces the query. Raises Refused."""
    if not body:
        try:
            pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
        except (UnicodeDecodeError, ValueError):
            raise bad_request("The query string can't be read.") from None
        return pairs
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise bad_request("Malformed body") from None
    if not isinstance(document, dict):
        raise bad_request("Malformed body")
    return [(key, _as_text(value)) for key, value in document.items() if value is not None]


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value)


def _gather(
    query: bytes, body: bytes, names: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, Any], dict[str, str]]:
    """Values by meaning, problems by name, and under which name each meaning was given."""
    values: dict[str, str] = {}
    problems: dict[str, Any] = {}
    given: dict[str, str] = {}
    pairs = read_values(query, body)
    known = {**names, **OURS}
    order = {name: place for place, name in enumerate(known)}
    for name, value in pairs:
        if name not in known:
            problems[name] = f"{name} is not allowed key"
        elif not _is_text(value):
            problems[name] = "value contains characters that no name has"
    for name, value in sorted((pair for pair in pairs if pair[0] in known), key=lambda pair: order[pair[0]]):
        meaning = known[name]
        if meaning not in values:
            values[meaning], given[meaning] = value, name
        elif meaning == "scope":
            values[meaning] += f",{value}"  # the list form: given more than once
    return values, problems, given


def _is_text(value: str) -> bool:
    """Whether databases can look for it: no NUL, no half of a surrogate pair."""
    return "\0" not in value and value.encode("utf-8", "ignore").decode() == value


def _any(value: str | None) -> str | None:
    return None if value in {None, "", "*"} else value


def _uuid(text: str) -> str | None:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


def _prefixes(text: str) -> tuple[str, ...] | None:
    """Of event names; empty = all, None = not a scope."""
    words = {word.strip() for word in text.split(",")}
    if "*" in words:
        return () if words <= SCOPES | {"*"} else None
    if not words <= SCOPES:
        return None
    return tuple(f"{word}_" for word in sorted(words))


def _flag(values: Mapping[str, str], given: Mapping[str, str], problems: dict[str, Any]) -> bool:
    flag = FLAGS.get(values.get("snapshot", "").lower())
    if flag is None:
        problems[given["snapshot"]] = "value should be 1 or 0"
    return bool(flag)


def _cursor(
    values: Mapping[str, str],
    headers: Mapping[str, str],
    given: Mapping[str, str],
    problems: dict[str, Any],
) -> int | None:
    """The number up to which the caller has seen. The header is newer than what stands in the address."""
    text = headers.get("last-event-id") or values.get("cursor") or ""
    if not text:
        return None
    if CURSOR.fullmatch(text) is None:
        problems[given.get("cursor", "Last-Event-ID")] = "value can't be converted to int"
        return None
    return int(text)
