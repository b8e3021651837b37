"""The pump: every key comes back exactly once, whatever the driver does."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any, ClassVar

import pytest
from django.test import override_settings

from sessions_app.drivers import runner
from sessions_app.drivers.base import Action, Power, PowerDriver, Reason, Result, Target
from sessions_app.drivers.fake import FakeDriver
from sessions_app.drivers.runner import Pump, get_pump
from tests.driver_contract import CANARY, assert_unseen

from .redfish_fleets import ClosedPort, redfish_target
from .scripted_bmc import SYSTEM, Reply, ScriptedBmc

GENEROUS_SECONDS = 60.0


class Stubborn(PowerDriver):
    """Answers the first target, then does what `mood` says."""

    kind = "stubborn"
    label = "Stubborn"
    mood: ClassVar[str] = "raise"

    async def perform(self, targets: Sequence[Target], *, begin_by: float) -> AsyncGenerator[Result, None]:
        yield Result(targets[0].key, ok=True)
        if self.mood == "twice":
            yield Result(targets[0].key, ok=False)
            yield Result(12345, ok=True)
        if self.mood == "raise":
            raise RuntimeError(f"lost {targets[0].secrets['password']}")
        if self.mood == "hang":
            await asyncio.Event().wait()
        if self.mood == "block":
            time.sleep(5)


class Unborn(Stubborn):
    """Cannot even be made."""

    def __init__(self) -> None:
        raise RuntimeError("no hardware library")


DRIVERS = {
    "redfish": "sessions_app.drivers.redfish.RedfishDriver",
    "fake": "sessions_app.drivers.fake.FakeDriver",
    "stubborn": f"{__name__}.Stubborn",
    "unborn": f"{__name__}.Unborn",
    "missing": "sessions_app.drivers.nowhere.Driver",
}


@pytest.fixture(autouse=True)
def _drivers() -> Iterator[None]:
    with override_settings(MUSTER_POWER_DRIVERS=DRIVERS):
        yield
    FakeDriver.nodes.clear()
    FakeDriver.journal.clear()


@pytest.fixture
def pump() -> Iterator[Pump]:
    pump = Pump()
    yield pump
    pump.close()


def targets(count: int, action: Action = Action.STATE, **settings: Any) -> list[Target]:
    return [
        Target(
            key, f"x9c0s{key}b0n0", action, "fake://fleet", settings=settings, secrets={"password": CANARY}
        )
        for key in range(count)
    ]


def in_seconds(seconds: float = 6.0) -> float:
    return time.monotonic() + seconds


def everything(pump: Pump) -> list[Result]:
    """All results of what is in flight, in the order of arrival."""
    until = time.monotonic() + GENEROUS_SECONDS
    results: list[Result] = []
    while pump.in_flight:
        assert time.monotonic() < until, f"{pump.in_flight} results never came"
        results += pump.drain(wait=1.0)
    return results


def test_every_key_comes_back_once_over_several_batches(pump: Pump) -> None:
    for first in range(0, 900, 300):
        batch = [Target(first + key, f"x{first}s{key}", Action.STATE, "fake://") for key in range(300)]
        pump.submit("fake", batch, begin_by=in_seconds())
    assert pump.in_flight == 900
    assert sorted(result.key for result in everything(pump)) == list(range(900))
    assert pump.in_flight == 0


def test_drain_takes_no_more_than_asked_for(pump: Pump) -> None:
    pump.submit("fake", targets(20), begin_by=in_seconds())
    until = time.monotonic() + GENEROUS_SECONDS
    taken: list[int] = []
    while pump.in_flight and time.monotonic() < until:
        got = pump.drain(wait=1.0, most=3)
        assert len(got) <= 3
        taken += [result.key for result in got]
    assert sorted(taken) == list(range(20))


def test_drain_waits_when_there_is_nothing(pump: Pump) -> None:
    started = time.monotonic()
    assert pump.drain(wait=0.3) == []
    assert time.monotonic() - started >= 0.3


def test_a_driver_that_raises_fails_its_unfinished_keys(
    pump: Pump, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Stubborn, "mood", "raise")
    caplog.set_level(logging.DEBUG)
    pump.submit("stubborn", targets(3), begin_by=in_seconds())
    results = {result.key: result for result in everything(pump)}
    assert results[0].ok
    assert {results[key].reason for key in (1, 2)} == {Reason.INTERNAL}
    assert CANARY not in repr(results)
    assert "RuntimeError: lost ***" in caplog.text
    assert_unseen(CANARY, caplog)


@pytest.mark.parametrize("mood", ["hang", "block"])
def test_a_driver_that_hangs_is_answered_for(pump: Pump, mood: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that blocks the event loop itself: the pump does not rely on it."""
    monkeypatch.setattr(Stubborn, "mood", mood)
    monkeypatch.setattr(runner, "OPERATION_SECONDS", 0.3)
    monkeypatch.setattr(runner, "SLACK_SECONDS", 0.2)
    pump.submit("stubborn", targets(3), begin_by=in_seconds(0.1))
    results = everything(pump)
    assert sorted(result.key for result in results) == [0, 1, 2]
    assert {result.reason for result in results if result.key} == {Reason.INTERNAL}


