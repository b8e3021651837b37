"""Clients with cursors: each listens, comes back with `Last-Event-ID` whatever ends its stream, and keeps the
number and the mark of every event that it saw. All of them live in one event loop in a thread of its own.

The wire is read by this file alone, so that nothing of the product checks itself: chunks, blocks, fields.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import socket
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

MARK = re.compile(rb"k(\d+)z")  # what a writer puts into each event, to tell it from all others
EVENT_ID = re.compile(rb"^id: ?(.*?)\r?$", re.MULTILINE)
NAME = re.compile(rb"^event: ?(.*?)\r?$", re.MULTILINE)
DATA = re.compile(rb"^data: ?(.*?)\r?$", re.MULTILINE)
BLANK = re.compile(rb"\r?\n\r?\n")
SILENCE = 45.0  # seconds; a heartbeat comes each 15 or 20
PAUSE = 0.1  # before coming back


class BadWire(Exception):
    """What came is not HTTP/1.1's chunked encoding, or not an event stream."""


class Chunks:
    """Undoes chunked encoding."""

    def __init__(self) -> None:
        self._rest = b""
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """What these bytes complete. Raises BadWire."""
        data, begin, found = self._rest + data, 0, []
        while not self.ended:
            end = data.find(b"\r\n", begin)
            if end < 0:
                break
            try:
                size = int(data[begin:end], 16)
            except ValueError:
                raise BadWire(f"no chunk begins with {data[begin : begin + 40]!r}") from None
            after = end + 2 + size
            if len(data) < after + 2:
                break
            if data[after : after + 2] != b"\r\n":
                raise BadWire(f"a chunk of {size} bytes does not end there")
            self.ended = size == 0
            found.append(data[end + 2 : after])
            begin = after + 2
        self._rest = data[begin:]
        return b"".join(found)


class Follower:
    """One client. `ports` are tried in turn, from `first` on; `cursor` is where it begins.

    `restless`: leaves by itself every so many seconds, in the midst of whatever comes. `pace`: reads no more
    than so many bytes a second, through a small buffer. `keeps`: also keep the data of events of this name.
    """

    def __init__(
        self,
        ports: Sequence[int],
        path: str,
        headers: Mapping[str, str],
        *,
        cursor: str,
        first: int = 0,
        restless: float = 0.0,
        pace: int = 0,
        keeps: str = "",
    ) -> None:
        self.path = path
        self.cursor = cursor
        self.numbers = array("q")
        self.marks = array("q")
        self.kept: list[dict[str, Any]] = []
        self.names: Counter[str] = Counter()  # of events without an id
        self.refused: Counter[int] = Counter()  # by status
        self.connections = 0
        self.silent = 0  # how often nothing came on an open stream, not even a heartbeat
        self.waited = 0.0  # the longest it took to get an answer, in seconds
        self.closed = False  # the stream said `server_close` and ended
        self.fault = ""
        self._ports, self._headers, self._turn = ports, dict(headers), first
        self.restless = restless
        self._pace, self._keeps = pace, keeps.encode()
        self._dice = random.Random(first)

    async def follow(self) -> None:
        """Listen and come back until the stream says that it is over, or something is wrong with it."""
        while not self.closed and not self.fault:
            leave = self._dice.uniform(0.1, 2 * self.restless) if self.restless else None
            try:
                async with asyncio.timeout(leave):
                    await self._listen(self._ports[self._turn % len(self._ports)])
            except BadWire as wrong:
                self.fault = str(wrong)
            except (TimeoutError, OSError):
                pass
            self._turn += 1
            await asyncio.sleep(PAUSE * self._dice.uniform(0.5, 1.5))

    async def _listen(self, port: int) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        if self._pace:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        loop = asyncio.get_running_loop()
        with contextlib.closing(connection):
            began = loop.time()
            await loop.sock_connect(connection, ("127.0.0.1", port))
            headers = {"Host": f"127.0.0.1:{port}", **self._headers, "Last-Event-ID": self.cursor}
            lines = [f"GET {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
            await loop.sock_sendall(connection, "\r\n".join([*lines, "", ""]).encode())
            head = b""
            while b"\r\n\r\n" not in head:
                data = await loop.sock_recv(connection, 65536)
                if not data:
                    return
                head += data
            self.waited = max(self.waited, loop.time() - began)
            head, rest = head.split(b"\r\n\r\n", 1)
            status = int(head.split(None, 2)[1])
            if status != 200:
                self.refused[status] += 1
                await asyncio.sleep(1.0)
                return
            if b"transfer-encoding: chunked" not in head.lower():
                raise BadWire(f"a stream without chunks: {head!r}")
            self.connections += 1
            await self._take_all(connection, rest)

    async def _read(self, connection: socket.socket) -> bytes:
        size = 256 * 1024
        if self._pace:
            size = 4096
            await asyncio.sleep(size / self._pace)
        loop = asyncio.get_running_loop()
        silent = loop.time() + SILENCE
        try:
            async with asyncio.timeout_at(silent):
                return await loop.sock_recv(connection, size)
        except TimeoutError:
            if loop.time() >= silent:
                self.silent += 1
            raise

    async def _take_all(self, connection: socket.socket, data: bytes) -> None:
        chunks, text = Chunks(), b""
        while True:
            *blocks, text = BLANK.split(text + chunks.feed(data))
            for block in blocks:
                self._take(block)
            if chunks.ended:
                return
            data = await self._read(connection)
            if not data:
                return

    def _take(self, block: bytes) -> None:
        name, number = NAME.search(block), EVENT_ID.search(block)
        if self._keeps and name and name[1] == self._keeps:
            data = DATA.search(block)
            self.kept.append(json.loads(data[1]) if data else {})
        if number is None:
            if name:
                self.names[name[1].decode()] += 1
                self.closed = name[1] == b"server_close"
            return
        if name and name[1] == b"stream-reset":
            self.names["stream-reset"] += 1
        self.cursor = number[1].decode()
        mark = MARK.search(block)
        self.numbers.append(int(number[1].rpartition(b":")[2]))
        self.marks.append(int(mark[1]) if mark else -1)


class Followers:
    """Many of them, followed in a thread until `stop`."""

    def __init__(self) -> None:
        self.all: list[Follower] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def add(self, *followers: Follower) -> None:
        """Let these follow."""
        for one in followers:
            self.all.append(one)
            asyncio.run_coroutine_threadsafe(one.follow(), self._loop)

    def wait(self, check: Callable[[Follower], object], limit: float) -> None:
        """Wait until `check` holds for all; no longer than `limit` seconds after something last came."""
        deadline, seen = 0.0, -1
        while not all(check(one) for one in self.all):
            came = sum(len(one.numbers) for one in self.all)
            if came != seen:
                seen, deadline = came, time.monotonic() + limit
            elif time.monotonic() > deadline:
                return
            time.sleep(0.1)

    @property
    def connections(self) -> int:
        """How often all of them have connected."""
        return sum(one.connections for one in self.all)

    def stop(self) -> None:
        """Leave, all at once."""

        async def end() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()
