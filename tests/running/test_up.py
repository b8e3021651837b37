"""bin/up, the real thing: from the command to a booted fleet, killed and stopped in all ways."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local.home import Home
from tests.base import Product, request, wait_until

pytestmark = pytest.mark.process


def is_ready(product: Product) -> bool:
    try:
        return request(f"{product.url}/readyz").status == 200
    except OSError:
        return False


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path, for homes."""
    directory = Path(tempfile.mkdtemp(prefix="muster-up-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def product(place: Path) -> Iterator[Callable[..., Product]]:
    """Make products that are ended with the test."""
    made: list[Product] = []

    def make(nodes: int = 0, name: str = "home", **env: str) -> Product:
        made.append(Product(place / name, nodes=nodes, env=env))
        return made[-1]

    yield make
    for one in made:
        one.end()


# -- what one start leaves to see ---------------------------------------------------------------------


def test_the_terminal_tells_address_progress_and_end(muster: Product) -> None:
    said = muster.said
    assert f"Muster is ready at {muster.url}\n" in said
    assert muster.url.startswith("http://127.0.0.1:")
    assert "shutdown 8/8, boot 8/8, configure 8/8" in said
    assert "is complete: succeeded, 8 of 8 nodes" in said
    assert muster.credentials["password"] not in said
    assert muster.credentials["secret_key"] not in said


def test_the_credentials_are_private_and_open_the_doors(muster: Product) -> None:
    path = muster.home / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    names = ["url", "username", "password", "token", "access_key", "secret_key", "fleet"]
    assert list(muster.credentials) == names
    assert all(muster.credentials[name] for name in names)
    assert muster.ask("/apis/bos/v2/sessions").status == 200
    assert request(f"{muster.url}/apis/bos/v2/sessions").status == 401


def test_every_node_is_on_says_the_fleets_own_redfish_service(muster: Product) -> None:
    fleet = muster.credentials["fleet"]
    members = request(f"{fleet}/redfish/v1/Systems").json["Members"]
    states = [request(fleet + member["@odata.id"]).json["PowerState"] for member in members]
    assert states == ["On"] * 8


def test_both_views_of_the_session_say_that_it_succeeded(muster: Product) -> None:
    (session,) = muster.ask("/apis/bos/v2/sessions").json
    assert session["status"]["status"] == "complete"
    status = muster.ask(f"/apis/bos/v2/sessions/{session['name']}/status").json
    assert status["managed_components_count"] == 8
    assert status["percent_successful"] == 100.0
    assert status["error_summary"] == {}
    (identity,) = muster.ask("/apis/bos/v1/session").json
    tree = muster.ask(f"/apis/bos/v1/session/{identity}/status").json
    assert tree["metadata"]["complete"] is True
    assert tree["metadata"]["error_count"] == 0


def test_no_node_was_switched_twice_says_the_fleets_request_log(muster: Product) -> None:
    resets: dict[str, list[str]] = defaultdict(list)
    for line in (muster.home / "log" / "emulator-requests.log").read_text().splitlines():
        entry = json.loads(line)
        if entry["method"] == "POST":
            resets[entry["path"]].append(entry["body"]["ResetType"])
    assert list(resets.values()) == [["On"]] * 8


def test_everything_listens_on_this_machine_only_and_redis_on_no_port(muster: Product) -> None:
    listening = {}
    for process in muster.processes():
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                listening[connection.laddr.port] = (connection.laddr.ip, process.pid)
    assert {ip for ip, _ in listening.values()} == {"127.0.0.1"}
    assert muster.pid("redis") not in {pid for _, pid in listening.values()}
    assert (muster.home / "run" / "redis.sock").is_socket()


@pytest.mark.parametrize("name", ["worker", "beat", "web", "redis", "emulator", "companion"])
def test_a_killed_process_is_started_again(muster: Product, name: str) -> None:
    muster.kill(name)
    wait_until(lambda: is_ready(muster), what="readiness after the kill")
    assert f"{name} ended (SIGKILL)" in (muster.home / "log" / f"{name}.log").read_text()
    assert not muster.ended


def test_a_killed_keeper_is_started_again_and_two_never_run(muster: Product) -> None:
    before = muster.pid("beat")
    keeper = json.loads((muster.home / "run" / "beat.pid.json").read_text())["keeper"]
    os.kill(keeper, signal.SIGKILL)
    wait_until(
        lambda: muster.pid("beat") != before and psutil.pid_exists(muster.pid("beat")), what="a new beat"
    )
    wait_until(lambda: not psutil.pid_exists(before), what="the old one to be gone")
    assert not muster.ended


def test_the_logging_level_reaches_every_process(muster: Product) -> None:
    names = ["web", "worker", "runner", "beat", "watcher", "runtimes", "gateway"]
    logs = [muster.home / "log" / f"{name}.log" for name in names]
    answer = muster.ask("/apis/bos/v2/options", "PATCH", {"logging_level": "ERROR"})
    assert answer.json["logging_level"] == "ERROR"
    said = "ERROR sessions_app.upkeep: The level of this log is ERROR now."
    wait_until(lambda: all(said in log.read_text() for log in logs), what="all processes to follow")


# -- refusals -----------------------------------------------------------------------------------------


def refused(*options: str) -> str:
    """What a start says that does not come about: one line."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
    answer = subprocess.run(
        ["bin/up", "--nodes", "0", *options],
        env=clean,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1, answer.stderr
    return answer.stderr


def test_a_taken_port_is_one_sentence(muster: Product, place: Path) -> None:
    port = muster.url.rpartition(":")[2]
    said = refused("--port", port, "--home", str(place / "other"))
    assert said == f"Port {port} of 127.0.0.1 is taken by another program: choose another one with --port.\n"


def test_a_home_in_use_is_one_sentence(muster: Product) -> None:
    said = refused("--port", "0", "--home", str(muster.home))
    assert said.startswith(f"Muster already runs in {muster.home} (process ")
    assert muster.url in said


def test_a_home_that_can_not_be_written_is_one_sentence(place: Path) -> None:
    (place / "file").write_text("")
    said = refused("--port", "0", "--home", str(place / "file" / "home"))
    assert said == f"Muster can't write to {place}/file/home: Not a directory.\n"


@pytest.mark.parametrize(
    "options", [["--port", "65536"], ["--port", "web"], ["--nodes", "-1"], ["--nodes", "10001"]]
)
def test_options_that_make_no_sense_are_refused(options: list[str]) -> None:
    answer = subprocess.run(["bin/up", *options], capture_output=True, text=True, timeout=300, check=False)
    assert answer.returncode == 2
    assert options[1] in answer.stderr


# -- the end, and the next start ----------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_leaves_no_process(product: Callable[..., Product], number: int) -> None:
    one = product(nodes=4)
    one.start()
    one.wait_ready()
    assert one.stop(number) == 0
    assert one.processes() == []


def test_told_to_stop_at_the_very_beginning_it_leaves_no_process(product: Callable[..., Product]) -> None:
    one = product(nodes=4)
    one.start()
    wait_until(lambda: (one.home / "log" / "bootstrap.log").exists(), what="the database to be prepared")
    one.stop()
    assert one.processes() == []


def test_after_kill_9_of_the_supervisor_the_next_start_goes_on(product: Callable[..., Product]) -> None:
    one = product()
    one.start()
    one.wait_ready()
    first = one.credentials
    assert first["fleet"] is None
    assert one.process is not None
    one.process.kill()
    one.process.wait()
    one.start()
    one.wait_ready()
    again = one.credentials
    assert {**again, "url": ""} == {**first, "url": ""}
    assert "Session" not in one.said, "there is no fleet, so there is no demonstration"


def test_after_kill_9_of_everything_the_next_start_goes_on(product: Callable[..., Product]) -> None:
    one = product()
    one.start()
    one.wait_ready()
    every: list[Any] = one.processes()
    assert len(every) > 8
    for process in every:
        with contextlib.suppress(psutil.NoSuchProcess):  # it went with the one that kept it
            process.kill()
    assert one.process is not None
    one.process.wait()
    one.start()
    one.wait_ready()
    assert is_ready(one)


def test_a_deep_home_has_its_socket_elsewhere(place: Path) -> None:
    one = Product(place.joinpath(*["a-rather-long-directory-name"] * 4), nodes=0)
    one.home.parent.mkdir(parents=True)
    try:
        one.start()
        one.wait_ready()
        assert is_ready(one)
        assert not (one.home / "run" / "redis.sock").exists()
        directory = Home(one.home).socket("redis.sock").parent
        assert one.stop() == 0
        assert not directory.exists()
    finally:
        one.end()
