"""Fleets for the driver contract, and how the Redfish tests name their targets."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sessions_app.drivers.base import Action, BootSource, Result, Target
from sessions_app.drivers.redfish import RedfishDriver
from tests.driver_contract import CANARY, ContractFleet, one, run

from .scripted_bmc import SYSTEM, ScriptedBmc

PXE = BootSource("Pxe")


def redfish_target(
    address: str,
    action: Action,
    *,
    key: int = 1,
    system: str = SYSTEM,
    boot: BootSource | None = None,
    **settings: Any,
) -> Target:
    """An action on a node behind the BMC at `address`; keywords are driver settings."""
    return Target(
        key,
        "x9c0s0b0n0",
        action,
        address,
        system=system,
        settings={"username": "operator", **settings},
        secrets={"password": CANARY},
        boot=boot,
    )


def act(*targets: Target) -> list[Result]:
    """Do these actions one after another with one driver."""
    results = []

    async def body() -> None:
        driver = RedfishDriver()
        try:
            for target in targets:
                results.append(await one(driver, target))
        finally:
            await driver.aclose()

    run(body)
    return results


class ClosedPort:
    """A port of 127.0.0.1 where nobody listens, kept so that nobody else can take it."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        self._socket.close()


class ScriptedFleet(ContractFleet):
    """Five scripted BMCs with one node each, and a dead one."""

    nodes = tuple(f"x9c0s{slot}b0n0" for slot in range(5))
    dead = "x9c1s0b0n0"

    def __init__(self, make_bmc: Callable[..., ScriptedBmc], dead_address: str) -> None:
        self.bmcs = {node: make_bmc() for node in self.nodes}
        self.dead_address = dead_address

    def make_driver(self) -> RedfishDriver:
        return RedfishDriver()

    def target(self, node: str, action: Action, key: int = 1) -> Target:
        address = self.bmcs[node].address if node in self.bmcs else self.dead_address
        return redfish_target(address, action, key=key)

    def switches(self, node: str) -> int:
        return sum(request.method != "GET" for request in self.bmcs[node].requests)


class EmulatedFleet(ContractFleet):
    """The systems of one sushy-tools emulator: many nodes behind one BMC."""

    dead = "x9c1s0b0n0"

    def __init__(self, address: str, log: Path, uuids: list[str], dead_address: str) -> None:
        self.address = address
        self.log = log
        self.nodes = uuids
        self.dead_address = dead_address

    def make_driver(self) -> RedfishDriver:
        return RedfishDriver()

    def target(self, node: str, action: Action, key: int = 1) -> Target:
        dead = node == self.dead
        system = SYSTEM if dead else f"/redfish/v1/Systems/{node}"
        return redfish_target(self.dead_address if dead else self.address, action, key=key, system=system)

    def switches(self, node: str) -> int:
        lines = self.log.read_text().splitlines()
        return sum(node in line and ('"POST ' in line or '"PATCH ' in line) for line in lines)
