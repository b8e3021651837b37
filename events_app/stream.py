"""django-eventstream as the SSE layer: channels, who may hear them, storage, encoding.

The sole importer of it. Its parts are used as they are made to be: `send_event` stores through our storage,
which is the event table; our channel manager says who may hear what, to its own views and to ours; its
encoding writes the streams. Only its pump is replaced by the hub (why: docs/events.md). Its own view still
works where somebody routes to it: the hub feeds it.

A channel is asked for by its plain name and carried under a scoped one (`rows.scoped`), so that nobody
hears another domain: `sessions` is `sessions@*` to a superadmin and `sessions@physics` to people of physics.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.core.serializers.json import DjangoJSONEncoder
from django.utils.module_loading import import_string
from django_eventstream import send_event
from django_eventstream.channelmanager import ChannelManagerBase
from django_eventstream.event import Event
from django_eventstream.eventrequest import EventRequest
from django_eventstream.eventstream import EventPermissionError
from django_eventstream.renderers import BrowsableAPIEventStreamRenderer, SSEEventRenderer
from django_eventstream.storage import EventDoesNotExist, StorageBase
from django_eventstream.utils import make_id, sse_encode_error, sse_encode_event
from django_eventstream.views import get_listener_manager
from django_eventstream.viewsets import EventsViewSet

from events_app import services
from events_app.live import answers, rows
from events_app.live.doors import Door
from events_app.live.encoding import Piece
from events_app.live.filters import ChannelFilter, Hearer, is_built_in, is_personal
from events_app.live.hub import Hub
from events_app.live.parameters import CURSOR
from events_app.live.rows import FREE, Row, scoped

CHANNEL_LIMIT = 50
CHANNEL_NAME = re.compile(r"[^\s,@]{1,120}")
OPENING = f":{' ' * 2048}\n\nevent: stream-open\ndata:\n\n".encode()
KEEP_ALIVE = b"event: keep-alive\ndata:\n\n"
DELTAS_JOIN_FOR = 0.25  # seconds: a browser gets at most 4 deltas a second of each session

_hub: Hub | None = None


def push(channel: str, event_type: str, data: Any) -> None:
    """Send an event of your own to a free channel: stored, replayed and heard like all others."""
    if is_built_in(channel) or CHANNEL_NAME.fullmatch(channel) is None:
        raise ValueError(f"{channel!r} can't be the name of a channel of your own.")
    send_event(channel, event_type, data)


def hearer_of(user: Any) -> Hearer | None:
    """What a user may hear; None where nothing. Who decides stands in MUSTER_HEARER_OF."""
    return import_string(settings.MUSTER_HEARER_OF)(user)


def scope_of(channel: str, hearer: Hearer) -> str:
    """The scoped name under which this hearer gets a channel."""
    if not is_built_in(channel) or hearer.everywhere:
        return scoped(channel)
    domain = quote(hearer.domain, safe="")
    if is_personal(channel) and not hearer.manages:
        return scoped(channel, f"{domain}#{hearer.user_id}")
    return scoped(channel, domain)


class ChannelManager(ChannelManagerBase):
    """Who may hear what (EVENTSTREAM_CHANNELMANAGER_CLASS)."""

    def get_channels_for_request(self, request: Any, view_kwargs: dict[str, Any]) -> set[str]:
        """The scoped channels that a request names: `channel=` (repeated), `channels=a,b`, or the view's."""
        if "channels" in view_kwargs:
            names = list(view_kwargs["channels"])
        elif "channel" in view_kwargs:
            names = [view_kwargs["channel"]]
        else:
            names = request.GET.getlist("channel")
            names += [name for text in request.GET.getlist("channels") for name in text.split(",")]
        names = [name for name in names if name]
        bad = [name for name in names if CHANNEL_NAME.fullmatch(name) is None or "\0" in name]
        if bad:
            raise EventRequest.Error(f"Bad channel name {bad[0][:40]!r}")
        user = getattr(request, "user", None)
        hearer = hearer_of(user) if getattr(user, "is_authenticated", False) else None
        if hearer is None:
            raise EventPermissionError(f"Permission denied to channels: {', '.join(names)}", channels=names)
        return {scope_of(name, hearer) for name in names}

    def can_read_channel(self, user: Any, channel: str) -> bool:
        """Whether a user may hear a channel, by its scoped name: his own scope and none else."""
        hearer = hearer_of(user) if getattr(user, "is_authenticated", False) else None
        name = channel.rpartition("@")[0]
        return hearer is not None and bool(name) and scope_of(name, hearer) == channel

    def is_channel_reliable(self, channel: str) -> bool:
        """All are: every event is in the table."""
        return True


