"""What breaks under the streams, at the wire: who resumes sees every event once and in order."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from django.db import connection, transaction
from honcho.environ import parse_procfile

from accounts_app.states import Role
from benchmarks.sse.followers import Follower, Followers
from events_app import services
from events_app.models import EventCounter, LifecycleEvent
from tests import factories
from tests.base import PROJECT, RedisServer, wait_until
from tests.events.tell import tell, tell_many
from tests.events.wire import Web, bearer, data_of

STEADY = 2.0


def in_thread(work: Callable[[], Any]) -> threading.Thread:
    """Do it beside the test, with a database connection of its own."""

    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def followers(web: Web) -> Iterator[Callable[[int], list[Follower]]]:
    """Starts clients with cursors and waits until all of them listen."""
    crowd = Followers()

    def start(count: int) -> list[Follower]:
        key = bearer(factories.make_key(factories.make_user("follower", Role.SUPERADMIN)))
        base = LifecycleEvent.objects.order_by("-number")[0].number
        # From the start, so that also what happens before the first connection counts.
        crowd.add(*(Follower([web.port], "/events/session", key, cursor=str(base)) for _ in range(count)))
        wait_until(lambda: all(one.connections for one in crowd.all), what="all to listen")
        return crowd.all

    yield start
    crowd.stop()


def recorded() -> list[int]:
    """Numbers of all events of sessions."""
    return list(
        LifecycleEvent.objects.filter(area="session").order_by("number").values_list("number", flat=True)
    )


def check(followers: list[Follower]) -> None:
    """Each saw each event once, in order, and no reset."""
    wanted = recorded()
    assert wanted
    for follower in followers:
        wait_until(
            lambda follower=follower: list(follower.numbers[-1:]) == wanted[-1:],
            what="the last event to arrive",
        )
        assert list(follower.numbers) == wanted
        assert not follower.names["stream-reset"]
        assert follower.fault == ""


def test_ten_thousand_events_at_once_reach_everybody(web: Web, followers: Any):
    listening = followers(20)
    tell_many(10_000, block=2000)
    check(listening)


def test_a_process_told_to_stop_ends_its_streams_properly(web: Web, start_web: Any):
    key = bearer(factories.make_key(factories.make_olga()))
    other = start_web()
    for server in (other, start_web("uvicorn")):
        streams = [server.listen("/events/session", key) for _ in range(5)]
        seen = tell(called="before")
        for stream in streams:
            stream.wait_for(1)
        assert server.stop() in (0, -15)
        for stream in streams:
            stream.read_to_end()
            assert [int(event["id"]) for event in stream.events] == [seen]
            stream.close()
        missed = tell(called="meanwhile")
        with web.listen("/events/session", key | {"Last-Event-ID": str(seen)}) as stream:
            assert int(stream.wait_for(1)[0]["id"]) == missed


def test_without_redis_events_come_within_seconds_and_with_it_again_at_once(
    web: Web, redis_server: RedisServer, followers: Any
):
    listening = followers(10)
    tell_many(3)
    check(listening)
    redis_server.stop()
    before = [one.connections for one in listening]
    for _ in range(3):
        tell_many(4)
        check(listening)
    redis_server.start()
    wait_until(lambda: "The bell is heard again" in web.said, what="the bell to be heard again")
    redis_server.flush()
    tell_many(3)
    check(listening)
    assert [one.connections for one in listening] == before  # nobody was cut off


def test_a_listener_who_reads_a_byte_a_second_is_dropped_and_disturbs_nobody(web: Web, followers: Any):
    assert web.process is not None
    key = bearer(factories.make_key(factories.make_olga()))
    memory = psutil.Process(web.process.pid).memory_info
    slow = [web.listen("/events/session", key, receive_buffer=4096) for _ in range(20)]
    listening = followers(5)
    tell_many(1000)
    check(listening)
    before = memory().rss
    padding = {"data": {"reason": "x" * 2000}}
    for _ in range(20):
        with transaction.atomic():
            for _ in range(100):
                tell(**padding)
    check(listening)
    # 20 stalled readers times 4 MB would be 80.
    assert memory().rss - before < 60_000_000

    def dropped() -> bool:
        for stream in slow:
            stream.socket.settimeout(0.01)
            with contextlib.suppress(OSError):
                stream.socket.recv(1)
        return web.said.count("was dropped") >= len(slow)

    wait_until(dropped, limit=90, what="those who hardly read to be dropped", every=1.0)
    tell_many(10)
    check(listening)
    for stream in slow:
        stream.close()


def test_a_slow_listener_who_does_read_is_brought_forward(web: Web, followers: Any):
    key = bearer(factories.make_key(factories.make_olga()))
    listening = followers(2)
    with web.listen("/events/session", key, receive_buffer=4096) as slow:
        for _ in range(10):
            with transaction.atomic():
                for _ in range(100):
                    tell(data={"reason": "x" * 2000})
        check(listening)
        wanted = recorded()
        end = f"id: {wanted[-1]}\r\n\r\n".encode()
        while end not in slow.raw[-100:]:
            assert slow.read_more()
        assert [int(event["id"]) for event in slow.events] == wanted


def test_a_transaction_that_commits_late_is_not_passed_over(web: Web, followers: Any):
    """Two writers: the second draws its numbers while the first has not committed."""
    listening = followers(3)
    first_wrote, may_commit = threading.Event(), threading.Event()

    def write_late() -> None:
        with transaction.atomic():
            tell(called="late")
            first_wrote.set()
            assert may_commit.wait(30)

    late = in_thread(write_late)
    assert first_wrote.wait(30)
    second = in_thread(lambda: tell(called="second"))
    # The second waits for the first (or would be seen now, and the first never).
    second.join(STEADY)
    assert recorded() == []
    may_commit.set()
    late.join(30)
    second.join(30)
    check(listening)
    assert len(recorded()) == 2


def test_a_crowd_that_comes_back_at_once_may_wait():
    """Twisted lets 50 connections wait, and the kernel drops the others for seconds."""
    assert "backlog=1024" in parse_procfile((PROJECT / "Procfile").read_text()).processes["web"]


def test_streams_need_neither_threads_nor_connections(web: Web):
    assert web.process is not None
    key = bearer(factories.make_key(factories.make_olga()))
    process = psutil.Process(web.process.pid)
    warm = [web.listen("/events/session", key) for _ in range(20)]
    threads, files = process.num_threads(), process.num_fds()
    streams = [web.listen("/events/session", key) for _ in range(200)]
    assert process.num_threads() <= threads + 2
    assert process.num_fds() <= files + 205
    tell(called="hello")
    for stream in [*warm, *streams]:
        assert data_of(stream.wait_for(1)[0])["sessionName"] == "hello"
        stream.close()
    wait_until(lambda: process.num_fds() <= files, what="connections to be given back")


def test_a_table_that_was_set_back_is_noticed(web: Web):
    """After a restore from a backup numbers begin again below what listeners have seen."""
    key = bearer(factories.make_key(factories.make_olga()))
    seen = tell()
    with web.listen("/events/session", key | {"Last-Event-ID": str(seen - 1)}) as stream:
        stream.wait_for(1)
        LifecycleEvent.objects.all().delete()
        EventCounter.objects.update(last=10)
        stream.read_to_end()
    with web.listen("/events/session", key | {"Last-Event-ID": str(seen)}) as stream:
        reset = stream.wait_for(1)[0]
        assert (reset["event"], reset["id"]) == ("stream-reset", "10")
        again = tell()
        assert [int(event["id"]) for event in stream.wait_for(2)] == [10, again]


@pytest.mark.usefixtures("transactional_db")
def test_a_broker_that_does_not_answer_holds_up_one_commit_and_not_each(monkeypatch: pytest.MonkeyPatch):
    tried: list[tuple[Any, ...]] = []

    class Step:
        name = "step"

        def apply_async(self, arguments: tuple[Any, ...], **options: Any) -> None:
            tried.append(arguments)
            raise TimeoutError("nobody answers")

    monkeypatch.setattr(services, "_wake_pause", services._Pause())
    for number in range(3):
        services.wake(Step(), number)
    assert tried == [(0,)]
    monkeypatch.setattr(services, "_wake_pause", services._Pause())  # as when it is over
    services.wake(Step(), 3)
    assert tried == [(0,), (3,)]
