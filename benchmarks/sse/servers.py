"""Servers of the benchmark, each a process on one core: Muster's web process, nginx with nchan."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import cpu_seconds, memory_mb, wait_for
from benchmarks.report import ROOT
from deploy.local.keep import die_with_parent
from deploy.local.valkey import arguments

PATIENCE = 180.0  # seconds for a server to start: the machine may be busy with others
NCHAN_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
NGINX = """
load_module {module};
worker_processes 1;
worker_rlimit_nofile 20000;
daemon off;
pid {home}/nginx.pid;
error_log {home}/nginx.log error;
events {{ worker_connections 19000; }}
http {{
  access_log off;
  keepalive_requests 10000000;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  nchan_shared_memory_size 256M;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /pub {{
      nchan_publisher http; nchan_channel_id bench; nchan_message_buffer_length 100;
      nchan_message_timeout 5s;
    }}
    location = /sub {{
      nchan_subscriber eventsource; nchan_channel_id bench; nchan_subscriber_first_message newest;
      nchan_eventsource_event session_started;
    }}
  }}
}}
"""


def free_port() -> int:
    """A TCP port that nobody has."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def cores() -> tuple[set[int], set[int]]:
    """For the server; for all others. The same where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return ({allowed[0]}, set(allowed[1:])) if len(allowed) > 1 else (set(allowed), set(allowed))


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Talk:
    """A process that answers JSON lines."""

    def __init__(self, command: list[str], env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=dict(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            preexec_fn=_on(cores()[1]),
        )  # fmt: skip

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self.tell(**command)
        return self.hear()

    def tell(self, **command: Any) -> None:
        """Send a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """The next answer. Raises RuntimeError where something went wrong there."""
        assert self._process.stdout is not None
        answer = json.loads(self._process.stdout.readline() or '{"error": "the process ended"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


def _on(cores: set[int]) -> Any:
    def prepare() -> None:
        die_with_parent()
        os.sched_setaffinity(0, cores)

    return prepare


class Server:
    """What is measured: a process, its port, its publisher."""

    name = ""
    path = ""
    headers: dict[str, str] = {}

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.publisher: Talk | None = None

    def start(self) -> None:
        """Start it and its publisher."""
        raise NotImplementedError

    def _run(self, command: list[str], env: Mapping[str, str] | None = None) -> None:
        log = (self.home / f"{self.name.split()[0]}.log").open("ab")
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=dict(env or os.environ), stdout=log, stderr=log, preexec_fn=_on(cores()[0])
        )
        wait_for(lambda: answers(self.port), PATIENCE)

    def workers(self) -> list[int]:
        """The processes that serve."""
        assert self.process is not None
        return [self.process.pid]

    def memory(self) -> float:
        """Resident memory of those, in KiB."""
        return sum(memory_mb(pid)[0] for pid in self.workers()) * 1e6 / 1024

    def cpu(self) -> float:
        """CPU seconds of those so far."""
        return sum(cpu_seconds(pid) for pid in self.workers())

    def stop(self) -> None:
        """Stop both."""
        if self.publisher is not None:
            self.publisher.close()
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Nchan(Server):
    """nginx with nchan, as Debian packs it."""

    name = "nchan"
    path = "/sub"

    @staticmethod
    def missing() -> str:
        """What this machine lacks for it."""
        if shutil.which("nginx") is None or not NCHAN_MODULE.exists():
            return "nginx with nchan is not installed (Debian: apt install nginx libnginx-mod-nchan)"
        return ""

    def start(self) -> None:
        config = self.home / "nginx.conf"
        config.write_text(NGINX.format(module=NCHAN_MODULE, home=self.home, port=self.port))
        self._run(["nginx", "-c", str(config), "-p", str(self.home), "-e", str(self.home / "nginx.log")])
        command = [sys.executable, "-m", "benchmarks.sse.publisher", "nchan", str(self.port)]
        self.publisher = Talk(command, os.environ)

    def workers(self) -> list[int]:
        """nginx's one worker; the master only watches it."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(child) for child in children]


class Muster(Server):
    """One web process of Muster through its real door: identity, filter, replay, the event table."""

    path = "/events/session"

    def __init__(self, home: Path, server: str, database_url: str = "") -> None:
        super().__init__(home)
        self.name = server
        self._redis: subprocess.Popen[bytes] | None = None
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")},
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "MUSTER_HOME": str(home),
            "MUSTER_STREAMS_PER_USER": "0",
            "MUSTER_REDIS_URL": f"unix://{home}/run/redis.sock",
            **({"MUSTER_DATABASE_URL": database_url} if database_url else {}),
        }

    def start(self) -> None:
        run = self.home / "run"
        if not run.exists():
            run.mkdir()
            self._django(["manage.py", "migrate", "--verbosity", "0"])
        self._redis = subprocess.Popen(
            arguments(self.environment["MUSTER_REDIS_URL"], run), stdout=subprocess.DEVNULL,
            preexec_fn=_on(cores()[1]),
        )  # fmt: skip
        token = self._django(["-c", MAKE_KEY]).strip().splitlines()[-1]
        self.headers = {"Authorization": f"Bearer {token}"}
        self.start_web()
        self.publisher = Talk([sys.executable, "-m", "benchmarks.sse.publisher", "muster"], self.environment)

    def start_web(self) -> None:
        """The web process alone."""
        modules = {
            "daphne": ["config.server", "-e", f"tcp:port={self.port}:interface=127.0.0.1:backlog=1024"],
            "uvicorn": ["uvicorn", "--host", "127.0.0.1", "--port", str(self.port), "--log-level", "warning",
                        "--backlog", "4096"],
        }  # fmt: skip
        self._run([sys.executable, "-m", *modules[self.name], "config.asgi:application"], self.environment)

    def _django(self, arguments: list[str]) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{arguments[0]} failed: {done.stderr.strip()[-1000:]}")
        return done.stdout

    def stop(self) -> None:
        super().stop()
        if self._redis is not None:
            self._redis.kill()
            self._redis.wait()


PROXY = """
worker_processes 1;
worker_rlimit_nofile 20000;
daemon off;
pid {home}/nginx.pid;
error_log {home}/nginx.log error;
events {{ worker_connections 19000; }}
http {{
  access_log off;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  upstream muster {{ least_conn; {backends} }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://muster; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host; proxy_buffering off; proxy_read_timeout 1h;
    }}
  }}
}}
"""


class Behind(Server):
    """Two of Muster's web processes behind nginx: each has half of the listeners, nginx has all."""

    path = Muster.path

    def __init__(self, home: Path, server: str) -> None:
        super().__init__(home)
        self.name = f"nginx-{server}"
        self._backends = [Muster(home, server), Muster(home, server)]

    def start(self) -> None:
        first, second = self._backends
        first.start()
        second.start_web()
        self.headers, self.publisher = first.headers, first.publisher
        config = self.home / "proxy.conf"
        backends = " ".join(f"server 127.0.0.1:{backend.port};" for backend in self._backends)
        config.write_text(PROXY.format(home=self.home, port=self.port, backends=backends))
        self._run(["nginx", "-c", str(config), "-p", str(self.home), "-e", str(self.home / "nginx.log")])

    def workers(self) -> list[int]:
        """The web processes; nginx is told apart."""
        return [pid for backend in self._backends for pid in backend.workers()]

    def stop(self) -> None:
        for backend in reversed(self._backends):
            backend.stop()
        self.publisher = None
        super().stop()


MAKE_KEY = """
import django; django.setup()
from accounts_app.models import User
from accounts_app.services import issue_key
user, _ = User.objects.get_or_create(username="bench", defaults={"role": "superadmin"})
print(issue_key(user=user, actor=None).token)
"""
