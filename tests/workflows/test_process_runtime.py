"""The process runtime with real processes: what runs survives our restarts, and nothing is lost sight of."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.base import wait_until
from tests.workflows.hosted import KEY, REF, Running, plan, python
from workflows_app.drivers.base import Probe, RuntimeFault, Strategy
from workflows_app.drivers.hosted.replica import Replica
from workflows_app.drivers.process import MARK, ProcessRuntime


@pytest.fixture
def running(settings, tmp_path):
    settings.MUSTER_RUNTIME_DIR = tmp_path
    world = Running(ProcessRuntime("here", {}, {}))
    world.start()
    yield world
    world.end()
    assert ours(tmp_path) == []


def ours(directory: Path) -> list[psutil.Process]:
    """Every process that was started below this directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "").startswith(str(directory)):
                found.append(process)
        except psutil.Error:
            continue
    return found


def pid_of(running: Running, name: str) -> int:
    replica = Replica.load(running.driver.store.replicas / name)
    assert replica is not None
    return replica.details["pid"]


def get(address: str, path: str = "/") -> str:
    with urllib.request.urlopen(f"{address}{path}", timeout=30) as response:
        return response.read().decode()


def test_a_service_comes_up_is_reached_and_goes(running):
    wanted = plan(replicas=2)
    running.driver.apply(wanted)
    (service,) = running.until_complete(wanted, 2).services
    assert (service.desired, service.actual, service.updated, service.total) == (2, 2, 2, 2)
    assert len({replica.address for replica in service.replicas}) == 2
    for replica in service.replicas:
        assert (replica.state, replica.ready, replica.available) == ("Running", True, True)
        assert replica.at_latest
        assert replica.started_at >= replica.created_at
        assert get(replica.address) == "1"
        assert "asked /" in running.driver.logs(REF, KEY, replica.name, 10)
    assert REF in running.changed
    running.driver.remove(REF)
    running.until(lambda seen: not seen.services and not seen.leftovers, "the end")
    assert ours(running.driver.store.directory) == []
    assert list(running.driver.store.replicas.iterdir()) == []


INSIDE = """
import json, os, resource, time
print(json.dumps({
    "environment": sorted(os.environ), "files": sorted(os.listdir("/proc/self/fd")),
    "cores": len(os.sched_getaffinity(0)), "core file": resource.getrlimit(resource.RLIMIT_CORE),
    "data": resource.getrlimit(resource.RLIMIT_DATA)[0], "score": open("/proc/self/oom_score_adj").read(),
}))
time.sleep(1000)
"""


def test_it_sees_nothing_of_muster_and_keeps_to_its_limits(running, monkeypatch):
    for name in ("SECRET_KEY", "ENCRYPTION_KEYS", "DATABASE_URL", "REDIS_URL", "HOME"):
        monkeypatch.setenv(f"MUSTER_{name}", "not for services")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "neither")
    wanted = plan(command=python(INSIDE), port=None, probe=None, memory=2**28, cpu=0.5)
    running.driver.apply(wanted)
    (service,) = running.until_complete(wanted).services
    name = service.replicas[0].name
    wait_until(lambda: "PATH" in running.driver.logs(REF, KEY, name, 5))
    seen = json.loads(running.driver.logs(REF, KEY, name, 5))
    allowed = {"HOME", "LANG", "LC_ALL", "LC_CTYPE", "MUSTER_RUN", "PATH", "PYTHONUNBUFFERED", "TZ", MARK}
    assert set(seen["environment"]) <= allowed
    assert seen["files"] == ["0", "1", "2", "3"]  # the fourth is the directory being read
    assert (seen["cores"], seen["core file"], seen["data"]) == (1, [0, 0], 2**28)
    assert seen["score"].strip() == "500"


def test_a_log_is_cut(running, monkeypatch):
    monkeypatch.setattr("workflows_app.drivers.hosted.supervisor.LOG_BYTES", 50_000)
    code = "import time\nfor n in range(10**9): print(n, 'x' * 1000); time.sleep(0 if n < 1000 else 1000)"
    wanted = plan(command=python(code), port=None, probe=None)
    running.driver.apply(wanted)
    (service,) = running.until_complete(wanted).services
    home = running.driver.store.replicas / service.replicas[0].name
    wait_until(lambda: (home / "log.1").exists() and (home / "log").stat().st_size < 50_000, limit=60)
    assert (home / "log.1").stat().st_size == 50_000


