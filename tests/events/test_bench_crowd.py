"""The crowd of `bin/bench sse` counts what it gets, and says so when it gets nothing."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from benchmarks.sse.crowd import Crowd
from benchmarks.sse.publisher import mark, run


class Server:
    """Answers each listener with a status and, when told to, with an event."""

    def __init__(self, status: str) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.open: list[socket.socket] = []
        self._status = status
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.recv(65536)
            connection.sendall(f"HTTP/1.1 {self._status}\r\n\r\n".encode())
            self.open.append(connection)

    def send(self, text: str) -> None:
        """To all."""
        for connection in self.open:
            connection.sendall(text.encode())

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
        for connection in self.open:
            connection.close()


def test_it_counts_events_and_how_late_they_came():
    server, crowd = Server("200 OK"), Crowd()
    crowd.connect(port=server.port, count=5, path="/", headers={"X": "y"})
    server.send(f"data: t={time.time() - 3:.6f};\n\ndata: {mark()}\n\n")
    heard = crowd.listen(expect=10, limit=30)
    assert (heard["events"], heard["listeners"]) == (10, 5)
    assert heard["p50"] < heard["p99"]
    assert heard["p99"] >= 3
    server.close()
    assert crowd.listen(expect=1, limit=0.5)["listeners"] == 0


def test_listeners_who_are_refused_are_no_listeners():
    server, crowd = Server("401 Unauthorized"), Crowd()
    with pytest.raises(RuntimeError, match="3 of 3 listeners were refused"):
        crowd.connect(port=server.port, count=3, path="/", headers={})
    server.close()


def test_the_publisher_sends_as_many_as_asked_for():
    sent: list[int] = []
    answer = run(sent.append, rate=500, seconds=0.2)
    assert answer["sent"] == sum(sent) == 100