class TableStorage(StorageBase):
    """The event table as django-eventstream's storage (EVENTSTREAM_STORAGE_CLASS)."""

    def append_event(self, channel: str, event_type: str, data: Any) -> Event:
        """Record an event of a free channel, in the caller's transaction if there is one.

        Inside `recording` its number is drawn at the end of the block, so the returned id is 0 there; only
        push proxies would use it.
        """
        value = json.loads(data) if isinstance(data, str) else data
        event = services.record_event(
            name=re.sub(r"[\r\n\0]", "", str(event_type))[:64],
            area=FREE,
            subject_id=channel,
            data=value,
        )
        return Event(channel, event_type, data, id=event.number or 0)

    def get_events(self, channel: str, last_id: int, limit: int = 100) -> list[Event]:
        """Events of a scoped channel beyond `last_id`, never beyond what the hub of this process has
        handed out: that comes from the hub."""
        upto = self.get_current_id(channel)
        if last_id == upto:
            return []
        if last_id > upto or last_id < rows.kept_after():
            raise EventDoesNotExist(f"No such event {last_id}", upto)
        found: list[Row] = []
        wanted = ChannelFilter((channel,))
        position = int(last_id)
        while position < upto and len(found) < limit:
            page, position = rows.read_between(position, upto, 500, wanted.narrow)
            found += [row for row in page if wanted.passes(row)]
        return [Event(channel, row.name, text_of(row), id=row.number) for row in found[:limit]]

    def get_current_id(self, channel: str) -> int:
        """The number of the newest event that this process has handed out."""
        return _hub.last if _hub is not None and _hub.last else rows.newest()


def text_of(row: Row) -> str:
    """Data on a channel: free events as they were sent, the product's own with what they are about."""
    if row.area == FREE:
        return row.text
    about = {
        "area": row.area,
        "subject": row.subject_id,
        "subject_name": row.subject_name,
        "at": row.at.isoformat(),
    }
    return json.dumps({**about, **row.data}, cls=DjangoJSONEncoder)


@dataclass(frozen=True)
class ChannelFormat:
    """django-eventstream's wire: an id that has every channel of the connection, keep-alive events.

    Runs of deltas of the node map are joined, one per session; all but the last come without an id, so that
    a cursor never points into a run.
    """

    channels: tuple[str, ...]

    ping = KEEP_ALIVE
    ping_every = 20.0

    @property
    def joins_for(self) -> float:
        """Only where the node map's deltas are heard."""
        node_map = any(name.startswith(("session:", "node:", "nodes@")) for name in self.channels)
        return DELTAS_JOIN_FOR if node_map else 0.0

    def id_of(self, number: int) -> str:
        """The cursor: numbers are the table's, so all channels stand at the same."""
        return make_id(dict.fromkeys(self.channels, number))

    def encode(self, found: Sequence[Row]) -> list[Piece]:
        pieces: list[Piece] = []
        run: list[Row] = []
        for row in found:
            if row.name == rows.DELTAS:
                run.append(row)
                continue
            if run:
                pieces.append(self._join(run))
                run = []
            pieces.append((row.number, self._encode_one(row.name, text_of(row), row.number)))
        if run:
            pieces.append(self._join(run))
        return pieces

    def _join(self, run: list[Row]) -> Piece:
        newest: dict[str, Row] = {}
        changes: dict[str, dict[str, Any]] = {}
        for row in run:
            data = row.data
            known = changes.setdefault(row.subject_id, {})
            merge(known, data.get("changes", {}))
            newest.pop(row.subject_id, None)  # the order is that of the newest
            newest[row.subject_id] = row
        last = run[-1].number
        body = b""
        for subject, row in newest.items():
            text = json.dumps({**json.loads(text_of(row)), "changes": changes[subject]})
            body += self._encode_one(row.name, text, last if row is run[-1] else None)
        return last, body

    def _encode_one(self, name: str, text: str, number: int | None) -> bytes:
        event_id = self.id_of(number) if number is not None else None
        return sse_encode_event(name, text, event_id=event_id).encode()

    def reset(self, asked: int, number: int) -> bytes:
        plain = [name.rpartition("@")[0] for name in self.channels]
        data = {"channels": plain}
        return sse_encode_event("stream-reset", data, event_id=self.id_of(number), json_encode=True).encode()

    def ends(self, row: Row) -> bool:
        return False


