"""Clients with cursors on two web processes, writers, and everything between them killed in turn; at the end
each client must have seen what the event table has for it: every event once and in order.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from typing import Any, NamedTuple

import redis

from benchmarks.measure import wait_for
from benchmarks.report import ROOT
from benchmarks.sse.followers import MARK, Follower, Followers
from benchmarks.sse.writer import FREE_CHANNEL, SESSIONS
from benchmarks.stand import Stand
from deploy.local.keep import die_with_parent

TASKS = 3
WEBS = ("web", "web-2")
UNLIMITED = {"MUSTER_STREAMS_PER_USER": "0"}  # three people have all streams
PATIENCE = 180.0  # seconds for a process to start or end: the machine may be busy with others
DELTAS = "node_phases"


class Event(NamedTuple):
    """A row of the event table."""

    number: int
    name: str
    area: str
    subject_id: str
    subject_name: str
    domain: str
    access_key: str
    user_id: int | None
    data: dict[str, Any]

    @property
    def mark(self) -> int:
        """Its writer's."""
        found = MARK.search(json.dumps(self.data).encode())
        return int(found[1]) if found else -1


@dataclass(frozen=True)
class Kind:
    """A kind of client: who asks for what, and what that must carry, told without the product's filters."""

    who: str
    path: str
    passes: Callable[[Event], bool]


@dataclass(frozen=True)
class Plan:
    """`outage`: seconds for which Redis is away, in each round. `burst`: events at once."""

    clients: int = 500
    rounds: int = 3
    outage: float = 60.0
    burst: int = 10_000
    writers: int = 3
    pause: float = 2.0  # seconds between two faults
    short: bool = False  # without what only repeats


@dataclass
class Outcome:
    """What was seen. `losses`: a sentence for each client that did not see what it must."""

    losses: list[str] = field(default_factory=list)
    events: int = 0
    deliveries: int = 0
    connections: int = 0
    waited: float = 0.0  # the longest until an answer came, in seconds
    faults: Counter[str] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0


def kinds(people: dict[str, Any], tasks: Sequence[str]) -> list[Kind]:
    """All kinds, the documented streams first."""
    ada = people["ada"]
    own_name = f"/events/session?sessionName=run-1&ownerAccessKey={ada['access_key']}"
    found = [
        Kind("root", "/events/session", lambda e: e.area == "session"),
        Kind("bob", "/events/session", lambda e: e.area == "session" and e.domain == "physics"),
        Kind("ada", "/events/session", lambda e: e.area == "session" and e.user_id == ada["id"]),
        Kind("root", f"/events/session?sessionId={SESSIONS[0]}",
             lambda e: e.area == "session" and e.subject_id == SESSIONS[0]),
        Kind("root", own_name, lambda e: e.area == "session" and e.subject_name == "run-1"
             and e.access_key == ada["access_key"]),
        Kind("root", "/events/stream?channel=sessions", lambda e: e.area == "session"),
        Kind("bob", "/events/stream?channel=activity&channel=background-tasks",
             lambda e: e.domain == "physics" and e.area in {"session", "workflow", "background_task"}),
        Kind("ada", f"/events/stream?channels=workflows,{FREE_CHANNEL}",
             lambda e: e.area == "channel" or (e.area == "workflow" and e.domain == "physics")),
        Kind("root", f"/events/stream?channel=nodes&channel=session:{SESSIONS[1]}",
             lambda e: e.area == "node" or (e.area == "session" and e.subject_id == SESSIONS[1])),
    ]  # fmt: skip
    for task in tasks:
        found.append(
            Kind("ada", f"/events/background-task?taskId={task}", lambda e, task=task: e.subject_id == task)
        )
    return found


