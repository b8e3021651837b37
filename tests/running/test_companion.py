"""What an emulated node does once it is on, told to a Muster that only takes notes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from deploy.emulated_fleet import fleet as fleets
from deploy.emulated_fleet.fleet import Fleet, make_nodes, plan_fleet
from deploy.local.home import Home
from tests.base import PROJECT, request, wait_until
from tests.running.notes import Notes


@pytest.fixture
def notes() -> Iterator[Notes]:
    taker = Notes()
    yield taker
    taker.server.shutdown()
    taker.server.server_close()


class Nodes:
    """Two emulated nodes and their companion, which may be killed and started again."""

    def __init__(self, home: Home, notes: Notes) -> None:
        self.home = home
        self.notes = notes
        planned = plan_fleet(home, 2)
        self.fleet = Fleet(notes.url, planned.companion, planned.nodes)
        home.write_json(fleets.FILE, asdict(self.fleet))
        self.one, self.two = self.fleet.nodes
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        env = {"MUSTER_HOME": str(self.home.path), "MUSTER_URL": self.notes.url, "PATH": ""}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deploy.emulated_fleet.companion"],
            cwd=PROJECT,
            env=env,
            stdout=subprocess.DEVNULL,
        )
        wait_until(self._listens, what="the companion")

    def _listens(self) -> bool:
        try:
            return request(self.fleet.companion, "PUT", {}).status == 400
        except OSError:
            return False

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def power(self, node: Any, state: str, **more: Any) -> int:
        """As the emulator tells it."""
        self.notes.power[node.system] = state
        system = {"uuid": node.system.rpartition("/")[2], "name": node.xname, "power_state": state, **more}
        return request(self.fleet.companion, "PUT", system).status


@pytest.fixture
def nodes(tmp_path: Path, notes: Notes) -> Iterator[Nodes]:
    home = Home(tmp_path / "home")
    home.prepare()
    made = Nodes(home, notes)
    made.start()
    yield made
    made.kill()


def script(token: str) -> str:
    parameters = f"quiet bss_referral_token={token} bos_update_frequency=4h"
    return f"#!ipxe\nkernel http://x/kernel {parameters}\ninitrd http://x/initrd\nboot\n"


def test_a_node_that_comes_on_fetches_its_script_and_reports_with_its_token(
    nodes: Nodes, notes: Notes
) -> None:
    notes.scripts[nodes.one.mac] = script("t1")
    assert nodes.power(nodes.one, "On") == 204
    wait_until(lambda: notes.reports(nodes.one.xname), what="the report")
    assert notes.reports(nodes.one.xname) == [{"id": nodes.one.xname, "actual_state": {"bss_token": "t1"}}]
    assert [token for method, _, _, token in notes.requests if method == "PATCH"] == ["Bearer t1"]
    assert notes.fetched(nodes.two.mac) == 0


def test_news_that_is_not_about_power_boots_nothing_twice(nodes: Nodes, notes: Notes) -> None:
    notes.scripts[nodes.one.mac] = script("t1")
    nodes.power(nodes.one, "On")
    wait_until(lambda: notes.reports(nodes.one.xname), what="the report")
    nodes.power(nodes.one, "On", boot_device="Pxe")
    nodes.power(nodes.one, "On", pending_power={"power_state": "Off", "apply_time": 0})
    nodes.power(nodes.two, "On")
    wait_until(lambda: notes.fetched(nodes.two.mac), what="the other node to go on meanwhile")
    assert notes.fetched(nodes.one.mac) == 1


def test_a_report_that_is_not_accepted_is_repeated(nodes: Nodes, notes: Notes) -> None:
    notes.scripts[nodes.one.mac] = script("t1")
    notes.report_status = 409
    nodes.power(nodes.one, "On")
    wait_until(lambda: len(notes.reports(nodes.one.xname)) >= 2, what="a second try")
    notes.report_status = 200
    before = len(notes.reports(nodes.one.xname))
    wait_until(lambda: len(notes.reports(nodes.one.xname)) > before, what="the accepted one")


def test_a_node_without_a_script_asks_again(nodes: Nodes, notes: Notes) -> None:
    nodes.power(nodes.one, "On")
    wait_until(lambda: notes.fetched(nodes.one.mac), what="the first request")
    notes.scripts[nodes.one.mac] = script("late")
    wait_until(lambda: notes.reports(nodes.one.xname), what="the report")


def test_off_and_on_again_is_a_new_boot(nodes: Nodes, notes: Notes) -> None:
    notes.scripts[nodes.one.mac] = script("t1")
    nodes.power(nodes.one, "On")
    wait_until(lambda: notes.reports(nodes.one.xname), what="the first report")
    notes.scripts[nodes.one.mac] = script("t2")
    nodes.power(nodes.one, "Off")
    nodes.power(nodes.one, "On")
    wait_until(lambda: len(notes.reports(nodes.one.xname)) == 2, what="the second report")
    assert notes.reports(nodes.one.xname)[-1]["actual_state"] == {"bss_token": "t2"}


def test_a_restart_looks_to_the_nodes_like_nothing_at_all(nodes: Nodes, notes: Notes) -> None:
    notes.scripts = {nodes.one.mac: script("t1"), nodes.two.mac: script("t2")}
    nodes.power(nodes.one, "On")
    wait_until(lambda: notes.reports(nodes.one.xname), what="the report")
    nodes.kill()
    # Nobody was there to hear of it.
    notes.power[nodes.two.system] = "On"
    nodes.start()
    wait_until(lambda: notes.reports(nodes.two.xname), what="the other node's report")
    assert notes.fetched(nodes.one.mac) == 1
    assert len(notes.reports(nodes.one.xname)) == 1


def test_a_restart_before_the_report_goes_on_with_the_same_token(nodes: Nodes, notes: Notes) -> None:
    notes.scripts[nodes.one.mac] = script("t1")
    notes.report_status = 503
    nodes.power(nodes.one, "On")
    wait_until(lambda: notes.reports(nodes.one.xname), what="the refused report")
    nodes.kill()
    notes.report_status = 200
    before = len(notes.reports(nodes.one.xname))
    nodes.start()
    wait_until(lambda: len(notes.reports(nodes.one.xname)) > before, what="the accepted report")
    assert notes.fetched(nodes.one.mac) == 1


def test_what_is_no_system_of_the_fleet_is_refused(nodes: Nodes) -> None:
    assert request(nodes.fleet.companion, "PUT", {"uuid": "nobody", "power_state": "On"}).status == 400
    assert request(nodes.fleet.companion, "PUT", ["nothing"]).status == 400


def test_nodes_are_named_and_numbered_cabinet_by_cabinet() -> None:
    nodes = make_nodes(130)
    assert [nodes[number].xname for number in (0, 15, 16, 63, 64, 129)] == [
        "x3000c0s0b0n0", "x3000c0s15b0n0", "x3000c1s0b0n0",
        "x3000c3s15b0n0", "x3001c0s0b0n0", "x3002c0s1b0n0",
    ]  # fmt: skip
    for field in ("xname", "nid", "mac", "system"):
        assert len({getattr(node, field) for node in nodes}) == 130
    assert make_nodes(64) == nodes[:64]


@pytest.fixture
def planned(tmp_path: Path) -> Callable[[int], Fleet]:
    home = Home(tmp_path / "home")
    home.prepare()
    return lambda count: plan_fleet(home, count)


def test_a_fleet_keeps_its_ports_and_a_resized_one_begins_anew(
    planned: Callable[[int], Fleet], tmp_path: Path
) -> None:
    first = planned(4)
    state = tmp_path / "home" / "fleet" / "state"
    state.mkdir()
    assert planned(4) == first
    assert state.exists()
    assert planned(8).url == first.url
    assert not state.exists()
