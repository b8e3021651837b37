"""A worker in a thread, a client of the documented API, modules that Terraform can use without a network."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client

from accounts_app.models import User
from deploy.local.keep import die_with_parent
from tasks_app import engine, firing, recovery
from tasks_app.watching import Watcher
from tests.base import PROJECT, wait_until
from tests.factories import make_key, make_olga
from tests.tasks.consul import REASON, ConsulServer, find_binary

TERRAFORM = shutil.which("terraform")
needs_terraform = pytest.mark.skipif(not TERRAFORM, reason="the program terraform is not installed")


@pytest.fixture(autouse=True)
def task_home(tmp_path: Path, settings: Any) -> Path:
    """Tasks of a test live in a directory of its own, without Consul."""
    settings.MUSTER_TASKS_HOME = tmp_path / "tasks"
    settings.MUSTER_CONSUL = {"address": "", "token": ""}
    settings.MUSTER_TASK_BUFFER = (0.0, 0.0)
    return tmp_path


class Worker:
    """Takes due runs in a thread, as the second Celery worker does."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._loop, daemon=True) for _ in range(2)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def _loop(self) -> None:
        try:
            while not self._stop.wait(0.02):
                firing.fire_due()
                engine.work()
                recovery.sweep()
        finally:
            connection.close()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture
def worker(transactional_db: None) -> Iterator[Worker]:
    """A worker that works for as long as the test lasts."""
    running = Worker()
    running.start()
    yield running
    running.stop()


class Api:
    """The documented API as one user sees it; answers are (status, JSON, response)."""

    def __init__(self, token: str, **headers: str) -> None:
        self.client = Client()
        self.headers = {"Authorization": f"Bearer {token}", **headers}

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        data = body if isinstance(body, str | bytes) else "" if body is None else json.dumps(body)
        content_type = headers.pop("content_type", "application/json")
        answer = self.client.generic(
            method, path, data, content_type=content_type, headers={**self.headers, **headers}
        )
        try:
            answer.found = json.loads(answer.content) if answer.content else None
        except ValueError:
            answer.found = None
        return answer

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in {"get", "post", "put", "patch", "delete", "options"}:
            raise AttributeError(name)
        return lambda path, body=None, **headers: self.ask(name.upper(), path, body, **headers)


@pytest.fixture
def olga(db: None) -> User:
    """She operates."""
    return make_olga()


@pytest.fixture
def api(olga: User) -> Api:
    """The documented API as Olga sees it."""
    return Api(make_key(olga).token)


def fake_task(name: str = "task_a", **values: Any) -> dict[str, Any]:
    """A request's body for a task of the fake driver."""
    task = {"name": name, "module": "./module", "condition": {"schedule": {"cron": "0 0 1 1 *"}}}
    return {"task": {**task, "driver": "fake", **values}}


MODULE = """
variable "services" { type = any }
variable "text" { default = "hello" }
resource "terraform_data" "thing" {
  input = { text = var.text, count = length(var.services) }
}
output "text" { value = var.text }
"""
SLOW_MODULE = """
variable "services" { type = any }
variable "seconds" { default = 60 }
variable "begun" {}
resource "terraform_data" "slow" {
  provisioner "local-exec" {
    command = "echo working; touch $BEGUN; sleep $SECONDS_TO_SLEEP; echo done"
    environment = { BEGUN = var.begun, SECONDS_TO_SLEEP = var.seconds }
  }
}
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A module that needs no provider but Terraform's own."""
    return make_module(tmp_path / "module", MODULE)


def make_module(directory: Path, text: str) -> Path:
    """A module of one file."""
    directory.mkdir(exist_ok=True)
    (directory / "main.tf").write_text(text)
    return directory


def terraform_task(module: Path, name: str = "tf_task", **values: Any) -> dict[str, Any]:
    """A request's body for a task that Terraform runs."""
    task = {"name": name, "module": str(module), "condition": {"schedule": {"cron": "0 0 1 1 *"}}}
    return {"task": {**task, **values}}


class WorkerProcess:
    """A worker as a process of its own, on the tests' database, to be killed."""

    CODE = """
import django, time
django.setup()
from tasks_app import engine, firing, recovery
while True:
    firing.fire_due()
    engine.work()
    recovery.sweep()
    time.sleep(0.05)
"""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        name = connection.settings_dict["NAME"]
        url = f"sqlite:///{name}"
        if connection.vendor != "sqlite":
            url = urlsplit(os.environ["MUSTER_DATABASE_URL"])._replace(path=f"/{name}").geturl()
        env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "MUSTER_DATABASE_URL": url,
            "MUSTER_HOME": str(self.home / "worker"),
            "MUSTER_TASKS_HOME": str(django_settings.MUSTER_TASKS_HOME),
            "MUSTER_URL": django_settings.MUSTER_URL,
            "MUSTER_SECRET_KEY": django_settings.SECRET_KEY,
            "MUSTER_ENCRYPTION_KEYS": ",".join(django_settings.MUSTER_ENCRYPTION_KEYS),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.CODE], env=env, cwd=PROJECT, preexec_fn=die_with_parent
        )

    def kill(self) -> None:
        """kill -9, and nothing else: its children are on their own."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@pytest.fixture
def worker_process(transactional_db: None, tmp_path: Path) -> Iterator[WorkerProcess]:
    """A worker that can be killed; the test starts it."""
    process = WorkerProcess(tmp_path)
    yield process
    if process.process is not None:
        process.kill()


@pytest.fixture(scope="session")
def _consul_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulServer]:
    binary = find_binary(tmp_path_factory.mktemp("consul"))
    if binary is None:
        pytest.skip(REASON)
    server = ConsulServer(binary)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def consul(_consul_server: ConsulServer, settings: Any) -> ConsulServer:
    """A real Consul, which the settings name."""
    settings.MUSTER_CONSUL = {"address": _consul_server.url, "token": ""}
    return _consul_server


class WatcherThread:
    """The watching process, as a thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        await Watcher(f"test-{id(self)}").run(self._stop)

    def start(self) -> None:
        self._thread.start()
        wait_until(lambda: self._stop is not None, what="the watcher to start")

    def stop(self) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.fixture
def watcher(transactional_db: None, consul: ConsulServer) -> Iterator[WatcherThread]:
    """Watches Consul for as long as the test lasts."""
    thread = WatcherThread()
    thread.start()
    yield thread
    thread.stop()
