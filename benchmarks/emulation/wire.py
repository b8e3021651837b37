"""HTTP/1.1 as far as a Redfish client speaks it, written by hand: a general server costs five times as much.

Known limits: no chunked request bodies (411), no upgrade, no trailers; heads up to 16 KiB, bodies to 64 KiB.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.emulation.bmc import Bmc, Reply, error, unauthorised
from benchmarks.emulation.options import PER_REQUEST, Fault, FleetOptions
from benchmarks.emulation.witness import WitnessLog

HEAD_LIMIT, BODY_LIMIT = 16 * 1024, 64 * 1024
PHRASES = {
    200: b"OK",
    201: b"Created",
    202: b"Accepted",
    204: b"No Content",
    400: b"Bad Request",
    401: b"Unauthorized",
    404: b"Not Found",
    405: b"Method Not Allowed",
    409: b"Conflict",
    411: b"Length Required",
    412: b"Precondition Failed",
    413: b"Content Too Large",
    428: b"Precondition Required",
    503: b"Service Unavailable",
}
Find = Callable[[str], "tuple[Bmc | None, str]"]


class Counters:
    """What the fleet has served; read by its control door."""

    __slots__ = ("connections", "faults", "open", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.connections = 0
        self.open = 0
        self.faults: dict[str, int] = {}


class Connection(asyncio.Protocol):
    """One client connection: a base that reads requests one after the other and writes replies."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._buffer = b""
        self._busy = False
        self._keep = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._busy:
            self._next()

    def _next(self) -> None:
        """Take the next whole request out of the buffer, if there is one."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_LIMIT:
                self._refuse(error(413, "GeneralError", "The request head is too long."))
            return
        try:
            method, path, headers = _parse_head(self._buffer[:end])
            length = int(headers.get("content-length", "0"))
        except ValueError:
            self._refuse(error(400, "MalformedJSON", "The request cannot be read."))
            return
        if "transfer-encoding" in headers or not 0 <= length <= BODY_LIMIT:
            self._refuse(error(411, "GeneralError", "Send a Content-Length of at most 65536."))
            return
        end += 4
        if len(self._buffer) < end + length:
            return
        body, self._buffer = self._buffer[end : end + length], self._buffer[end + length :]
        self._keep = headers.get("connection", "").lower() != "close"
        self._busy = True
        self.request(method, path, headers, body)

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Take one request; `reply` is to be called once, now or later."""
        raise NotImplementedError

    def reply(self, reply: Reply) -> None:
        """Write an answer, if the client is still there, and go on with its next request."""
        self._busy = False
        if self._transport is None:
            return
        headers = reply.headers if self._keep else reply.headers + b"Connection: close\r\n"
        if reply.status != 204:
            headers += b"Content-Length: %d\r\n" % len(reply.body)
        status = b"HTTP/1.1 %d %s\r\n" % (reply.status, PHRASES[reply.status])
        self._transport.write(status + headers + b"\r\n" + reply.body)
        if not self._keep:
            self._transport.close()
        elif self._buffer:
            self._next()

    def reset(self) -> None:
        """Break the connection by a TCP reset."""
        if self._transport is not None:
            link = self._transport.get_extra_info("socket")
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def _refuse(self, reply: Reply) -> None:
        self._keep, self._buffer = False, b""
        self.reply(reply)


class BmcConnection(Connection):
    """A connection to one BMC (address, port) or to all of them (path); here the faults happen."""

    def __init__(self, find: Find, options: FleetOptions, log: WitnessLog, counters: Counters) -> None:
        super().__init__()
        self._find = find
        self._options = options
        self._log = log
        self._counters = counters
        self._left: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._counters.connections += 1
        self._counters.open += 1

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._left = time.monotonic()
        self._counters.open -= 1

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        self._counters.requests += 1
        bmc, path = self._find(path)
        if bmc is None:
            self.reply(error(404, "ResourceMissingAtURI", "There is no such BMC."))
            return
        fault = self._fault(bmc)
        if fault is not None:
            self._counters.faults[fault] = self._counters.faults.get(fault, 0) + 1
        delay = self._options.delay + (self._options.slow_seconds if fault is Fault.SLOW else 0.0)
        received = time.monotonic()
        if delay and fault is not Fault.HANG:
            asyncio.get_running_loop().call_later(
                delay, self._decide, bmc, fault, received, method, path, headers, body
            )
        else:
            self._decide(bmc, fault, received, method, path, headers, body)

    def _fault(self, bmc: Bmc) -> Fault | None:
        if bmc.fault is not None:
            # A BMC that died is gone for connections made before, too.
            gone = {Fault.DEAD: Fault.RESET, Fault.SILENT: Fault.HANG}
            return bmc.fault if bmc.fault in PER_REQUEST else gone.get(bmc.fault)
        if not self._options.flaky:
            return None
        share = bmc.draw()
        for fault, rate in self._options.flaky.items():
            if share < rate:
                return fault
            share -= rate
        return None

    def _decide(
        self,
        bmc: Bmc,
        fault: Fault | None,
        received: float,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> None:
        """Carry the request out, or not; log it; answer. Done whether or not the client still waits."""
        before, pending = bmc.power, bmc.pending
        if fault is Fault.BUSY:
            wait = f"Retry-After: {self._options.retry_after}\r\n".encode()
            reply = error(503, "ServiceTemporarilyUnavailable", "The BMC is busy.", wait)
        elif fault is Fault.UNAUTHORISED:
            reply = unauthorised()
        elif fault in (Fault.HANG, Fault.RESET):
            reply = Reply(0)
        else:
            reply = bmc.answer(method, path, headers, body)
        if bmc.is_change(method, path):
            self._log.write(
                kind="request",
                bmc=bmc.xname,
                received=round(received, 6),
                left=self._left and round(self._left, 6),
                method=method,
                path=path,
                body=_readable(body),
                status=0 if fault is Fault.LOST else reply.status,
                applied=200 <= reply.status < 300,
                fault=fault,
                before=before,
                after=bmc.power,
                pending=pending,
            )
        if fault in (Fault.RESET, Fault.LOST):
            self.reset()
        elif fault is not Fault.HANG:
            self.reply(reply)


def _parse_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Method, path without its query, headers by lower-case name. Raises ValueError."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _version = first.split(" ")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError("a header without a colon")
        headers[name.lower()] = value.strip()
    return method, target.partition("?")[0], headers


def _readable(body: bytes) -> Any:
    """A logged body: JSON as such, anything else as text."""
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
