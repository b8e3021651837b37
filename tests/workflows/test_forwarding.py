"""Which replica a request goes to while some can't be connected to."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from workflows_app.gateway import forwarding, routes
from workflows_app.gateway.forwarding import Answer, NoReplica, NotConnected, Question, forward
from workflows_app.gateway.routes import Route, Routes

QUESTION = Question(workflow_id="w", service="web", method="POST", path="/")


@pytest.fixture
def clock(monkeypatch):
    """Seconds, which pass only where a test lets them."""
    now = [1000.0]
    stopped = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(routes, "time", stopped)
    monkeypatch.setattr(forwarding, "time", stopped)
    return now


def table(*addresses: str) -> Routes:
    made = Routes()
    made.by_workflow["w"] = Route("w", "t", "web", "/", 60, addresses={"web": list(addresses)})
    return made


def ask(monkeypatch: Any, known: Routes, silent: set[str], meanwhile: Any = lambda: None) -> list[str]:
    """The addresses that one request goes to, until one that isn't `silent`."""
    asked = []

    async def one(session: Any, address: str, question: Question, seconds: float) -> Answer:
        asked.append(address)
        if address in silent:
            meanwhile()
            raise NotConnected
        return Answer(200, {}, b"")

    monkeypatch.setattr(forwarding, "_ask", one)
    asyncio.run(forward(None, known, QUESTION))  # type: ignore[arg-type]
    assert not known.busy
    return asked


def test_who_could_not_be_connected_to_comes_last_for_a_while(monkeypatch, clock):
    known = table("dead", "live")
    first = [ask(monkeypatch, known, {"dead"}) for _ in range(4)]
    # Whoever came upon it first has waited for it; nobody after that.
    assert first.count(["dead", "live"]) == 1
    assert first[-1] == ["live"]
    known.by_workflow["w"].addresses["web"] = ["dead"]
    assert ask(monkeypatch, known, set()) == ["dead"]  # last is not never
    known = table("dead", "live")
    known.avoid("dead")
    clock[0] += routes.AVOIDED_FOR
    assert {known.best("w", "web") for _ in range(2)} == {"dead", "live"}


def test_a_request_follows_the_routes_while_it_waits_for_the_silent(monkeypatch, clock):
    """Addresses of pods that are gone are silent for longer than a request looks for others."""
    known = table("gone1", "gone2")

    def updated() -> None:
        clock[0] += 2
        known.by_workflow["w"].addresses["web"] = ["gone2", "new"]

    asked = ask(monkeypatch, known, {"gone1", "gone2"}, updated)
    assert asked[-1] == "new"
    assert len(asked) == len(set(asked)) <= 3


def test_nobody_at_all_is_told_in_time(monkeypatch, clock):
    known = table("gone")

    def waited() -> None:
        clock[0] += 2

    with pytest.raises(NoReplica):
        ask(monkeypatch, known, {"gone"}, waited)
    assert clock[0] <= 1000 + 2 * forwarding.GAP_SECONDS
