"""Requests that no decent client sends, byte by byte."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

LIMIT = 30.0  # seconds that a loaded machine may take


@dataclass
class Reply:
    """What came back; `status` 0 where the connection was closed without an answer."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    closed: bool = False  # the server hung up

    def header(self, name: str) -> str:
        """The first of a name, or nothing."""
        return next((value for key, value in self.headers if key == name), "")

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Wire:
    """One connection."""

    def __init__(self, port: int, limit: float = LIMIT) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), limit)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> bool:
        """Whether the other side still took it."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def is_open(self) -> bool:
        """Whether the server has said nothing yet, and not hung up either."""
        self.socket.setblocking(False)
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            self.socket.settimeout(LIMIT)

    def answered(self) -> bool:
        """Whether something has come back."""
        self.socket.setblocking(False)
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False
        finally:
            self.socket.settimeout(LIMIT)

    def read_head(self) -> Reply:
        """Status and headers, and what came with them."""
        raw = b""
        while b"\r\n\r\n" not in raw:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return Reply(closed=True)
            raw += data
        first, _, body = raw.partition(b"\r\n\r\n")
        lines = first.decode("latin-1").split("\r\n")
        pairs = [line.split(":", 1) for line in lines[1:]]
        headers = [(name.lower(), value.strip()) for name, value in pairs]
        return Reply(int(lines[0].split()[1]), headers, body)

    def read(self) -> Reply:
        """One answer, by its Content-Length or to the end."""
        reply = self.read_head()
        length = reply.header("content-length")
        while not reply.closed and (not length or len(reply.body) < int(length)):
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            reply.closed = not data
            reply.body += data
        reply.closed = reply.closed or reply.header("connection") == "close"
        return reply


def head(method: str, target: bytes, headers: dict[str, str | bytes]) -> bytes:
    """Request line and headers, whatever stands in them."""
    lines = [method.encode() + b" " + target + b" HTTP/1.1"]
    for name, value in {"Host": "127.0.0.1", **headers}.items():
        lines.append(name.encode() + b": " + (value if isinstance(value, bytes) else value.encode()))
    return b"\r\n".join([*lines, b"", b""])


def ask(
    port: int,
    method: str,
    target: str | bytes,
    body: bytes | None = None,
    headers: dict[str, str | bytes] | None = None,
) -> Reply:
    """One request on a connection of its own."""
    target = target if isinstance(target, bytes) else target.encode()
    given: dict[str, str | bytes] = {"Connection": "close", **(headers or {})}
    if body is not None:
        given.setdefault("Content-Length", str(len(body)))
    with Wire(port) as wire:
        wire.send(head(method, target, given) + (body or b""))
        return wire.read()


def chunks(size: int) -> Iterator[bytes]:
    """A body without end, in chunked encoding."""
    piece = b"%x\r\n%b\r\n" % (size, b"x" * size)
    while True:
        yield piece


def dribble(wire: Wire, data: bytes, every: float, limit: float) -> float:
    """Send byte by byte; seconds until the server hung up, or `limit`."""
    began = time.monotonic()
    for number in range(len(data)):
        if not wire.is_open() or not wire.send(data[number : number + 1]):
            break
        if time.monotonic() - began > limit:
            return limit
        time.sleep(every)
    return time.monotonic() - began
