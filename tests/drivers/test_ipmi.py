"""The IPMI driver against pyghmi's emulated BMCs, through the real ipmitool."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from django.conf import settings
from django.test import override_settings

from sessions_app.drivers.base import Action, BootSource, Power, Reason, Target
from sessions_app.drivers.ipmi import IpmiDriver
from sessions_app.drivers.runner import Pump
from tests.driver_contract import CANARY, ContractFleet, DriverContract, one, run

pytestmark = pytest.mark.usefixtures("_registered")

needs_ipmitool = pytest.mark.skipif(
    shutil.which("ipmitool") is None, reason="ipmitool is not installed (Debian package ipmitool)"
)


@pytest.fixture
def _registered() -> Iterator[None]:
    table = {**settings.MUSTER_POWER_DRIVERS, "ipmi": "sessions_app.drivers.ipmi.IpmiDriver"}
    with override_settings(MUSTER_POWER_DRIVERS=table):
        yield


class EmulatedBmc:
    """One emulated BMC in a process of its own; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "bmc.log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> EmulatedBmc:
        program = Path(__file__).with_name("emulated_ipmi.py")
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(program)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "EMULATED_PASSWORD": CANARY},
            )
        until = time.monotonic() + 60
        while not self.log.read_text().startswith("port "):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
        return self

    def __exit__(self, *problem: object) -> None:
        assert self.process
        self.process.kill()
        self.process.wait(30)

    @property
    def address(self) -> str:
        return f"ipmi://127.0.0.1:{self.log.read_text().split()[1]}"

    def told(self) -> list[str]:
        """What it was told to do, in order."""
        lines = self.log.read_text().splitlines()
        return [line.removeprefix("told ") for line in lines if line.startswith("told ")]


def ipmi_target(address: str, action: Action, key: int = 1, **settings: object) -> Target:
    return Target(
        key,
        "x9c0s0b0n0",
        action,
        address,
        settings={"username": "operator", "cipher_suite": 3, **settings},
        secrets={"password": CANARY},
    )


class IpmiFleet(ContractFleet):
    nodes = tuple(f"x9c0s{slot}b0n0" for slot in range(4))
    dead = "x9c1s0b0n0"

    def __init__(self, bmcs: list[EmulatedBmc], dead_address: str) -> None:
        self.bmcs = dict(zip(self.nodes, bmcs, strict=True))
        self.dead_address = dead_address

    def make_driver(self) -> IpmiDriver:
        return IpmiDriver()

    def target(self, node: str, action: Action, key: int = 1) -> Target:
        address = self.bmcs[node].address if node in self.bmcs else self.dead_address
        return ipmi_target(address, action, key)

    def switches(self, node: str) -> int:
        return len(self.bmcs[node].told())


@pytest.fixture(scope="module")
def bmcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[EmulatedBmc]]:
    with ExitStack() as stack:
        yield [stack.enter_context(EmulatedBmc(tmp_path_factory.mktemp("bmc"))) for _ in range(4)]


@pytest.fixture
def dead_address() -> Iterator[str]:
    """A UDP port where nobody reads: requests get no answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        yield f"ipmi://127.0.0.1:{deaf.getsockname()[1]}"


@needs_ipmitool
@pytest.mark.process
class TestContractIpmi(DriverContract):
    @pytest.fixture
    def fleet(self, bmcs: list[EmulatedBmc], dead_address: str) -> ContractFleet:
        return IpmiFleet(bmcs, dead_address)


@needs_ipmitool
@pytest.mark.process
def test_switching_on_sets_the_boot_device_first(tmp_path: Path) -> None:
    with EmulatedBmc(tmp_path) as bmc:

        async def body() -> None:
            on = replace(ipmi_target(bmc.address, Action.ON), boot=BootSource("Pxe"))
            assert (await one(IpmiDriver(), on)).ok
            state = await one(IpmiDriver(), ipmi_target(bmc.address, Action.STATE))
            assert state.power is Power.ON

        run(body)
        assert bmc.told() == ["boot network", "on"]


@needs_ipmitool
@pytest.mark.process
def test_a_wrong_password_is_told_apart_from_a_dead_bmc(bmcs: list[EmulatedBmc], dead_address: str) -> None:
    async def body() -> None:
        driver = IpmiDriver()
        state = ipmi_target(bmcs[0].address, Action.STATE)
        wrong = await one(driver, replace(state, secrets={"password": "wrong"}))
        assert (wrong.reason, wrong.error) == (Reason.UNAUTHORISED, "BMC refused the credentials")
        unknown = await one(driver, replace(state, settings={"username": "nobody", "cipher_suite": 3}))
        assert unknown.reason in (Reason.UNAUTHORISED, Reason.TIMED_OUT)
        dead = await one(driver, replace(state, address=dead_address))
        assert dead.reason in (Reason.UNREACHABLE, Reason.TIMED_OUT)

    run(body)


def test_http_boot_is_unsupported_and_nothing_is_sent() -> None:
    async def body() -> None:
        on = replace(ipmi_target("ipmi://127.0.0.1:9", Action.ON), boot=BootSource("UefiHttp", "http://b/x"))
        result = await one(IpmiDriver(), on)
        assert (result.reason, result.error) == (Reason.UNSUPPORTED, "BMC does not support UefiHttp boot")

    run(body)


@pytest.mark.parametrize(
    "address", ["", "http://bmc", "-x", "ipmi://u:p@bmc", "ipmi://bmc:99999", "ipmi://b/p"]
)
def test_a_wrong_address_is_a_fault_of_the_settings(address: str) -> None:
    async def body() -> None:
        assert (await one(IpmiDriver(), ipmi_target(address, Action.STATE))).reason is Reason.SETTINGS

    run(body)


def test_without_ipmitool_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    async def body() -> None:
        result = await one(IpmiDriver(), ipmi_target("ipmi://127.0.0.1", Action.STATE))
        assert (result.reason, result.error) == (
            Reason.SETTINGS,
            "ipmitool is not installed beside the worker",
        )

    run(body)


@needs_ipmitool
@pytest.mark.process
def test_it_works_in_the_pumps_thread(bmcs: list[EmulatedBmc]) -> None:
    """Child processes are reaped by signals, which Python delivers to the main thread only."""
    pump = Pump()
    try:
        batch = [ipmi_target(bmc.address, Action.STATE, key) for key, bmc in enumerate(bmcs)]
        pump.submit("ipmi", batch, begin_by=time.monotonic() + 6)
        results = []
        while pump.in_flight:
            results += pump.drain(wait=1.0)
        assert all(result.ok for result in results), results
    finally:
        pump.close()


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program called ipmitool that writes down how it was called and then takes its time."""
    program = tmp_path / "ipmitool"
    program.write_text(
        f"#!/bin/sh\ncd {tmp_path}\necho $$ > pid\n"
        'printf "%s\\n" "$@" > arguments\nprintf "%s" "$IPMI_PASSWORD" > password\nexec sleep 60\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_the_password_is_on_no_command_line_and_no_process_outlives_its_action(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessions_app.drivers.bounded.OPERATION_SECONDS", 3.0)

    async def body() -> None:
        result = await one(IpmiDriver(), ipmi_target("ipmi://127.0.0.1", Action.STATE))
        assert result.reason is Reason.TIMED_OUT
        pid = int((stand_in / "pid").read_text())
        until = time.monotonic() + 30
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < until, "ipmitool goes on"
            await asyncio.sleep(0.05)

    run(body)
    assert CANARY not in (stand_in / "arguments").read_text()
    assert (stand_in / "password").read_text() == CANARY