class Soak:
    """One run on a stand that has Redis and one web process."""

    def __init__(self, stand: Stand, plan: Plan, say: Callable[[str], None] = lambda sentence: None) -> None:
        self.outcome = Outcome()
        self._stand, self._plan, self._say = stand, plan, say
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._ports = [stand.port, free.getsockname()[1]]
        self._dice = random.Random(4)
        self._writers: list[subprocess.Popen[bytes]] = []
        self._started = 0
        self._followers = Followers()
        self._kinds: list[Kind] = []
        self._tasks: list[str] = []

    def run(self) -> Outcome:
        """Do all of it. Raises TimeoutError where a process does not come back."""
        began = time.monotonic()
        self._start_web(1)
        invited = self._stand.inside("invite", tasks=TASKS)
        base, self._tasks = invited["newest"], invited["tasks"]
        self._kinds = kinds(invited["people"], self._tasks)
        try:
            for place in range(self._plan.clients):
                self._followers.add(self._follower(place, invited["people"], base))
            for _ in range(self._plan.writers):
                self._start_writer()
            for _ in range(self._plan.rounds):
                for fault in self._faults():
                    self._say(fault.__name__.strip("_").replace("_", " "))
                    fault()
                    self.outcome.faults[fault.__name__.strip("_").replace("_", " ")] += 1
                    time.sleep(self._dice.uniform(0.5, 1.5) * self._plan.pause)
            self._compare(base)
        finally:
            self._followers.stop()
            for writer in self._writers:
                writer.kill()
                writer.communicate()
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    def _follower(self, place: int, people: dict[str, Any], base: int) -> Follower:
        kind = self._kinds[place % len(self._kinds)]
        style = place // len(self._kinds) % 8  # so that each kind comes in each style
        return Follower(
            self._ports,
            kind.path,
            {"Authorization": f"Bearer {people[kind.who]['token']}"},
            cursor=str(base),
            first=place,
            restless=4.0 if style == 3 else 0.0,
            pace=1_000_000 if style == 5 else 0,
            keeps=DELTAS,
        )

    # -- what is done to them -----------------------------------------------------------------------

    def _faults(self) -> list[Callable[[], None]]:
        found = [
            self._kill_one_web_process, self._flush_redis, self._burst, self._kill_a_writer,
            self._tell_one_to_stop, self._freeze_redis,
        ]  # fmt: skip
        if not self._plan.short:
            found += [self._kill_the_other, self._burst_and_kill, self._kill_both]
        self._dice.shuffle(found)
        return [*found, self._take_redis_away]

    def _kill_one_web_process(self) -> None:
        self._restart_web(0, signal.SIGKILL)

    def _kill_the_other(self) -> None:
        self._restart_web(1, signal.SIGKILL)

    def _tell_one_to_stop(self) -> None:
        self._restart_web(self._dice.randrange(2), signal.SIGTERM)

    def _kill_both(self) -> None:
        for name in WEBS:
            self._end(name, signal.SIGKILL)
        for place in range(2):
            self._start_web(place)

    def _flush_redis(self) -> None:
        with redis.Redis.from_url(self._stand.environment["MUSTER_REDIS_URL"]) as client:
            client.flushall()

    def _freeze_redis(self) -> None:
        """It neither answers nor refuses."""
        self._stand.processes["redis"].send_signal(signal.SIGSTOP)
        time.sleep(self._plan.pause)
        self._stand.processes["redis"].send_signal(signal.SIGCONT)

    def _take_redis_away(self) -> None:
        self._end("redis", signal.SIGKILL)
        time.sleep(self._plan.outage / 2)
        self._restart_web(0, signal.SIGKILL)
        time.sleep(self._plan.outage / 2)
        (self._stand.home / "run" / "redis.sock").unlink(missing_ok=True)
        self._stand.run("redis")

    def _burst(self) -> None:
        self._writers[0].stdin.write(f"burst {self._plan.burst}\n".encode())
        self._writers[0].stdin.flush()

    def _burst_and_kill(self) -> None:
        self._burst()
        time.sleep(self._plan.pause / 2)
        self._restart_web(self._dice.randrange(2), signal.SIGKILL)

    def _kill_a_writer(self) -> None:
        writer = self._writers.pop()
        writer.kill()
        writer.communicate()
        self._start_writer()

    # -- processes ----------------------------------------------------------------------------------

    def _restart_web(self, place: int, how: signal.Signals) -> None:
        self._end(WEBS[place], how)
        self._start_web(place)

    def _end(self, name: str, how: signal.Signals) -> None:
        process = self._stand.processes[name]
        process.send_signal(how)
        process.wait(PATIENCE)

    def _start_web(self, place: int) -> None:
        port = self._ports[place]
        self._stand.run("web", WEBS[place], PORT=str(port))

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_for(answers, PATIENCE)

    def _start_writer(self) -> None:
        self._started += 1
        with (self._stand.home / "log" / "writers.log").open("ab") as log:
            self._writers.append(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.sse.writer", str(self._started), *self._tasks],
                    cwd=ROOT,
                    env=self._stand.environment,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    preexec_fn=die_with_parent,
                )
            )

    # -- the comparison -----------------------------------------------------------------------------

    def _compare(self, base: int) -> None:
        for writer in self._writers:
            writer.stdin.close()
        for writer in self._writers:
            writer.wait(60)
        for task in self._tasks:
            self._stand.inside("finish", task=task)
        events = [Event(*row) for row in self._stand.inside("recorded", after=base)]
        self.outcome.events = len(events)
        marks = {event.number: event.mark for event in events}
        wanted = {kind: [event for event in events if kind.passes(event)] for kind in self._kinds}
        pairs = list(zip(self._followers.all, cycle(self._kinds), strict=False))
        due = {one: wanted[kind][-1].number for one, kind in pairs}
        for one in self._followers.all:
            one.restless = 0.0
        self._followers.wait(
            lambda one: one.closed or (one.numbers and one.numbers[-1] >= due[one]), PATIENCE
        )
        self._followers.stop()
        for one, kind in pairs:
            self.outcome.deliveries += len(one.numbers)
            self.outcome.connections += one.connections
            self.outcome.waited = max(self.outcome.waited, one.waited)
            self.outcome.refused.update(one.refused)
            what = "; ".join(wrong(one, wanted[kind], marks))
            if what:
                self.outcome.losses.append(f"{kind.who} at {one.path}: {what}")


