"""A Muster of its own for a benchmark: the Procfile's processes on a temporary home, no fleet of bin/up's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from honcho.environ import parse_procfile

from benchmarks.measure import cpu_seconds, wait_for
from benchmarks.report import ROOT
from deploy.local.keep import die_with_parent

PROCESSES = ("redis", "web", "worker", "runner", "beat")
TRACED = ("web", "worker")


class Stand:
    """Starts with an empty database; `inside` calls the product's functions, `ask` its web server."""

    def __init__(
        self,
        home: Path,
        *,
        database_url: str = "",
        extra: dict[str, str] | None = None,
        processes: tuple[str, ...] = PROCESSES,
        traced: tuple[str, ...] = TRACED,
    ) -> None:
        """`extra` is added to the environment; `traced` processes note what they spend."""
        self.home = home
        self._names, self._traced = processes, traced
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")
        }
        self.environment |= {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "MUSTER_HOME": str(home),
            "MUSTER_REDIS_URL": f"unix://{home}/run/redis.sock",
            "MUSTER_URL": self.url,
            "PORT": str(self.port),
            **({"MUSTER_DATABASE_URL": database_url} if database_url else {}),
            **(extra or {}),
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.token = ""
        self._inside: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start everything; return when the web server answers and the worker has been seen at work."""
        for name in ("run", "log", "notes"):
            (self.home / name).mkdir(parents=True)
        self.run("redis")
        command = [sys.executable, "manage.py", "bootstrap", "--url", self.url]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"the database could not be made: {done.stderr.strip()[-2000:]}")
        self.token = json.loads((self.home / "credentials.json").read_text())["token"]
        self._inside = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.inside"],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        for name in self._names[1:]:
            self.run(name)
        wait_for(self._ready, 120)

    def stop(self) -> None:
        """Stop everything."""
        if self._inside is not None:
            self._inside.kill()
            self._inside.communicate()
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def inside(self, do: str, **arguments: Any) -> Any:
        """Call a function of benchmarks.inside. Raises RuntimeError with what went wrong there."""
        assert self._inside is not None
        assert self._inside.stdin is not None
        assert self._inside.stdout is not None
        self._inside.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._inside.stdin.flush()
        answer = json.loads(self._inside.stdout.readline() or '{"error": "the process ended"}')
        if "error" in answer:
            raise RuntimeError(f"{do}: {answer['error']}")
        return answer["answer"]

    def ask(self, path: str) -> tuple[int, bytes]:
        """GET as the first user: status and body."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def notes(self, name: str) -> list[dict[str, Any]]:
        """What the traced processes of a name have noted so far."""
        found = []
        for path in sorted((self.home / "notes").glob(f"{name}.*.json")):
            with contextlib.suppress(OSError):
                found.append(json.loads(path.read_text()))
        return found

    def family(self, name: str) -> list[int]:
        """A process of the Procfile and its children."""
        pid = self.processes[name].pid
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            return [pid, *map(int, children)]
        return [pid]

    def cpu(self, name: str) -> float:
        """CPU seconds of a process of the Procfile and its children so far."""
        return sum(cpu_seconds(pid) for pid in self.family(name))

    def said(self, name: str) -> str:
        """The end of a process's log."""
        return (self.home / "log" / f"{name}.log").read_text(errors="replace")[-3000:]

    def run(self, name: str, called: str = "", **extra: str) -> None:
        """Start a line of the Procfile; a second one of a kind is `called` otherwise and has `extra` in its
        environment."""
        command = str(parse_procfile((ROOT / "Procfile").read_text()).processes[name])
        program = f'"{sys.executable}" -m'
        environment = {**self.environment, **extra}
        called = called or name
        if name in self._traced:
            program += " benchmarks.traced"
            environment["MUSTER_BENCH_SQL"] = str(self.home / "notes" / name)
        command = command.replace("python -m", program, 1)
        with (self.home / "log" / f"{called}.log").open("ab") as log:
            self.processes[called] = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )
        if name == "redis":
            wait_for((self.home / "run" / "redis.sock").exists, 30)

    def _ready(self) -> bool:
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended: {self.said(name)}")
        try:
            return self.ask("/readyz" if "worker" in self._names else "/healthz")[0] == 200
        except OSError:
            return False


class MemoryWatch:
    """The largest memory that a process and its children had together, looked at every half second.

    Shared pages count once (PSS): forked children share most of their parent's.
    """

    def __init__(self, stand: Stand, name: str) -> None:
        self._stand, self._name = stand, name
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_mb = 0.0

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            total = sum(pss_mb(pid) for pid in self._stand.family(self._name))
            self.peak_mb = max(self.peak_mb, total)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def pss_mb(pid: int) -> float:
    """Proportional set size of a process in MB; 0 where it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


@contextmanager
def stand(*, database: str, keep: bool = False, **more: Any) -> Iterator[Stand]:
    """A stand on SQLite or on a PostgreSQL of its own; everything is gone afterwards, unless kept."""
    home = Path(tempfile.mkdtemp(prefix="muster-bench-", dir="/tmp"))
    with ExitStack() as stack:
        if not keep:
            stack.callback(shutil.rmtree, home, ignore_errors=True)
        url = ""
        if database == "postgresql":
            from tests.postgres import server

            url = stack.enter_context(server())
        one = Stand(home / "home", database_url=url, **more)
        stack.callback(one.stop)
        one.start()
        yield one


def settle(seconds: float) -> None:
    """Let the traced processes write their notes, which they do once a second."""
    time.sleep(seconds)