def test_a_new_supervisor_finds_what_runs_and_how_it_ended(running):
    wanted = plan(replicas=2)
    running.driver.apply(wanted)
    (service,) = running.until_complete(wanted, 2).services
    pids = {replica.name: pid_of(running, replica.name) for replica in service.replicas}
    running.stop()
    assert not running.driver.store.supervised()
    leaver = service.replicas[0]
    with pytest.raises(OSError, match=r"."):
        get(leaver.address, "/exit")
    # Without a supervisor a dead one does not count as active.
    wait_until(lambda: running.driver.observe(REF).services[0].actual == 1, what="the dead one to be noticed")
    running.start()
    after = running.until(
        lambda seen: any(replica.restarts for replica in seen.services[0].replicas), "the restart"
    )
    by_name = {replica.name: replica for replica in after.services[0].replicas}
    assert by_name.keys() == pids.keys()
    running.until_complete(wanted, 2)
    assert pid_of(running, service.replicas[1].name) == pids[service.replicas[1].name]
    assert pid_of(running, leaver.name) != pids[leaver.name]


def test_a_crash_loop_shows_as_such_and_not_as_success(running):
    wanted = plan(
        command=python("import sys; sys.exit(3)"),
        port=None,
        probe=None,
        min_ready_seconds=10,
        progress_deadline_seconds=12,
    )
    running.driver.apply(wanted)
    seen = running.until(
        lambda seen: (
            seen.services and seen.services[0].replicas and seen.services[0].replicas[0].restarts >= 2
        ),
        "two ends",
    )
    (replica,) = seen.services[0].replicas
    assert replica.state == "CrashLoopBackOff"
    assert replica.message == "back-off 10s, Error: exit code 3"
    assert not replica.ready
    assert seen.services[0].rollout == "InProgress"
    failed = running.until(lambda seen: seen.services[0].rollout == "Failed", "the deadline").services[0]
    assert failed.reason == "ProgressDeadlineExceeded"
    assert "exit code 3" in failed.message
    assert failed.actual == 0


def test_a_command_that_does_not_exist_says_so(running):
    running.driver.apply(plan(command=("/no/such/program",)))
    seen = running.until(
        lambda seen: seen.services and any(replica.message for replica in seen.services[0].replicas), "words"
    )
    (replica,) = seen.services[0].replicas
    assert replica.state == "CrashLoopBackOff"
    assert "/no/such/program: No such file or directory" in replica.message


def test_a_probe_decides_who_is_ready(running):
    running.driver.apply(plan(probe=Probe("tcp", port=1, period_seconds=0.2)))
    seen = running.until(
        lambda seen: seen.services and any(replica.message for replica in seen.services[0].replicas), "words"
    )
    (replica,) = seen.services[0].replicas
    assert (replica.state, replica.ready, replica.address) == ("Running", False, "")
    assert replica.message == "Readiness probe failed: connection refused."


def test_an_update_replaces_replicas_without_a_failed_request(running):
    wanted = plan(replicas=2)
    running.driver.apply(wanted)
    first = running.until_complete(wanted, 2).services[0]
    answers: Counter[str] = Counter()
    over = threading.Event()

    def ask_on():
        while not over.is_set():
            service = running.driver.observe(REF).services[0]
            for replica in service.replicas:
                if replica.address:
                    answers[get(replica.address)] += 1

    asker = threading.Thread(target=ask_on)
    asker.start()
    wanted = plan(2, replicas=2, environment={"V": "2"})
    running.driver.apply(wanted)
    second = running.until_complete(wanted, 2).services[0]
    wait_until(lambda: answers["2"] > 10)
    over.set()
    asker.join()
    assert set(answers) == {"1", "2"}  # an error would have ended the asker before it saw version 2
    assert not {each.name for each in first.replicas} & {each.name for each in second.replicas}


def test_scaling_leaves_the_running_ones_alone(running):
    wanted = plan(replicas=1)
    running.driver.apply(wanted)
    (one,) = running.until_complete(wanted, 1).services[0].replicas
    pid = pid_of(running, one.name)
    wanted = plan(2, replicas=3)
    running.driver.apply(wanted)
    seen = running.until(lambda seen: seen.services[0].actual == 3, "three replicas")
    assert one.name in {replica.name for replica in seen.services[0].replicas}
    wanted = plan(3, replicas=1)
    running.driver.apply(wanted)
    (left,) = running.until_complete(wanted, 1).services[0].replicas
    assert (left.name, pid_of(running, left.name)) == (one.name, pid)


def test_recreate_ends_all_before_it_starts_any(running):
    wanted = plan(replicas=2, strategy=Strategy("recreate"))
    running.driver.apply(wanted)
    running.until_complete(wanted, 2)
    most = 0
    wanted = plan(2, replicas=2, strategy=Strategy("recreate"), environment={"V": "2"})
    running.driver.apply(wanted)

    def done():
        nonlocal most
        seen = running.driver.observe(REF)
        names = {each.at_latest for each in seen.services[0].replicas}
        most = max(most, len(names))
        return seen.digest == wanted.digest() and seen.services[0].actual == 2

    wait_until(done, limit=60, what="the new ones")
    assert most == 1  # never old and new together


