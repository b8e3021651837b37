"""What every power driver must pass. Subclass DriverContract and give it a `fleet` fixture.

    class TestMyDriver(DriverContract):
        @pytest.fixture
        def fleet(self): ...  # yields a ContractFleet

The tests know neither protocol nor kind: they ask for actions and look at the results.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from sessions_app.drivers import split_settings
from sessions_app.drivers.base import (
    BEGIN_SECONDS,
    OPERATION_SECONDS,
    Action,
    BootSource,
    Power,
    PowerDriver,
    Reason,
    Result,
    Target,
)

CANARY = 'c4nary-Pa55"w\\ord'
CHANGES = tuple(action for action in Action if action is not Action.STATE)
SETTLE_SECONDS = 60.0


class ContractFleet(ABC):
    """At least four nodes that work, all off at first, and one whose BMC is dead."""

    nodes: Sequence[str]
    dead: str
    knows_graceful = True  # False for a kind that must answer UNSUPPORTED to a graceful shutdown

    @abstractmethod
    def make_driver(self) -> PowerDriver:
        """A new driver; called inside the event loop."""

    @abstractmethod
    def target(self, node: str, action: Action, key: int = 1) -> Target:
        """An action on a node. Where the kind has a secret, it is CANARY."""

    @abstractmethod
    def switches(self, node: str) -> int:
        """How many changing requests this node's BMC has got so far: the witness."""


def run(body: Callable[[], Coroutine[Any, Any, None]], *, seconds: float = 120.0) -> None:
    """Run a test's coroutine in the loop that production uses."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(body(), seconds))


async def perform(
    driver: PowerDriver, *targets: Target, begin_in: float = BEGIN_SECONDS
) -> dict[int, Result]:
    """All results by key; fails on a key that comes twice or never."""
    results: dict[int, Result] = {}
    async for result in driver.perform(targets, begin_by=time.monotonic() + begin_in):
        assert result.key not in results, "a key came back twice"
        results[result.key] = result
    assert set(results) == {target.key for target in targets}
    return results


async def one(driver: PowerDriver, target: Target, **options: float) -> Result:
    """The result of a single target."""
    return (await perform(driver, target, **options))[target.key]


async def settled(driver: PowerDriver, target: Target, power: Power) -> None:
    """Poll the node's state, as the engine does, until it is `power`."""
    until = time.monotonic() + SETTLE_SECONDS
    state = replace(target, action=Action.STATE)
    while (result := await one(driver, state)).power is not power:
        assert result.ok, result
        assert time.monotonic() < until, f"never became {power}: {result}"
        await asyncio.sleep(0.2)


