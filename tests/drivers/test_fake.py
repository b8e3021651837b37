"""The fake driver: the contract, and what makes it a fake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sessions_app.drivers.base import Action, Power, Reason, Target
from sessions_app.drivers.fake import FakeDriver
from tests.driver_contract import CANARY, ContractFleet, DriverContract, one, perform, run, settled


class FakeFleet(ContractFleet):
    nodes = tuple(f"x9c0s{slot}b0n0" for slot in range(5))
    dead = "x9c1s0b0n0"

    def __init__(self, **settings: object) -> None:
        self.settings = settings

    def make_driver(self) -> FakeDriver:
        return FakeDriver()

    def target(self, node: str, action: Action, key: int = 1) -> Target:
        settings = dict(self.settings)
        if node == self.dead:
            settings["fail"] = ",".join(f"{action}=unreachable" for action in Action)
        return Target(key, node, action, "fake://fleet", settings=settings, secrets={"password": CANARY})

    def switches(self, node: str) -> int:
        if directory := self.settings.get("state_dir"):
            journal = Path(str(directory), "journal")
            return journal.read_text().count(f" {node} ") if journal.exists() else 0
        return sum(name == node for name, _ in FakeDriver.journal)


@pytest.fixture
def _forgetful() -> Iterator[None]:
    yield
    FakeDriver.nodes.clear()
    FakeDriver.journal.clear()


@pytest.mark.usefixtures("_forgetful")
class TestFakeInMemory(DriverContract):
    @pytest.fixture
    def fleet(self) -> ContractFleet:
        return FakeFleet(on_after=0.1, off_after=0.1)


class TestFakeInFiles(DriverContract):
    @pytest.fixture
    def fleet(self, tmp_path: Path) -> ContractFleet:
        return FakeFleet(on_after=0.1, state_dir=str(tmp_path))


def test_two_drivers_share_a_state_directory(tmp_path: Path) -> None:
    fleet = FakeFleet(state_dir=str(tmp_path))

    async def body() -> None:
        node = fleet.nodes[0]
        assert (await one(FakeDriver(), fleet.target(node, Action.ON))).ok
        assert (await one(FakeDriver(), fleet.target(node, Action.STATE))).power is Power.ON

    run(body)
    assert (tmp_path / "journal").read_text().split()[1:] == [fleet.nodes[0], "on"]


@pytest.mark.usefixtures("_forgetful")
def test_it_fails_on_demand_with_the_reason_asked_for() -> None:
    fleet = FakeFleet(fail="on=busy, off_forced")

    async def body() -> None:
        targets = [fleet.target(fleet.nodes[0], action, key) for key, action in enumerate(Action)]
        results = await perform(FakeDriver(), *targets)
        assert [result.reason for _, result in sorted(results.items())] == [
            None,
            Reason.BUSY,
            None,
            Reason.REFUSED,
            None,
            None,
        ]

    run(body)


@pytest.mark.usefixtures("_forgetful")
def test_power_is_changing_until_it_has_settled() -> None:
    fleet = FakeFleet(on_after=0.4, initial="off")

    async def body() -> None:
        driver = FakeDriver()
        await one(driver, fleet.target(fleet.nodes[0], Action.ON))
        state = fleet.target(fleet.nodes[0], Action.STATE)
        assert (await one(driver, state)).power is Power.CHANGING
        await settled(driver, state, Power.ON)

    run(body)


@pytest.mark.usefixtures("_forgetful")
def test_a_slow_answer_is_cut_off_at_the_operation_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessions_app.drivers.bounded.OPERATION_SECONDS", 0.2)
    fleet = FakeFleet(delay=30.0)

    async def body() -> None:
        result = await one(FakeDriver(), fleet.target(fleet.nodes[0], Action.ON))
        assert (result.ok, result.begun, result.reason) == (False, True, Reason.TIMED_OUT)

    run(body)
    assert FakeDriver.journal == []
