"""The driver that docs/drivers.md shows must be one: it is taken from the page and held to the contract."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.conf import settings
from django.test import override_settings

from sessions_app.drivers.base import Action, PowerDriver, Target
from tests.driver_contract import CANARY, ContractFleet, DriverContract

from .redfish_fleets import ClosedPort

PAGE = Path(__file__).resolve().parents[2] / "docs" / "drivers.md"
LINES_MOST = 60


class RelayBox:
    """The box that the page invents; a context manager."""

    def __init__(self) -> None:
        self.state = "off"
        self.told = 0
        self.address = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> RelayBox:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *problem: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)

    def _serve(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._answer, "127.0.0.1", 0))
        self.address = f"relay://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        self._loop.run_forever()
        self._loop.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        word, _, *pin = (await reader.readline()).decode().split()
        if word == "state":
            writer.write(self.state.encode() + b"\n")
        elif pin == [CANARY]:
            self.state = word
            self.told += 1
            writer.write(b"ok\n")
        else:
            writer.write(b"bad pin\n")
        writer.close()


class RelayFleet(ContractFleet):
    nodes = tuple(f"x9c0s{slot}b0n0" for slot in range(4))
    dead = "x9c1s0b0n0"
    knows_graceful = False

    def __init__(self, driver: type[PowerDriver], boxes: list[RelayBox], dead_address: str) -> None:
        self.driver = driver
        self.boxes = dict(zip(self.nodes, boxes, strict=True))
        self.dead_address = dead_address

    def make_driver(self) -> PowerDriver:
        return self.driver()

    def target(self, node: str, action: Action, key: int = 1) -> Target:
        address = self.boxes[node].address if node in self.boxes else self.dead_address
        return Target(key, node, action, address, settings={"outlet": 7}, secrets={"pin": CANARY})

    def switches(self, node: str) -> int:
        return self.boxes[node].told


@pytest.fixture
def example() -> Iterator[type[PowerDriver]]:
    """The page's driver as a module that the settings can name."""
    code = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)[0]
    assert len(code.splitlines()) <= LINES_MOST
    module = types.ModuleType("relay_from_the_docs")
    exec(compile(code, str(PAGE), "exec"), module.__dict__)  # noqa: S102 - our own documentation
    sys.modules[module.__name__] = module
    table = {**settings.MUSTER_POWER_DRIVERS, "relay": f"{module.__name__}.RelayDriver"}
    with override_settings(MUSTER_POWER_DRIVERS=table):
        yield module.RelayDriver
    del sys.modules[module.__name__]


class TestDocumentedExample(DriverContract):
    @pytest.fixture
    def fleet(self, example: type[PowerDriver]) -> Iterator[ContractFleet]:
        closed = ClosedPort()
        with ExitStack() as stack:
            boxes = [stack.enter_context(RelayBox()) for _ in range(4)]
            yield RelayFleet(example, boxes, closed.address.replace("http:", "relay:"))
        closed.close()
