"""The doors of the documented streams: Channels consumers in front of Django.

Nothing here runs while a stream is open: a consumer waits for its listener to leave, the hub writes.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from channels.exceptions import StopConsumer
from channels.generic.http import AsyncHttpConsumer
from django.conf import settings
from django.contrib.auth.models import Group as Project
from django.db import DataError
from django.db import Error as DatabaseFault
from django.utils import timezone

from events_app.live import answers, rows
from events_app.live.encoding import SERVER_CLOSE, Documented, SessionFormat, TaskFormat
from events_app.live.filters import Filter, Hearer, SessionFilter, TaskFilter
from events_app.live.hub import Hub, Stream
from events_app.live.parameters import SessionQuery, read_session_query, read_task_query, read_version
from events_app.live.sockets import socket_for
from events_app.models import BackgroundTask, LifecycleEvent
from events_app.states import FINISHED

log = logging.getLogger(__name__)

BODY_LIMIT = 64 * 1024
HUB_PATIENCE = 5.0
NAMED_BY_VERSION = 6  # callers from API v6 on know UUIDs and bgtask_* names


@dataclass(frozen=True)
class Caller:
    """What a request says of who sends it; `target` is path and query exactly as on the request line."""

    method: str
    target: str
    headers: dict[str, str]
    by_cookie: bool  # under /func/ only the login cookie counts


Identify = Callable[[Caller], tuple[Any, Hearer]]  # the user and what he may hear; raises Refused


class Door(AsyncHttpConsumer):
    """One request for a stream. `hub` is this process's, `identify` asks the database who calls."""

    methods: ClassVar[tuple[str, ...]] = ("GET",)

    def __init__(self, *, hub: Hub, identify: Identify) -> None:
        super().__init__()
        self.hub = hub
        self.identify = identify
        self.stream: Stream | None = None

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Channels' own loop, without a channel layer and without a second task for each listener."""
        self.scope = scope
        self.base_send = send
        try:
            while True:
                await self.dispatch(await receive())
        except StopConsumer:
            pass
        finally:
            # Also when the process is told to stop: the response ends as it should.
            if self.stream is not None:
                self.hub.finish(self.stream)

    async def dispatch(self, message: dict[str, Any]) -> None:
        """No database connection is used in this thread, so none is looked after (unlike Channels')."""
        if message["type"] == "http.request":
            await self.http_request(message)
        elif message["type"] == "http.disconnect":
            await self.http_disconnect(message)

    async def http_request(self, message: dict[str, Any]) -> None:
        self.body.append(message.get("body", b""))
        if sum(map(len, self.body)) > BODY_LIMIT:
            await self.refuse(answers.bad_request("The body is too long."))
            raise StopConsumer
        if message.get("more_body"):
            return
        try:
            await self.handle(b"".join(self.body))
        except answers.Refused as refused:
            await self.refuse(refused)
        except DataError:
            await self.refuse(answers.bad_request("A value can't be looked for."))
        except DatabaseFault as fault:
            log.warning("A stream can't be opened: %s", fault)
            await self.refuse(answers.unavailable())
        if self.stream is None:
            raise StopConsumer
        self.forget_request()

    async def http_disconnect(self, message: dict[str, Any]) -> None:
        if self.stream is not None:
            self.hub.leave(self.stream)
            self.stream = None
        raise StopConsumer

    async def handle(self, body: bytes) -> None:
        """Check what every door checks, then `open`."""
        headers: dict[str, str] = {}
        for name, value in self.scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
        self.origin = headers.get("origin")
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and (len(length) > 9 or int(length) > BODY_LIMIT):
            raise answers.bad_request("The body is too long.")  # and perhaps it was not even read
        if self.scope["method"] == "OPTIONS":
            await self.answer_preflight(headers)
            return
        if self.scope["method"] not in self.methods:
            raise answers.wrong_method()
        if self.hub.stopping or not await self.hub.ready(HUB_PATIENCE):
            raise answers.unavailable()
        self.version = read_version(headers)
        caller = Caller(self.scope["method"], self.target(), headers, bool(self.scope.get("muster.func")))
        self.user, hearer = await self.hub.ask(self.identify, caller)
        await self.open(hearer, headers, body)

    async def open(self, hearer: Hearer, headers: dict[str, str], body: bytes) -> None:
        """Read the parameters, answer. Raises Refused."""
        raise NotImplementedError

    def target(self) -> str:
        """Path and query as they were sent, before any prefix was cut off."""
        raw = self.scope.get("muster.raw_path") or self.scope.get("raw_path")
        path = raw.decode("latin-1") if raw else self.scope["path"]
        query = self.scope.get("query_string", b"").decode("latin-1")
        return f"{path}?{query}" if query else path

    def forget_request(self) -> None:
        """An idle listener costs memory; what asked for the stream is not needed any more."""
        self.scope = {}
        self.body.clear()
        self.user = None

    # -- answers ------------------------------------------------------------------------------------

    async def begin(
        self, hearer: Hearer, filter: Filter, format: Any, preface: bytes = b"", *, after: int
    ) -> None:
        """Send headers and `preface`, then let the hub write what is beyond `after`. Raises Refused."""
        most = settings.MUSTER_STREAMS_PER_USER
        if most and self.hub.held[hearer.user_id] >= most:
            raise answers.too_many_streams(most)
        await self.send_headers(status=200, headers=self.with_origin(answers.STREAM_HEADERS))
        await self.send_body(preface, more_body=True)
        self.stream = Stream(hearer, filter, format, socket_for(self.base_send))
        if self.hub.stopping:
            self.hub.finish(self.stream)
        else:
            self.hub.join(self.stream, after)

    async def tell_at_once(self, body: bytes) -> None:
        """A stream that ends where it begins."""
        await self.send_headers(status=200, headers=self.with_origin(answers.STREAM_HEADERS))
        await self.send_body(body)

    async def refuse(self, refused: answers.Refused) -> None:
        """The problem document."""
        headers = [(b"Content-Type", b"application/problem+json; charset=utf-8")]
        headers += [(name.encode(), value.encode()) for name, value in refused.headers.items()]
        body = refused.body()
        headers.append((b"Content-Length", str(len(body)).encode()))
        await self.send_headers(status=refused.status, headers=self.with_origin(headers))
        await self.send_body(body)

    async def answer_preflight(self, headers: dict[str, str]) -> None:
        """Any origin may ask, without credentials."""
        allowed = [
            (b"Allow", answers.ALLOW.encode()),
            (b"Access-Control-Allow-Methods", b"GET"),
            (b"Access-Control-Max-Age", b"600"),
            (b"Content-Length", b"0"),
        ]
        asked = headers.get("access-control-request-headers")
        if asked:
            allowed.append((b"Access-Control-Allow-Headers", asked.encode("latin-1")))
        await self.send_headers(status=200, headers=self.with_origin(allowed))
        await self.send_body(b"")

    def with_origin(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """CORS: `*`, so that no browser sends a cookie along from elsewhere."""
        if getattr(self, "origin", None) is None:
            return headers
        return [*headers, (b"Access-Control-Allow-Origin", b"*")]


class SessionDoor(Door):
    """GET /events/session: lifecycle events of sessions (seed 004; contracts, events 1)."""

    async def open(self, hearer: Hearer, headers: dict[str, str], body: bytes) -> None:
        query = read_session_query(self.scope.get("query_string", b""), body, headers)
        if query.owner and query.owner != hearer.access_key and not hearer.manages:
            raise answers.forbidden()
        if query.group and not await self.hub.ask(Project.objects.filter(name=query.group).exists):
            raise answers.no_such("No such user group (or project).")
        filter = filter_of(query, hearer)
        format = SessionFormat(by_name=self.version is None or self.version < NAMED_BY_VERSION)
        preface, after = b"", query.cursor
        lost = after is not None and await self.hub.is_lost(after)
        if after is None or lost:
            # What the table has now, not what the hub has read: older events are not this listener's.
            number = await self.hub.ask(rows.newest)
            if after is not None:
                preface = format.reset(after, number)
            after = number
            if query.snapshot:
                preface += await self.hub.ask(snapshot, filter, format, number)
        await self.begin(hearer, filter, format, preface, after=after)


def filter_of(query: SessionQuery, hearer: Hearer) -> SessionFilter:
    """What was asked for, within what this caller may hear.

    A name belongs to an access key: without a key given the caller's own counts, and what he started
    without a key.
    """
    named = query.name is not None
    return SessionFilter(
        domain=None if hearer.everywhere else hearer.domain,
        user_id=None if hearer.everywhere or hearer.widely else hearer.user_id,
        session=query.session,
        name=query.name,
        owner=(query.owner or hearer.access_key or None) if named else None,
        keyless_owner=hearer.user_id if named and not query.owner else None,
        project=query.group,
        prefixes=query.prefixes,
    )


def snapshot(filter: SessionFilter, format: Documented, number: int) -> bytes:
    """The present state: the newest event of each session, of the ended ones only where one was asked for.

    Only the last carries the cursor: who loses the connection before it gets the snapshot again.
    """
    alone = filter.session is not None or filter.name is not None
    found = [
        row
        for row in rows.latest_of_each(filter.narrow, number)
        if filter.passes(row) and (alone or row.name != "session_terminated")
    ]
    pieces = [format.encode_one(row, None) for row in found[:-1]]
    pieces += [format.encode_one(row, number) for row in found[-1:]]
    return b"".join(pieces)


@dataclass(frozen=True)
class Progress:
    """A background task as the table has it, read between two numbers of events."""

    before: int
    data: dict[str, Any]
    status: str
    after: int


class TaskDoor(Door):
    """GET /events/background-task: progress and end of one task (seed 004; contracts, events 2)."""

    async def open(self, hearer: Hearer, headers: dict[str, str], body: bytes) -> None:
        query = read_task_query(self.scope.get("query_string", b""), body, headers)
        format = TaskFormat(prefix=self.prefix())
        progress = await self.hub.ask(find_progress, query.task, hearer)
        if progress is None:
            title = "No such background task."
            raise answers.no_such(title, title)
        filter = TaskFilter(str(query.task))
        cursor = query.cursor
        lost = cursor is not None and await self.hub.is_lost(cursor)
        if progress.status in FINISHED:
            if cursor is not None and not lost:
                await self.tell_at_once(await self.hub.ask(replay_finished, filter, format, cursor))
            else:
                await self.tell_at_once(format.finished(progress.status, progress.data, progress.after))
        elif cursor is not None and not lost:
            await self.begin(hearer, filter, format, after=cursor)
        elif query.snapshot or lost:
            preface = b"" if cursor is None else format.reset(cursor, progress.before)
            preface += format.present(progress.data, progress.before)
            await self.begin(hearer, filter, format, preface, after=progress.before)
        else:
            # From before the task was looked at: its end can't slip in between.
            await self.begin(hearer, filter, format, after=progress.before)

    def prefix(self) -> str:
        """Which names this caller knows. Browsers in cookie mode can't say a version; the web UI that works
        so wants the new names (contracts, events 2.1)."""
        if self.version is None:
            return "bgtask" if self.scope.get("muster.func") else "task"
        return "bgtask" if self.version >= NAMED_BY_VERSION else "task"


def find_progress(task_id: uuid.UUID, hearer: Hearer) -> Progress | None:
    """None where there is no such task, its result is expired, or it is not the hearer's to see."""
    before = rows.newest()
    task = BackgroundTask.objects.filter(pk=task_id).first()
    if task is None or (task.expires_at is not None and task.expires_at <= timezone.now()):
        return None
    own = task.owner_id is not None and task.owner_id == hearer.user_id
    if not own and not hearer.everywhere and not (hearer.manages and task.domain == hearer.domain):
        return None
    return Progress(before, task.progress_data(), task.status, rows.newest())


def replay_finished(filter: TaskFilter, format: TaskFormat, cursor: int) -> bytes:
    """What a listener of a finished task has not seen, up to the end."""
    missed = rows.fetch(filter.narrow(LifecycleEvent.objects.filter(number__gt=cursor)), 10_000)
    if not missed:
        return SERVER_CLOSE
    return b"".join(piece for _, piece in format.encode(missed))