@pytest.mark.parametrize("mood", ["twice", "forget"])
def test_a_driver_that_cannot_count_is_corrected(
    pump: Pump, mood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stubborn, "mood", mood)
    pump.submit("stubborn", targets(2), begin_by=in_seconds())
    assert [(r.key, r.ok, r.reason) for r in everything(pump)] == [
        (0, True, None),
        (1, False, Reason.INTERNAL),
    ]


@pytest.mark.parametrize("kind", ["unborn", "missing", "unheard-of"])
def test_a_kind_that_cannot_be_loaded_is_a_result_not_an_exception(pump: Pump, kind: str) -> None:
    pump.submit(kind, targets(2), begin_by=in_seconds())
    assert [result.reason for result in everything(pump)] == [Reason.INTERNAL] * 2
    pump.submit("fake", targets(1), begin_by=in_seconds())
    assert everything(pump)[0].ok


def test_one_key_twice_in_a_batch_is_refused(pump: Pump) -> None:
    with pytest.raises(ValueError, match="once per batch"):
        pump.submit("fake", targets(1) * 2, begin_by=in_seconds())
    assert pump.in_flight == 0


def test_a_time_to_begin_in_the_past_sends_nothing(pump: Pump, bmc: ScriptedBmc) -> None:
    batch = [redfish_target(bmc.address, action, key=key) for key, action in enumerate(Action)]
    pump.submit("redfish", batch, begin_by=in_seconds(-1))
    assert [result.begun for result in everything(pump)] == [False] * len(batch)
    assert bmc.connections == 0


def test_dead_bmcs_do_not_delay_the_results_of_the_others(
    pump: Pump, bmc: ScriptedBmc, make_bmc: Callable[..., ScriptedBmc], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessions_app.drivers.bmc_http.REQUEST_SECONDS", 3.0)
    hanging = [make_bmc() for _ in range(3)]
    for dead in hanging:
        dead.script("GET", SYSTEM, Reply(fault="hang"))
    closed = ClosedPort()
    batch = [redfish_target(dead.address, Action.STATE, key=key) for key, dead in enumerate(hanging)]
    batch += [redfish_target(closed.address, Action.STATE, key=10)]
    batch += [redfish_target(bmc.address, Action.STATE, key=key) for key in range(20, 40)]
    pump.submit("redfish", batch, begin_by=in_seconds())
    order = [result.key for result in everything(pump)]
    closed.close()
    assert set(order[-3:]) == {0, 1, 2}
    assert sorted(order) == [0, 1, 2, 10, *range(20, 40)]


def test_connections_are_kept_between_batches(pump: Pump, bmc: ScriptedBmc) -> None:
    for _ in range(3):
        pump.submit("redfish", [redfish_target(bmc.address, Action.STATE)], begin_by=in_seconds())
        assert everything(pump)[0].power is Power.OFF
    assert bmc.connections == 1


def test_a_closed_pump_ends_its_thread_and_takes_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stubborn, "mood", "hang")
    pump = Pump()
    pump.submit("stubborn", targets(2), begin_by=in_seconds())
    waiting = threading.Thread(target=lambda: pump.drain(wait=GENEROUS_SECONDS, most=1))
    waiting.start()
    pump.close()
    waiting.join(GENEROUS_SECONDS)
    assert not waiting.is_alive()
    assert not pump._thread.is_alive()
    with pytest.raises(RuntimeError, match="closed"):
        pump.submit("fake", targets(1), begin_by=in_seconds())
    pump.close()


def test_a_forked_child_gets_a_pump_of_its_own() -> None:
    mine = get_pump()
    mine.submit("fake", targets(1), begin_by=in_seconds())
    assert everything(mine)[0].ok
    assert get_pump() is mine
    reader, writer = multiprocessing.Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        # No assertion may escape here: it would run the rest of the test session twice.
        try:
            other = get_pump()
            other.submit("fake", targets(3), begin_by=in_seconds())
            writer.send((other is not mine, len(everything(other))))
        finally:
            os._exit(0)
    assert reader.poll(GENEROUS_SECONDS)
    assert reader.recv() == (True, 3)
    os.waitpid(child, 0)
    mine.submit("fake", targets(2), begin_by=in_seconds())
    assert len(everything(mine)) == 2
