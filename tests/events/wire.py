"""A real web server for tests of the streams, and listeners that read the wire byte by byte."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from django.conf import settings
from django.db import connection

from deploy.local.keep import die_with_parent
from tests.base import PROJECT, wait_until

LIMIT = 60.0


def free_port() -> int:
    """A TCP port that nobody has."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def database_url() -> str:
    """The test database, for another process."""
    values = connection.settings_dict
    if "sqlite3" in values["ENGINE"]:
        return f"sqlite:///{values['NAME']}"
    host = str(values["HOST"]).replace("/", "%2F")
    port = f":{values['PORT']}" if values["PORT"] else ""
    return f"postgres://{values['USER']}:{values['PASSWORD']}@{host}{port}/{values['NAME']}"


class Web:
    """One web process (Daphne, or uvicorn) on the test's database and Redis."""

    def __init__(self, directory: Path, server: str = "daphne", **env: str) -> None:
        self.port = free_port()
        self.log = directory / f"web-{self.port}.log"
        self._server = server
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")},
            "MUSTER_HOME": str(directory),
            "MUSTER_DATABASE_URL": database_url(),
            "MUSTER_REDIS_URL": settings.REDIS_URL,
            "MUSTER_SECRET_KEY": settings.SECRET_KEY,
            "MUSTER_ENCRYPTION_KEYS": ",".join(settings.MUSTER_ENCRYPTION_KEYS),
            **env,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Web:
        """Start it and wait until it answers."""
        options = {
            "daphne": ["-m", "config.server", "-b", "127.0.0.1", "-p", str(self.port),
                       "config.asgi:application"],
            "uvicorn": ["-m", "uvicorn", "--host", "127.0.0.1", "--port", str(self.port), "--log-level",
                        "warning", "config.asgi:application"],
        }  # fmt: skip
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, *options[self._server]],
                cwd=PROJECT, env=self.env, stdout=out, stderr=out, preexec_fn=die_with_parent,
            )  # fmt: skip
        wait_until(self._answers, LIMIT, f"the web server; it said: {self.said}")
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.said
        try:
            return self.ask("/healthz")[0] == 200
        except OSError:
            return False

    @property
    def said(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As a supervisor stops it; its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(LIMIT)
        self.process = None
        return code

    def ask(
        self, path: str, method: str = "GET", body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower case) and body of an answer that ends."""
        with Listener(self.port, path, headers or {}, method=method, body=body) as listener:
            listener.read_to_end()
            return listener.status, listener.headers, listener.body

    def listen(self, path: str, headers: Mapping[str, str] | None = None, **options: Any) -> Listener:
        """A stream; its answer's head has been read."""
        listener = Listener(self.port, path, headers or {}, **options)
        listener.read_head()
        return listener


class Listener:
    """One HTTP/1.1 request on a socket of its own; keeps every byte of the body."""

    def __init__(
        self,
        port: int,
        path: str,
        headers: Mapping[str, str],
        *,
        method: str = "GET",
        body: bytes = b"",
        receive_buffer: int = 0,
    ) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(LIMIT)
        self.socket.connect(("127.0.0.1", port))
        lines = [f"{method} {path} HTTP/1.1"]
        given = {"Host": f"127.0.0.1:{port}", **headers}
        if body:
            given["Content-Length"] = str(len(body))
        lines += [f"{name}: {value}" for name, value in given.items()]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        self.raw = b""  # what came beyond the head
        self.status = 0
        self.headers: dict[str, str] = {}
        self.ended = False  # the response is complete

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave."""
        self.socket.close()

    def read_head(self) -> None:
        """Status and headers."""
        while b"\r\n\r\n" not in self.raw:
            data = self.socket.recv(65536)
            assert data, f"closed before the head was there: {self.raw!r}"
            self.raw += data
        head, self.raw = self.raw.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1])
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()

    def read_more(self, patience: float = LIMIT) -> bool:
        """Read what comes next; False at the end of the connection or when nothing came."""
        self.socket.settimeout(patience)
        try:
            data = self.socket.recv(1 << 20)
        except (TimeoutError, ConnectionResetError):
            return False
        self.raw += data
        return bool(data)

    def read_to_end(self) -> None:
        """Until the response is complete."""
        if not self.status:
            self.read_head()
        while not self.complete:
            assert self.read_more(), f"the response did not end: {self.raw[-200:]!r}"

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return self.headers.get("transfer-encoding", "").lower() == "chunked"

    @property
    def chunks(self) -> list[bytes]:
        """The complete chunks so far; the last, empty one too."""
        found, rest = [], self.raw
        while b"\r\n" in rest:
            size_text, rest = rest.split(b"\r\n", 1)
            size = int(size_text, 16)
            if len(rest) < size + 2:
                break
            found.append(rest[:size])
            assert rest[size : size + 2] == b"\r\n"
            rest = rest[size + 2 :]
        return found

    @property
    def complete(self) -> bool:
        """Whether the response has ended properly."""
        if self.chunked:
            return self.raw.endswith(b"0\r\n\r\n") and self.chunks[-1:] == [b""]
        return len(self.raw) >= int(self.headers.get("content-length", 0))

    @property
    def body(self) -> bytes:
        """The body so far, without chunks."""
        return b"".join(self.chunks) if self.chunked else self.raw

    @property
    def events(self) -> list[dict[str, str]]:
        """Complete events so far: the fields event, data, id, retry."""
        return parse(self.body.decode())

    def wait_for(self, count: int, limit: float = LIMIT) -> list[dict[str, str]]:
        """Read until there are this many events; all of them."""
        deadline = time.monotonic() + limit
        while len(self.events) < count:
            left = deadline - time.monotonic()
            assert left > 0, f"{len(self.events)} events of {count}: {self.body[-300:]!r}"
            if not self.read_more(min(left, 1.0)) and self.complete:
                break
        assert len(self.events) >= count, self.body
        return self.events


def parse(text: str) -> list[dict[str, str]]:
    """Events of a text/event-stream, as a browser reads it; an unfinished one is none."""
    found = []
    blocks = text.replace("\r\n", "\n").split("\n\n")
    for block in blocks[:-1]:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, colon, value = line.partition(":")
            if not name and colon:
                continue
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value
        if fields:
            found.append(fields)
    return found


def data_of(event: dict[str, str]) -> Any:
    """An event's JSON."""
    return json.loads(event["data"])


def bearer(issued: Any) -> dict[str, str]:
    """Headers of a key."""
    return {"Authorization": f"Bearer {issued.token}"}
