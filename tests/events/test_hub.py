"""The hub by itself: what it reads, and how often."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection
from typing import Any

import pytest

from events_app.live import hub as hubs
from events_app.live import rows
from events_app.live.encoding import SessionFormat
from events_app.live.filters import Hearer, SessionFilter
from events_app.live.hub import Hub, Stream
from events_app.live.sockets import Socket
from tests.base import RedisServer
from tests.events.tell import tell_many
from tests.events.wire import parse


class Paper(Socket):
    """Keeps what is written."""

    closed = False

    def __init__(self) -> None:
        self.text = b""

    def write(self, data: bytes) -> None:
        self.text += data

    def unsent(self) -> int:
        return 0

    def end(self) -> None:
        pass

    @property
    def numbers(self) -> list[int]:
        """The ids, in order of arrival."""
        return [int(event["id"]) for event in parse(self.text.decode())]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where replays read the table, in the hub's batches of a hundred rows and 300 kept at its start."""
    seen: list[int] = []
    read_between = rows.read_between

    def note(after: int, *more: Any) -> Any:
        seen.append(after)
        return read_between(after, *more)

    monkeypatch.setattr(rows, "read_between", note)
    monkeypatch.setattr(hubs, "BATCH", 100)
    monkeypatch.setattr(hubs, "KEPT_AT_START", 300)
    return seen


def listen(redis_url: str, *cursors: int) -> list[Paper]:
    """Let as many come with these cursors at once, and wait until each has all there is."""

    async def run() -> list[Paper]:
        hub = Hub(redis_url=redis_url, recheck=lambda hearers: [])
        hub.start()
        assert await hub.ready(30)
        papers = [Paper() for _ in cursors]
        streams = [Stream(Hearer(1), SessionFilter(), SessionFormat(False), paper) for paper in papers]
        for stream, cursor in zip(streams, cursors, strict=True):
            hub.join(stream, cursor)
        async with asyncio.timeout(60):
            while not all(stream.group for stream in streams):
                await asyncio.sleep(0.01)
        hub.close()
        return papers

    return asyncio.run(run())


@pytest.mark.usefixtures("transactional_db")
def test_who_comes_back_from_the_same_place_is_read_for_once(redis_server: RedisServer, reads: list[int]):
    told = tell_many(1000)
    papers = listen(redis_server.url, *[told[0]] * 15, *[told[499]] * 15)
    assert [paper.numbers for paper in papers] == [told[1:]] * 15 + [told[500:]] * 15
    # 699 rows in batches of a hundred, however many ask for them.
    assert len(reads) == 7


@pytest.mark.usefixtures("transactional_db")
def test_rows_that_would_take_too_much_memory_are_read_for_each(
    redis_server: RedisServer, reads: list[int], monkeypatch: pytest.MonkeyPatch
):
    told = tell_many(1000)
    monkeypatch.setattr(hubs, "KEPT_BYTES", 300 * 700)
    papers = listen(redis_server.url, told[0], told[0])
    assert [paper.numbers for paper in papers] == [told[1:]] * 2
    assert len(reads) > 7


class Hasty(SessionFormat):
    """Sends a heartbeat four times a second."""

    ping_every = 0.25


def test_hearts_beat_on_while_the_database_does_not_answer(redis_server: RedisServer):
    asked, answer = threading.Event(), threading.Event()

    def recheck(hearers: Collection[Hearer]) -> Collection[Hearer]:
        asked.set()
        answer.wait(60)
        return []

    async def run() -> None:
        hub = Hub(redis_url=redis_server.url, recheck=recheck)
        hub.start()
        paper = Paper()
        hub.join(Stream(Hearer(1), SessionFilter(), Hasty(False), paper), hub.last)
        async with asyncio.timeout(60):
            while not asked.is_set():
                await asyncio.sleep(0.01)
            paper.text = b""
            while paper.text.count(b": ping") < 3:
                await asyncio.sleep(0.01)
        answer.set()
        hub.close()

    asyncio.run(run())
