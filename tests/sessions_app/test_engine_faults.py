"""The engine under faults, with real worker processes, a real broker and a database of their own.

Nodes are the fake driver's, in files that all workers share; its journal is the witness of what was asked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection

from deploy.local.keep import die_with_parent
from events_app.models import Heartbeat
from sessions_app import services
from sessions_app.models import BootSession, BootToken, Node, NodePhase, Phase
from sessions_app.states import Category, Operation, SessionStatus
from tests.base import PROJECT, RedisServer, wait_until
from tests.factories import make_nodes, make_session, make_template

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.process]

LIMIT = 120


class Service:
    """Workers and a beat on the test's database and broker; each can be killed and started again."""

    def __init__(self, directory: Path, redis: RedisServer) -> None:
        self.directory = directory
        name = connection.settings_dict["NAME"]
        self.env = {
            **os.environ,
            "MUSTER_HOME": str(directory),
            "MUSTER_REDIS_URL": redis.url,
            "MUSTER_DATABASE_URL": f"sqlite:///{name}",
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start `worker…` or `beat`."""
        what = ["beat", "-s", str(self.directory / "schedule"), "--pidfile="]
        if name != "beat":
            what = ["worker", "-Q", "boot,default", "-c", "2", "-n", f"{name}@test"]
            what += ["--without-mingle", "--without-gossip"]
        log = (self.directory / f"{name}.log").open("a")
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "config.celery", *what, "--loglevel", "WARNING"],
            cwd=PROJECT,
            env=self.env,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    def kill(self, name: str) -> None:
        """`kill -9` of the process and all its children at this very moment."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """Kill whatever runs."""
        for name in list(self.processes):
            self.kill(name)


@pytest.fixture
def service(redis_server: RedisServer) -> Iterator[Service]:
    with tempfile.TemporaryDirectory(prefix="muster-f-", dir="/tmp") as directory:
        (Path(directory) / "nodes").mkdir()
        made = Service(Path(directory), redis_server)
        yield made
        made.stop()
        for log in sorted(Path(directory).glob("*.log")):
            print(f"-- {log.name}\n{log.read_text()[-4000:]}")  # shown by pytest when the test failed


def fleet(service: Service, count: int) -> list[Node]:
    """Nodes that run, and take a moment for everything."""
    return make_nodes(
        count,
        initial="on",
        delay=0.05,
        off_after=1.0,
        on_after=1.0,
        state_dir=str(service.directory / "nodes"),
    )


def journal(service: Service) -> dict[str, list[str]]:
    """What each node was asked, in order."""
    asked: dict[str, list[str]] = {}
    path = service.directory / "nodes" / "journal"
    for line in path.read_text().splitlines() if path.exists() else []:
        _, node, action = line.split()
        asked.setdefault(node, []).append(action)
    return asked


def report(session: BootSession) -> BootSession:
    """Nodes that are on report; a look at where the session stands."""
    for node in Node.objects.filter(power_state="on", actual=None, desired__isnull=False, session=session):
        token = services.issue_boot_token(node=node, artifacts=node.desired)
        services.report_actual_state(token=BootToken.objects.find(token))
    session.refresh_from_db()
    return session


def succeeded(session: BootSession, phase: str) -> int:
    return Phase.objects.get(boot_set__session=session, name=phase).succeeded


def wait_complete(session: BootSession) -> None:
    wait_until(lambda: report(session).status == SessionStatus.COMPLETE, LIMIT, "the session's end", 0.2)


def assert_never_contradicted(service: Service, nodes: list[Node]) -> None:
    """Each node was switched off, then on: an action may be repeated, never go back."""
    asked = journal(service)
    for node in nodes:
        off = [action.startswith("off") for action in asked[node.name]]
        assert off == sorted(off, reverse=True), (node.name, asked[node.name])
        assert (off[0], off[-1]) == (True, False)


def test_a_worker_killed_in_mid_session_loses_nothing(service):
    nodes = fleet(service, 40)
    session = make_session(make_template(nodes))
    service.start("worker1")
    service.start("beat")
    wait_until(lambda: len(journal(service)) > 5, LIMIT, "the first actions")
    service.kill("worker1")
    service.start("worker2")
    wait_until(lambda: report(session) and succeeded(session, "shutdown") > 20, LIMIT, "half the way", 0.2)
    service.kill("worker2")
    service.start("worker3")
    wait_complete(session)
    assert session.result == "succeeded"
    assert_never_contradicted(service, nodes)


def test_two_workers_share_a_session(service):
    nodes = fleet(service, 40)
    session = make_session(make_template(nodes))
    for name in ("worker1", "worker2", "beat"):
        service.start(name)
    wait_complete(session)
    assert session.result == "succeeded"
    assert {tuple(asked) for asked in journal(service).values()} == {("off_graceful", "on")}


def test_a_broker_flushed_and_gone_in_mid_session_loses_nothing(service, redis_server):
    nodes = fleet(service, 20)
    session = make_session(make_template(nodes))
    service.start("worker1")
    service.start("beat")
    wait_until(lambda: len(journal(service)) > 3, LIMIT, "the first actions")
    redis_server.flush()
    wait_until(lambda: report(session) and succeeded(session, "shutdown") > 3, LIMIT, "some way", 0.2)
    redis_server.stop()
    services.find_template(name="sample", domain=None)  # the database is no part of this
    redis_server.start()
    wait_complete(session)
    assert session.result == "succeeded"
    assert_never_contradicted(service, nodes)


def test_after_cancel_no_action_comes_even_when_workers_return(service):
    nodes = fleet(service, 20)
    session = make_session(make_template(nodes), Operation.REBOOT)
    service.start("worker1")
    service.start("beat")
    wait_until(lambda: len(journal(service)) > 3, LIMIT, "the first actions")
    service.kill("worker1")
    services.cancel_session(session=session, actor=None)
    asked = journal(service)
    service.start("worker2")
    seen = Heartbeat.objects.get(name="worker").seen_at
    wait_until(lambda: Heartbeat.objects.get(name="worker").seen_at > seen, LIMIT, "the new worker")
    wait_until(lambda: not NodePhase.objects.filter(due_at__isnull=False).exists(), LIMIT)
    assert journal(service) == asked
    assert not NodePhase.objects.filter(session=session, category=Category.IN_PROGRESS).exists()
