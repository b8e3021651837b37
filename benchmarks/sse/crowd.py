"""Thousands of listeners in one process: counts events and how late they came. JSON lines in, JSON lines out.

Reads with epoll and looks for a mark, `t=SECONDS;`, that the publisher puts into each event, so that a
delivery costs some nanoseconds and the server is the one that is measured.

Commands: {"do": "connect", "port", "count", "path", "headers"} · {"do": "listen", "expect", "limit"} answers
when that many events came or the time is over · {"do": "close"}.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

MARK = re.compile(rb"t=(\d+\.\d+);")
AT_ONCE = 64  # connections being opened
SAMPLES = 200_000


class Crowd:
    """All listeners of this process."""

    def __init__(self) -> None:
        self.sockets: dict[int, socket.socket] = {}
        self.epoll = select.epoll()
        self.buffer = bytearray(1 << 20)

    def connect(self, *, port: int, count: int, path: str, headers: dict[str, str]) -> dict[str, Any]:
        """Open `count` streams, some at a time; answers how long it took."""
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            *(f"{k}: {v}" for k, v in headers.items()),
        ]
        request = "\r\n".join([*lines, "Accept: text/event-stream", "", ""]).encode()
        began = time.monotonic()
        waiting: dict[int, tuple[socket.socket, bytes]] = {}
        opening = select.epoll()
        left, refused = count, 0
        while left or waiting:
            while left and len(waiting) < AT_ONCE:
                connection = socket.socket()
                connection.connect(("127.0.0.1", port))
                connection.sendall(request)
                connection.setblocking(False)
                opening.register(connection, select.EPOLLIN)
                waiting[connection.fileno()] = (connection, b"")
                left -= 1
            for number, _ in opening.poll(30) or _give_up("no listener got an answer within 30 s"):
                connection, head = waiting[number]
                head += connection.recv(65536)
                waiting[number] = (connection, head)
                if b"\r\n\r\n" not in head:
                    continue
                opening.unregister(number)
                del waiting[number]
                if not head.startswith(b"HTTP/1.1 200"):
                    refused += 1
                    connection.close()
                    continue
                self.sockets[number] = connection
                self.epoll.register(connection, select.EPOLLIN)
        if refused:
            _give_up(f"{refused} of {count} listeners were refused")
        return {"seconds": time.monotonic() - began}

    def listen(self, *, expect: int, limit: float) -> dict[str, Any]:
        """Read until `expect` events came or for `limit` seconds."""
        end = time.monotonic() + limit
        count, late = 0, []
        view = memoryview(self.buffer)
        while count < expect and (patience := end - time.monotonic()) > 0:
            for number, _ in self.epoll.poll(patience):
                try:
                    size = self.sockets[number].recv_into(self.buffer)
                except BlockingIOError:
                    continue
                if not size:
                    self._lost(number)
                    continue
                count += self._count(bytes(view[:size]), late)
        late.sort()
        return {"events": count, "listeners": len(self.sockets), **_percentiles(late)}

    @staticmethod
    def _count(data: bytes, late: list[float]) -> int:
        count = data.count(b"t=")
        if count and len(late) < SAMPLES:
            now = time.time()
            # The oldest and the newest of a read tell of those in between.
            for place in {data.find(b"t="), data.rfind(b"t=")}:
                match = MARK.match(data, place)
                if match:
                    late.append(now - float(match[1]))
        return count

    def _lost(self, number: int) -> None:
        self.epoll.unregister(number)
        self.sockets.pop(number).close()

    def close(self) -> dict[str, Any]:
        """Leave."""
        for number in list(self.sockets):
            self._lost(number)
        return {}


def _give_up(why: str) -> Any:
    raise RuntimeError(why)


def _percentiles(late: list[float]) -> dict[str, float]:
    if not late:
        return {"p50": 0.0, "p99": 0.0}
    return {"p50": late[len(late) // 2], "p99": late[min(int(len(late) * 0.99), len(late) - 1)]}


def commands() -> Iterator[dict[str, Any]]:
    """One per line."""
    for line in sys.stdin:
        yield json.loads(line)


def main() -> None:
    """Until standard input ends."""
    crowd = Crowd()
    for command in commands():
        try:
            answer = getattr(crowd, command.pop("do"))(**command)
        except (OSError, RuntimeError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
