"""The soak of `bin/bench soak`, short: everything is killed in turn, clients with cursors miss nothing."""

from __future__ import annotations

from array import array
from typing import Any

import pytest

from benchmarks.sse.followers import BadWire, Chunks, Follower
from benchmarks.sse.soak import UNLIMITED, Event, Outcome, Plan, Soak, wrong
from benchmarks.stand import stand
from tests.postgres import Unavailable

PLAN = Plan(clients=60, rounds=1, outage=4.0, burst=3000, writers=2, pause=0.5, short=True)


def soak(database: str) -> Outcome:
    """Run it on a database of its own."""
    with stand(database=database, processes=("redis", "web"), traced=(), extra=UNLIMITED) as one:
        return Soak(one, PLAN).run()


@pytest.mark.process
def test_nobody_with_a_cursor_misses_anything_whatever_is_killed():
    """On PostgreSQL, where transactions really overlap; on SQLite where there is none."""
    try:
        outcome = soak("postgresql")
    except Unavailable:
        outcome = soak("sqlite")
    assert outcome.losses == []
    assert set(outcome.refused) <= {503}
    # It was what it should be: everybody had to come back, and there was something to miss.
    assert outcome.connections > 2 * PLAN.clients
    assert outcome.events > PLAN.burst
    assert set(outcome.faults.values()) == {1}
    assert len(outcome.faults) == 7


def event(number: int, name: str = "session_started", **data: Any) -> Event:
    """A row as `recorded` gives it."""
    return Event(number, name, "session", "s", "run", "", "", None, data or {"reason": f"k{number}z"})


@pytest.mark.parametrize(
    ("numbers", "marks", "words"),
    [
        ([1, 2, 3], [1, 2, 3], ""),
        ([1, 3], [1, 3], "1 of 3 missing"),
        ([1, 2, 2, 3], [1, 2, 2, 3], "doubled"),
        ([2, 1, 3], [2, 1, 3], "out of order"),
        ([1, 2, 3, 4], [1, 2, 3, 4], "1 too many"),
        ([1, 2, 3], [1, 9, 3], "another's number"),
    ],
)
def test_the_comparison_sees_each_kind_of_loss(numbers: list[int], marks: list[int], words: str):
    one = Follower([1], "/events/session", {}, cursor="0")
    one.numbers, one.marks = array("q", numbers), array("q", marks)
    wanted = [event(number) for number in (1, 2, 3)]
    found = "; ".join(wrong(one, wanted, {number: number for number in (1, 2, 3, 4)}))
    assert found == "" if not words else words in found


def test_the_comparison_sees_where_nodes_stand():
    one = Follower([1], "/events/stream?channel=nodes", {}, cursor="0")
    first, second = ({"boot": {"pending": ["a", "b"]}}, {"boot": {"failed": ["a"]}})
    wanted = [event(1, "node_phases", changes=first), event(2, "node_phases", changes=second)]
    one.numbers, one.marks = array("q", [2]), array("q", [2])
    one.kept = [{"subject": "s", "changes": {"boot": {"pending": ["b"], "failed": ["a"]}}}]
    assert list(wrong(one, wanted, {})) == []
    one.kept[0]["changes"]["boot"]["pending"] = ["b", "a"]
    one.kept[0]["changes"]["boot"].pop("failed")
    assert list(wrong(one, wanted, {})) == ["nodes stand elsewhere than the events say"]


def test_chunks_are_read_strictly():
    chunks = Chunks()
    assert chunks.feed(b"3\r\nabc\r\n2\r") == b"abc"
    assert (chunks.feed(b"\nde\r\n0\r\n\r\n"), chunks.ended) == (b"de", True)
    for bad in (b"x\r\n", b"3\r\nabcd\r\n"):
        with pytest.raises(BadWire):
            Chunks().feed(bad)