def merge(known: dict[str, Any], changes: dict[str, Any]) -> None:
    """Add newer deltas ({phase: {category: [nodes]}}) to older ones: a node stands where it came last."""
    for phase, categories in changes.items():
        moved = {node for nodes in categories.values() for node in nodes}
        before = known.get(phase, {})
        merged = {
            category: [node for node in nodes if node not in moved] for category, nodes in before.items()
        }
        for category, nodes in categories.items():
            merged.setdefault(category, []).extend(nodes)
        known[phase] = {category: nodes for category, nodes in merged.items() if nodes}


class ChannelDoor(Door):
    """GET /events/stream?channel=...: django-eventstream's streams, through the hub."""

    has_page = True

    async def open(self, hearer: Hearer, headers: dict[str, str], body: bytes) -> None:
        request = ASGIRequest({**self.scope, "raw_path": None}, BytesIO(body))
        request.user = self.user
        plain = request.META.get("HTTP_LAST_EVENT_ID", "")
        if CURSOR.fullmatch(plain):
            # Numbers are the table's, so one from another stream will do.
            del request.META["HTTP_LAST_EVENT_ID"]
        try:
            asked = await self.hub.ask(_read_request, request)
        except EventRequest.ResumeNotAllowedError as error:
            raise answers.bad_request(f"Invalid request: {error}.") from None
        except EventRequest.Error as error:
            await self.tell_at_once(sse_encode_error("bad-request", f"Invalid request: {error}.").encode())
            return
        except EventPermissionError as error:
            refusal = sse_encode_error("forbidden", str(error), {"channels": error.channels})
            await self.tell_at_once(refusal.encode())
            return
        channels = tuple(sorted(asked.channels))
        format = ChannelFormat(channels)
        preface, after = OPENING, int(plain) if CURSOR.fullmatch(plain) else _cursor_of(asked)
        if after is None or await self.hub.is_lost(after):
            number = await self.hub.ask(rows.newest)
            if after is not None:
                preface += format.reset(after, number)
            after = number
        await self.begin(hearer, ChannelFilter(channels), format, preface, after=after)


def _read_request(request: ASGIRequest) -> EventRequest:
    """Channels and cursor by django-eventstream's own reading; checks each channel."""
    asked = EventRequest(request, channel_limit=CHANNEL_LIMIT, view_kwargs={})
    manager = ChannelManager()
    closed = [name for name in asked.channels if not manager.can_read_channel(request.user, name)]
    if closed:
        raise EventPermissionError(f"Permission denied to channels: {', '.join(closed)}", channels=closed)
    return asked


def _cursor_of(asked: EventRequest) -> int | None:
    """Where to go on: a channel that is new in the cursor's company starts where the others stand."""
    try:
        numbers = [int(number) for number in asked.channel_last_ids.values()]
    except ValueError:
        raise answers.bad_request("Failed to parse Last-Event-ID or lastEventId.") from None
    return min(numbers) if numbers and min(numbers) >= 0 else None


class ChannelsView(EventsViewSet):
    """The same streams for DRF: described for browsers; streamed by django-eventstream's own view where no
    hub stands in front (WSGI, the test client)."""

    renderer_classes = (BrowsableAPIEventStreamRenderer, SSEEventRenderer)

    def get_renderers(self) -> list[Any]:
        """The project's JSON renderers are of no use to a stream."""
        return [renderer() for renderer in self.renderer_classes]

    def list(self, request: Any) -> Any:
        """Stream the channels that `channel` (repeated) or `channels` (a,b) name."""
        names = request.query_params.getlist("channel")
        names += [name for text in request.query_params.getlist("channels") for name in text.split(",")]
        return self._stream_or_respond([name for name in names if name], request)


def feed_local_views(found: Sequence[Row]) -> None:
    """Hand what the hub has read to django-eventstream's own listeners in this process."""
    manager = get_listener_manager()
    if not manager.listeners_by_channel:
        return
    for row in found:
        for channel in row.channels:
            if channel in manager.listeners_by_channel:
                manager.add_to_queues(channel, Event(channel, row.name, text_of(row), id=row.number))


def attach(hub: Hub) -> None:
    """Join django-eventstream's own views of this process to its hub."""
    global _hub
    _hub = hub
    hub.listeners.append(feed_local_views)
