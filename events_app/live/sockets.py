"""Writing to a listener's connection without going through the server's ASGI `send` each time.

The servers' own `send` costs six to nine times the CPU of writing to the transport, and Daphne's never
waits, so nobody would notice a listener who does not read. The response is started by `send`; from then on
these classes write, and tell how much lies unsent. They use what the servers don't promise, so each looks
first whether all of it is there; else `PlainSocket` goes through `send`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

Send = Callable[[dict[str, Any]], Awaitable[None]]


def chunk(body: bytes) -> bytes:
    """`body` as one chunk of HTTP/1.1's chunked encoding."""
    return b"%x\r\n%b\r\n" % (len(body), body)


def socket_for(send: Send) -> Socket:
    """The quickest way to write that the server behind `send` allows."""
    return DaphneSocket.of(send) or UvicornSocket.of(send) or PlainSocket(send)


class Socket:
    """A started response. `framed`: it takes chunks (see `chunk`), else plain bodies."""

    __slots__ = ()
    framed = False

    def write(self, data: bytes) -> None:
        """Write at once what the kernel takes and keep the rest."""
        raise NotImplementedError

    def unsent(self) -> int:
        """How many bytes the kernel has not taken yet."""
        raise NotImplementedError

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        raise NotImplementedError

    def end(self) -> None:
        """End the response; the connection may serve another request."""
        raise NotImplementedError

    def abort(self) -> None:
        """Drop the connection with what lies unsent."""
        raise NotImplementedError


class DaphneSocket(Socket):
    """A plain TCP (or unix) connection of Daphne: its Twisted transport."""

    __slots__ = ("_request", "_transport", "framed")

    def __init__(self, request: Any, transport: Any) -> None:
        self._request = request
        self._transport = transport
        self.framed = bool(request.chunked)

    @classmethod
    def of(cls, send: Send) -> DaphneSocket | None:
        """None unless `send` is Daphne's and its transport is as expected; never under TLS or HTTP/2."""
        http = sys.modules.get("daphne.http_protocol")
        tcp = sys.modules.get("twisted.internet.tcp")
        arguments: Any = getattr(send, "args", ())
        if http is None or tcp is None or len(arguments) != 1:
            return None
        request = arguments[0]
        if not isinstance(request, http.WebRequest) or not getattr(request, "startedWriting", 0):
            return None
        transport = getattr(getattr(request, "channel", None), "transport", None)
        if not isinstance(transport, tcp.Connection) or getattr(transport, "TLS", False):
            return None
        if not all(hasattr(transport, name) for name in ("socket", "_tempDataLen", "dataBuffer", "offset")):
            return None
        return cls(request, transport)

    def write(self, data: bytes) -> None:
        transport = self._transport
        if not transport.connected or transport.disconnecting:
            return
        # Only with nothing of Twisted's own in between is writing past it in order.
        if not transport._tempDataLen and not transport.dataBuffer:
            try:
                sent = transport.socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return  # Twisted finds the same when it next looks, and tells
            if sent == len(data):
                return
            data = data[sent:]
        transport.write(data)

    def unsent(self) -> int:
        transport = self._transport
        return len(transport.dataBuffer) - transport.offset + transport._tempDataLen

    @property
    def closed(self) -> bool:
        return not self._transport.connected

    def end(self) -> None:
        if self.closed:
            return
        self._request.handle_reply({"type": "http.response.body", "body": b"", "more_body": False})
        # Not left to the reactor's next turn: when the process is told to stop there is none.
        if self._transport.connected and self.unsent():
            with contextlib.suppress(OSError):
                self._transport.doWrite()

    def abort(self) -> None:
        if not self.closed:
            self._transport.abortConnection()


class UvicornSocket(Socket):
    """A plain connection of uvicorn: its asyncio (or uvloop) transport."""

    __slots__ = ("_cycle", "_ending", "_transport", "framed")

    def __init__(self, cycle: Any) -> None:
        self._cycle = cycle
        self._transport = cycle.transport
        self._ending: asyncio.Task[None] | None = None
        # With h11 the cycle does not say; there, too, what has no length is chunked for HTTP/1.1.
        self.framed = bool(getattr(cycle, "chunked_encoding", cycle.scope.get("http_version") == "1.1"))

    @classmethod
    def of(cls, send: Send) -> UvicornSocket | None:
        """None unless `send` is uvicorn's; never under TLS."""
        cycle = getattr(send, "__self__", None)
        if cycle is None or not type(cycle).__module__.startswith("uvicorn.protocols.http."):
            return None
        transport: Any = getattr(cycle, "transport", None)
        if not hasattr(cycle, "disconnected") or not hasattr(transport, "get_write_buffer_size"):
            return None
        return None if transport.get_extra_info("sslcontext") else cls(cycle)

    def write(self, data: bytes) -> None:
        if not self.closed:
            self._transport.write(data)

    def unsent(self) -> int:
        return 0 if self._transport.is_closing() else int(self._transport.get_write_buffer_size())

    @property
    def closed(self) -> bool:
        return bool(self._cycle.disconnected) or self._transport.is_closing()

    def end(self) -> None:
        if not self.closed:
            last = {"type": "http.response.body", "body": b"", "more_body": False}
            self._ending = asyncio.ensure_future(self._cycle.send(last))

    def abort(self) -> None:
        self._transport.abort()


class PlainSocket(Socket):
    """Any other server: through `send`, one message after the other."""

    __slots__ = ("_ended", "_queue", "_send", "_task", "_unsent")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._queue: deque[bytes | None] = deque()
        self._unsent = 0
        self._ended = False
        self._task: asyncio.Task[None] | None = None

    def write(self, data: bytes) -> None:
        if self._ended:
            return
        self._queue.append(data)
        self._unsent += len(data)
        self._start()

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        while self._queue:
            body = self._queue.popleft()
            message = {"type": "http.response.body", "body": body or b"", "more_body": body is not None}
            try:
                await self._send(message)
            except Exception:  # each server has its own way to say that the listener left
                self.abort()
                return
            self._unsent -= len(body or b"")

    def unsent(self) -> int:
        return self._unsent

    @property
    def closed(self) -> bool:
        return self._ended and not self._queue

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._queue.append(None)
            self._start()

    def abort(self) -> None:
        self._ended = True
        self._queue.clear()
        self._unsent = 0
