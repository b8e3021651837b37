"""What tests of all apps share: waiting for a condition, the embedded Redis, a whole running Muster."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import redis

from deploy.local.home import MARK
from deploy.local.keep import die_with_parent
from deploy.local.valkey import arguments

PROJECT = Path(__file__).resolve().parent.parent
T = TypeVar("T")


def wait_until(condition: Callable[[], T], limit: float = 60.0, what: str = "", every: float = 0.05) -> T:
    """The first true answer of `condition`; AssertionError when there is none within `limit` seconds."""
    deadline = time.monotonic() + limit
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(
                f"Waited {limit:.0f} s in vain for {what or condition}; last answer: {answer!r}"
            )
        time.sleep(every)


class RedisServer:
    """The embedded Valkey on a unix socket; a test may stop it, start it again and flush it."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers."""
        if self.running:
            return
        self._process = subprocess.Popen(
            arguments(self.url, self._directory), stdout=subprocess.DEVNULL, preexec_fn=die_with_parent
        )
        wait_until(self._answers, what="the embedded Valkey")

    def stop(self) -> None:
        """Kill it: what it held is gone, and clients find nobody."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self.socket.unlink(missing_ok=True)

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def flush(self) -> None:
        """Forget everything at once."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


@dataclass
class Answer:
    """Of an HTTP request: status, headers, text."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)


def request(
    url: str,
    method: str = "GET",
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30,
) -> Answer:
    """One HTTP request; errors of the server are answers, a connection that fails is an OSError."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **(headers or {})}
    ask = urllib.request.Request(url, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(ask, timeout=timeout) as answer:
            return Answer(answer.status, answer.headers, answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read().decode())


class Product:
    """A whole Muster as `bin/up` starts it, on a free port, below a directory of its own."""

    def __init__(self, home: Path, *, nodes: int, env: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.nodes = nodes
        self.output = home.with_name(f"{home.name}.out")
        self.process: subprocess.Popen[bytes] | None = None
        # What the tests' own settings say must not reach it.
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
        self._env.update(env or {})

    def start(self, *options: str) -> None:
        """Start it; `wait_ready` waits for it."""
        command = ["bin/up", "--port", "0", "--home", str(self.home), "--nodes", str(self.nodes), *options]
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                cwd=PROJECT,
                env=self._env,
                stdout=out,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )

    def wait_ready(self, limit: float = 180) -> None:
        """Until it says so."""
        self._wait_for("Muster is ready at", limit)

    def wait_demo(self, limit: float = 300) -> None:
        """Until the first session is over."""
        self._wait_for("goes on running", limit)

    def _wait_for(self, words: str, limit: float) -> None:
        self.wait_until(lambda: self.ended or words in self.said, limit, f"'{words}'")
        assert not self.ended, self.said

    def wait_until(self, condition: Callable[[], T], limit: float = 60.0, what: str = "") -> T:
        """As the function of this name; a failure also tells the last words of every process."""
        try:
            return wait_until(condition, limit, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.last_words()}") from None

    def last_words(self, lines: int = 15) -> str:
        """The end of the terminal's output and of each log, for a failure's message."""
        parts = [f"-- terminal\n{self.said[-2000:]}"]
        for path in sorted((self.home / "log").glob("*.log")):
            end = path.read_text(errors="replace").splitlines()[-lines:]
            parts.append("\n".join([f"-- {path.name}", *(line[:250] for line in end)]))
        return "\n".join(parts)

    @property
    def said(self) -> str:
        """All that the terminal got."""
        return self.output.read_text(errors="replace")

    @property
    def ended(self) -> bool:
        """Whether the supervisor is gone."""
        return self.process is None or self.process.poll() is not None

    @property
    def credentials(self) -> dict[str, str]:
        """HOME/credentials.json."""
        return json.loads((self.home / "credentials.json").read_text())

    @property
    def url(self) -> str:
        """Of the web server."""
        return self.credentials["url"]

    def ask(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
        """One request as the first user."""
        return request(
            self.url + path, method, body, {"Authorization": f"Bearer {self.credentials['token']}", **headers}
        )

    def pid(self, name: str) -> int:
        """Of one process of the Procfile, as its keeper noted it."""
        return json.loads((self.home / "run" / f"{name}.pid.json").read_text())["pid"]

    def kill(self, name: str) -> None:
        """kill -9 one process of the Procfile, and wait until another one has taken its place."""
        killed = self.pid(name)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: self._replaced(name, killed), what=f"{name} to be started again")

    def _replaced(self, name: str, killed: int) -> bool:
        try:
            return self.pid(name) != killed and psutil.pid_exists(self.pid(name))
        except (OSError, ValueError):
            return False

    def processes(self) -> list[psutil.Process]:
        """Everything that belongs to it, found by the mark in its environment, and the supervisor's own."""
        found = []
        for process in psutil.process_iter():
            try:
                if self._owns(process) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def _owns(self, process: psutil.Process) -> bool:
        if process.environ().get(MARK) == str(self.home):
            return True
        command = process.cmdline()
        return "deploy.local.up" in command and str(self.home) in command

    def stop(self, number: int = signal.SIGTERM, limit: float = 30) -> int:
        """End it as a person would; answers the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(limit)

    def end(self) -> None:
        """End it in any way, for the end of a test."""
        if not self.ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop()
        for process in self.processes():
            process.kill()
        if self.process is not None:
            self.process.wait(10)