class DriverContract:
    """The tests. A kind that cannot do something says so in its own tests, not by leaving one out here."""

    @pytest.fixture
    def fleet(self) -> ContractFleet:
        raise NotImplementedError("Give the contract a fleet fixture.")

    def test_it_declares_usable_settings(self, fleet: ContractFleet) -> None:
        async def body() -> None:
            driver = fleet.make_driver()
            await driver.aclose()
            names = [setting.name for setting in driver.settings]
            assert driver.kind
            assert driver.label
            assert len(names) == len(set(names))
            for setting in driver.settings:
                assert setting.label
                assert setting.kind in (str, int, float, bool)
                assert not (setting.secret and setting.kind is not str)
                assert setting.default is None or isinstance(setting.default, setting.kind)
                assert not setting.choices or setting.default in (None, *setting.choices)

        run(body)

    def test_the_fleets_own_settings_pass_validation(self, fleet: ContractFleet) -> None:
        target = fleet.target(fleet.nodes[0], Action.STATE)

        async def body() -> None:
            driver = fleet.make_driver()
            public, secret = split_settings(driver.kind, {**target.settings, **target.secrets})
            assert public == dict(target.settings)
            assert secret == dict(target.secrets)
            await driver.aclose()

        run(body)

    def test_no_targets_no_results(self, fleet: ContractFleet) -> None:
        async def body() -> None:
            driver = fleet.make_driver()
            assert await perform(driver) == {}
            await driver.aclose()

        run(body)

    def test_nodes_follow_every_action(self, fleet: ContractFleet) -> None:
        """Two nodes at once: one ends by a graceful shutdown, the other by force."""

        async def cycle(driver: PowerDriver, node: str, off: Action) -> None:
            on = replace(fleet.target(node, Action.ON), boot=BootSource("Pxe"))
            await settled(driver, on, Power.OFF)
            assert (await one(driver, on)).ok
            await settled(driver, on, Power.ON)
            result = await one(driver, fleet.target(node, off))
            if off is Action.OFF_GRACEFUL and not fleet.knows_graceful:
                assert (result.ok, result.reason) == (False, Reason.UNSUPPORTED)
                result = await one(driver, fleet.target(node, Action.OFF_FORCED))
            assert result.ok
            await settled(driver, on, Power.OFF)

        async def body() -> None:
            driver = fleet.make_driver()
            await asyncio.gather(
                cycle(driver, fleet.nodes[0], Action.OFF_GRACEFUL),
                cycle(driver, fleet.nodes[1], Action.OFF_FORCED),
            )
            await driver.aclose()

        run(body, seconds=4 * SETTLE_SECONDS)

    def test_what_is_done_already_is_a_success(self, fleet: ContractFleet) -> None:
        async def body() -> None:
            driver = fleet.make_driver()
            node = fleet.nodes[2]
            again = Action.OFF_GRACEFUL if fleet.knows_graceful else Action.OFF_FORCED
            for action in (Action.OFF_FORCED, again):
                assert (await one(driver, fleet.target(node, action))).ok
            await settled(driver, fleet.target(node, Action.STATE), Power.OFF)
            await driver.aclose()

        run(body)

    def test_the_locate_led_leaves_the_power_alone(self, fleet: ContractFleet) -> None:
        """Lit and put out, or said to be unsupported."""

        async def body() -> None:
            driver = fleet.make_driver()
            node = fleet.nodes[3]
            before = (await one(driver, fleet.target(node, Action.STATE))).power
            for action in (Action.LOCATE, Action.UNLOCATE):
                result = await one(driver, fleet.target(node, action))
                assert result.ok or result.reason is Reason.UNSUPPORTED, result
            assert (await one(driver, fleet.target(node, Action.STATE))).power is before
            await driver.aclose()

        run(body)

    def test_every_key_comes_back_once_whatever_the_mix(self, fleet: ContractFleet) -> None:
        async def body() -> None:
            driver = fleet.make_driver()
            targets = [fleet.target(node, Action.STATE, 100 + i) for i, node in enumerate(fleet.nodes)]
            # The same node several times in one batch: its BMC is still asked one thing at a time.
            targets += [fleet.target(fleet.nodes[3], Action.STATE, 200 + i) for i in range(5)]
            targets += [fleet.target(fleet.dead, action, 300 + i) for i, action in enumerate(CHANGES)]
            results = await perform(driver, *targets)
            assert all(results[key].ok for key in results if key < 300)
            assert not any(results[key].ok for key in results if key >= 300)
            await driver.aclose()

        run(body)

    def test_a_dead_bmc_fails_in_time_and_alone(self, fleet: ContractFleet) -> None:
        async def body() -> None:
            driver = fleet.make_driver()
            targets = [fleet.target(fleet.dead, Action.ON, 0)]
            targets += [fleet.target(node, Action.STATE, 1 + i) for i, node in enumerate(fleet.nodes)]
            started = time.monotonic()
            order = [
                result async for result in driver.perform(targets, begin_by=time.monotonic() + BEGIN_SECONDS)
            ]
            assert time.monotonic() - started < BEGIN_SECONDS + OPERATION_SECONDS + 2
            dead = next(result for result in order if result.key == 0)
            assert not dead.ok
            assert isinstance(dead.reason, Reason)
            assert dead.reason is not Reason.INTERNAL
            assert all(result.ok for result in order if result.key != 0)
            await driver.aclose()

        run(body)

    def test_nothing_is_switched_when_the_time_to_begin_has_passed(self, fleet: ContractFleet) -> None:
        async def body() -> None:
            driver = fleet.make_driver()
            node = fleet.nodes[3]
            before = fleet.switches(node)
            targets = [fleet.target(node, action, key) for key, action in enumerate(CHANGES)]
            results = await perform(driver, *targets, begin_in=-0.001)
            assert [(one.ok, one.begun) for one in results.values()] == [(False, False)] * len(CHANGES)
            assert fleet.switches(node) == before
            await driver.aclose()

        run(body)

    def test_errors_name_neither_address_nor_node_nor_secret(
        self, fleet: ContractFleet, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)

        async def body() -> None:
            driver = fleet.make_driver()
            targets = [fleet.target(fleet.dead, action, key) for key, action in enumerate(Action)]
            targets += [fleet.target(fleet.nodes[0], Action.STATE, 100)]
            host = targets[0].address.partition("://")[2].rpartition(":")[0]
            for result in (await perform(driver, *targets)).values():
                assert len(result.error) <= 250
                assert bool(result.error) is (result.begun and not result.ok)
                assert CANARY not in repr(result)
                assert fleet.dead not in result.error
                assert not host or host not in result.error
            assert CANARY not in repr(targets)
            assert CANARY not in repr(driver)
            await driver.aclose()

        run(body)
        assert_unseen(CANARY, caplog)


def assert_unseen(secret: str, caplog: pytest.LogCaptureFixture) -> None:
    """No log record, formatted or as its parts, carries the secret."""
    for record in caplog.records:
        shown = caplog.handler.format(record) + repr(record.__dict__)
        assert secret not in shown
        assert repr(secret)[1:-1] not in shown