def test_an_older_plan_never_wins(running):
    newer, older = plan(5, replicas=2), plan(4, replicas=1)
    running.driver.apply(newer)
    running.driver.apply(older)
    assert running.until_complete(newer, 2).digest == newer.digest()


def test_a_killed_shim_leaves_nothing_unfindable(running):
    wanted = plan()
    running.driver.apply(wanted)
    (replica,) = running.until_complete(wanted).services[0].replicas
    known = Replica.load(running.driver.store.replicas / replica.name)
    os.kill(known.details["shim"], signal.SIGKILL)
    assert running.until_complete(wanted).services[0].replicas[0].restarts == 0
    os.kill(known.details["pid"], signal.SIGKILL)
    running.until(lambda seen: seen.services[0].replicas[0].restarts == 1, "the restart")
    running.until_complete(wanted)


def test_processes_of_forgotten_replicas_are_ended_at_the_next_start(running):
    wanted = plan()
    running.driver.apply(wanted)
    (replica,) = running.until_complete(wanted).services[0].replicas
    pid = pid_of(running, replica.name)
    running.stop()
    (running.driver.store.replicas / replica.name / "replica.json").unlink()
    running.start()
    wait_until(lambda: not psutil.pid_exists(pid), what="the end of the stray")
    running.until_complete(wanted)


def test_children_that_left_the_group_end_with_their_replica(running):
    code = "import os, time\nif os.fork() == 0:\n    os.setsid()\nprint('up')\ntime.sleep(1000)"
    wanted = plan(command=python(code), port=None, probe=None)
    running.driver.apply(wanted)
    running.until_complete(wanted)
    wait_until(lambda: len(ours(running.driver.store.directory)) == 3)  # shim, program, its child
    running.driver.remove(REF)
    running.until(lambda seen: not seen.services and not seen.leftovers, "the end")
    wait_until(lambda: ours(running.driver.store.directory) == [])


def test_what_ignores_being_asked_is_ended(running):
    code = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up')\ntime.sleep(1000)"
    wanted = plan(command=python(code), port=None, probe=None, stop_seconds=1)
    running.driver.apply(wanted)
    (replica,) = running.until_complete(wanted).services[0].replicas
    wait_until(lambda: "up" in running.driver.logs(REF, KEY, replica.name, 5))
    running.driver.remove(REF)
    running.until(
        lambda seen: seen.services and seen.services[0].replicas[0].state == "Terminating", "terminating"
    )
    running.until(lambda seen: not seen.services, "the end")


def test_what_does_not_fit_the_machine_is_unschedulable(running):
    running.driver.apply(plan(memory=psutil.virtual_memory().total * 2))
    seen = running.until(
        lambda seen: seen.services and any(replica.message for replica in seen.services[0].replicas), "words"
    )
    (replica,) = seen.services[0].replicas
    assert (replica.state, replica.started_at) == ("Unschedulable", None)
    assert replica.message.startswith("0/1 machines are available: 1 Insufficient memory")


def test_without_supervisor_it_says_so_and_the_order_is_kept(running):
    running.stop()
    with pytest.raises(RuntimeFault, match="supervisor"):
        running.driver.apply(plan())
    running.start()
    running.until_complete(plan())


def test_logs_of_others_are_not_read(running):
    wanted = plan()
    running.driver.apply(wanted)
    (replica,) = running.until_complete(wanted).services[0].replicas
    for ref, key, name in [
        ("another", KEY, replica.name),
        (REF, "another", replica.name),
        (REF, KEY, "../../etc"),
        (REF, KEY, ""),
    ]:
        with pytest.raises(RuntimeFault, match="There is no replica"):
            running.driver.logs(ref, key, name, 5)


def test_a_second_supervisor_waits_for_the_first(running):
    second = Running(ProcessRuntime("here", {}, {}))
    stop = threading.Event()
    waiting = threading.Thread(
        target=second.driver.supervisor(second.changed.extend).run, args=(stop,), daemon=True
    )
    waiting.start()
    wanted = plan()
    running.driver.apply(wanted)
    running.until_complete(wanted)
    assert second.changed == []
    running.stop()
    wait_until(running.driver.store.supervised, what="the second to take over")
    stop.set()
    waiting.join(30)
    running.start()


def test_stopping_muster_ends_all_and_the_next_start_brings_it_back(running):
    wanted = plan(replicas=2)
    running.driver.apply(wanted)
    running.until_complete(wanted, 2)
    running.stop()
    supervisor = running.driver.supervisor(running.changed.extend)
    supervisor.recover()
    began = time.monotonic()
    supervisor.end_all(3)
    assert time.monotonic() - began < 30
    assert ours(running.driver.store.directory) == []
    running.start()
    (service,) = running.until_complete(wanted, 2).services
    assert [replica.restarts for replica in service.replicas] == [0, 0]
