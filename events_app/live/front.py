"""The ASGI application: streams here, everything else by Django."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from events_app.live.answers import TYPES
from events_app.live.doors import Door, Identify
from events_app.live.hub import Hub, Recheck

log = logging.getLogger(__name__)

COOKIE_PREFIX = "/func/"

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Front:
    """Serves `doors` (path to consumer class) with one hub per process, and passes on the rest.

    Below /func/ everything is there again, for browsers in cookie mode (contracts, events 4.2).
    """

    def __init__(
        self,
        django: Any,
        *,
        doors: Mapping[str, type[Door]],
        identify: Identify,
        recheck: Recheck,
        redis_url: str,
    ) -> None:
        self._django = django
        self._doors = dict(doors)
        self._identify = identify
        self._recheck = recheck
        self._redis_url = redis_url
        self._hub: Hub | None = None
        self.on_start: list[Callable[[Hub], None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        hub = self._hub or self._start()
        if scope["type"] == "http" and scope["path"].startswith(COOKIE_PREFIX):
            scope = _without_prefix(scope)
        door = self._doors.get(scope["path"]) if scope["type"] == "http" else None
        if door is not None and not _wants_page(scope, door):
            await door(hub=hub, identify=self._identify)(scope, receive, send)
        elif scope["type"] == "http" and scope["path"].startswith("/events/") and door is None:
            await _unknown_path(scope, send)
        else:
            await self._django(scope, receive, send)

    def _start(self) -> Hub:
        """At the first request: Daphne tells no sooner that the event loop runs."""
        hub = self._hub = Hub(redis_url=self._redis_url, recheck=self._recheck)
        hub.start()
        for tell in self.on_start:
            tell(hub)
        reactor = sys.modules.get("twisted.internet.reactor")
        if reactor is not None and getattr(reactor, "running", False):
            reactor.addSystemEventTrigger("before", "shutdown", hub.stop)
        return hub

    async def _live(self, receive: Receive, send: Send) -> None:
        """Servers that know ASGI's lifespan, as uvicorn."""
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                _at_signal((self._hub or self._start()).stop)
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if self._hub is not None:
                    self._hub.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _at_signal(stop: Callable[[], None]) -> None:
    """Such servers wait for open responses before they tell of the shutdown, so the signal itself must end
    the streams; then it goes on to whoever had it."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def handle(got: int, frame: Any, before: Any = before) -> None:
            loop.call_soon_threadsafe(stop)
            if callable(before):
                before(got, frame)

        if callable(before):
            signal.signal(number, handle)


def _without_prefix(scope: Scope) -> Scope:
    """The same request without /func; what was sent is remembered, for it may have been signed."""
    raw = scope.get("raw_path") or b""
    cut = len(COOKIE_PREFIX) - 1
    return {
        **scope,
        "path": scope["path"][cut:],
        "raw_path": raw[cut:] or None,
        "muster.raw_path": raw or None,
        "muster.func": True,
    }


def _wants_page(scope: Scope, door: type[Door]) -> bool:
    """Whether a browser asks for the page that describes a door, where there is one."""
    if not getattr(door, "has_page", False):
        return False
    accept = b",".join(value for name, value in scope["headers"] if name.lower() == b"accept")
    return b"text/html" in accept and b"text/event-stream" not in accept


async def _unknown_path(scope: Scope, send: Send) -> None:
    problem = {"type": f"{TYPES}url-not-found", "title": "Unknown URL path.", "data": scope["path"]}
    body = json.dumps(problem).encode()
    headers = [
        (b"Content-Type", b"application/problem+json; charset=utf-8"),
        (b"Content-Length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": body})
