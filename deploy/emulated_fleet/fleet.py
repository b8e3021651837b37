"""Which nodes an emulated fleet consists of, and where its parts listen; kept in HOME/fleet/fleet.json."""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploy.local.home import Home, free_port

FILE = "fleet/fleet.json"
SLOTS, CHASSIS = 16, 4  # nodes per chassis, chassis per cabinet
FIRST_CABINET = 3000
NAMES = uuid.UUID("5f7ab3f0-6c6b-4f0e-9a0e-64a1d1f1ee70")  # so that a node has the same uuid in every HOME


@dataclass(frozen=True)
class FleetNode:
    """One node that does not exist: its names and its Redfish System."""

    xname: str
    nid: int
    mac: str
    system: str  # path of the System resource


@dataclass(frozen=True)
class Fleet:
    """The emulator's base URL, the companion's, and the nodes."""

    url: str
    companion: str
    nodes: tuple[FleetNode, ...]

    @property
    def port(self) -> int:
        """Of the emulator."""
        return int(self.url.rpartition(":")[2])

    @property
    def companion_port(self) -> int:
        """Of the companion, which hears of power changes there."""
        return int(self.companion.rpartition(":")[2])


def make_nodes(count: int) -> tuple[FleetNode, ...]:
    """Nodes 1 to `count`, cabinet by cabinet: x3000c0s0b0n0, x3000c0s1b0n0, ..."""
    return tuple(_make_node(number) for number in range(count))


def _make_node(number: int) -> FleetNode:
    chassis, slot = divmod(number, SLOTS)
    cabinet, chassis = divmod(chassis, CHASSIS)
    xname = f"x{FIRST_CABINET + cabinet}c{chassis}s{slot}b0n0"
    nid = number + 1
    # 02: locally administered, so never a real card's.
    mac = "02:00:00:" + ":".join(f"{byte:02x}" for byte in nid.to_bytes(3, "big"))
    return FleetNode(xname, nid, mac, f"/redfish/v1/Systems/{uuid.uuid5(NAMES, xname)}")


def plan_fleet(home: Home, count: int, besides: tuple[int, ...] = ()) -> Fleet:
    """The fleet of `count` nodes for this start: the ports of last time where they are still free.

    A fleet of another size than last time's begins anew: all its nodes are off.
    """
    before = load_fleet(home)
    port = free_port(before.port if before else None, besides)
    companion = free_port(before.companion_port if before else None, (*besides, port))
    nodes = make_nodes(count)
    if before and before.nodes != nodes:
        shutil.rmtree(state_directory(home), ignore_errors=True)
    fleet = Fleet(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{companion}", nodes)
    home.write_json(FILE, asdict(fleet))
    return fleet


def load_fleet(home: Home) -> Fleet | None:
    """The fleet as planned last; None where there is none."""
    stored = home.read_json(FILE)
    if not stored:
        return None
    nodes = tuple(FleetNode(**node) for node in stored["nodes"])
    return Fleet(stored["url"], stored["companion"], nodes)


def forget_fleet(home: Home) -> None:
    """This start has no emulated nodes, and a later one begins with new ones."""
    (home.path / FILE).unlink(missing_ok=True)
    shutil.rmtree(state_directory(home), ignore_errors=True)


def state_directory(home: Home) -> Path:
    """Where emulator and companion remember which nodes are on."""
    return home.fleet / "state"


def emulator_settings(fleet: Fleet, home: Home) -> dict[str, Any]:
    """The settings of sushy-tools' emulator for this fleet (its fake driver, all nodes off at first)."""
    return {
        "SUSHY_EMULATOR_FAKE_DRIVER": True,
        "SUSHY_EMULATOR_LISTEN_IP": "127.0.0.1",
        "SUSHY_EMULATOR_LISTEN_PORT": fleet.port,
        "SUSHY_EMULATOR_STATE_DIR": os.fspath(state_directory(home)),
        "EXTERNAL_NOTIFICATION_URL": fleet.companion,
        "SUSHY_EMULATOR_FAKE_SYSTEMS": [
            {
                "uuid": node.system.rpartition("/")[2],
                "name": node.xname,
                "power_state": "Off",
                "external_notifier": True,
                "nics": [{"mac": node.mac, "ip": ""}],
            }
            for node in fleet.nodes
        ],
    }