def wrong(one: Follower, wanted: list[Event], marks: dict[int, int]) -> Iterator[str]:
    """What this client did not see as it must."""
    if one.fault:
        yield one.fault
    if one.silent:
        yield f"{one.silent} times not even a heartbeat came"
    if one.names["stream-reset"]:
        yield f"{one.names['stream-reset']} resets"
    if one.path.startswith("/events/background-task") and not one.closed:
        yield "the task's stream did not end"
    seen = list(one.numbers)
    if any(later <= earlier for earlier, later in pairwise(seen)):
        yield "doubled or out of order"
    must = [event.number for event in wanted if event.name != DELTAS]
    joined = {event.number for event in wanted if event.name == DELTAS}
    single = [number for number in seen if number not in joined]
    if single != must:
        missing, more = sorted(set(must) - set(single)), sorted(set(single) - set(must))
        yield f"{len(missing)} of {len(must)} missing ({missing[:3]}), {len(more)} too many ({more[:3]})"
    if any(
        marks.get(number) != mark
        for number, mark in zip(seen, one.marks, strict=True)
        if number not in joined
    ):
        yield "an event under another's number"
    if joined and where(one.kept) != where([told(event) for event in wanted if event.name == DELTAS]):
        yield "nodes stand elsewhere than the events say"


def told(event: Event) -> dict[str, Any]:
    """A delta as a channel carries it."""
    return {"subject": event.subject_id, **event.data}


def where(deltas: list[dict[str, Any]]) -> dict[tuple[str, str, str], str]:
    """Where each node stands after these deltas: by session, phase and node."""
    return {
        (delta["subject"], phase, node): category
        for delta in deltas
        for phase, categories in delta["changes"].items()
        for category, nodes in categories.items()
        for node in nodes
    }
