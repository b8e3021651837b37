"""Records events as a busy site would, and worse: blocks, bursts, blocks that fail, commits that come late.

`python -m benchmarks.sse.writer NUMBER TASK...` writes until standard input ends; a line `burst N` there asks
for N events as quick as can be. Each event carries the mark `k…z`: this writer's number and a running one.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import deque
from typing import Any

SESSIONS = [f"00000000-0000-0000-0000-{number:012d}" for number in range(1, 7)]
DOMAINS = ("physics", "chemistry")
FREE_CHANNEL = "lab"
NODES = 40
PER_WRITER = 10**9


class Broken(Exception):
    """A block is to be rolled back."""


class Writer:
    """One process that writes. `tasks` are open background tasks to tell progress of."""

    def __init__(self, number: int, tasks: list[str]) -> None:
        from accounts_app.models import User

        self._count = number * PER_WRITER
        self._tasks = tasks
        self._dice = random.Random(number)
        self._owners: list[tuple[int | None, str]] = [(None, "")]
        for user in User.objects.filter(username__in=("ada", "bob")):
            self._owners.append((user.pk, user.keys.get().access_key))

    def mark(self) -> str:
        """What no other event has."""
        self._count += 1
        return f"k{self._count}z"

    def write(self) -> None:
        """One transaction, of one kind or another."""
        from django.db import transaction

        from events_app.services import recording

        kind = self._dice.random()
        if kind < 0.6:
            with recording():
                self._some(12)
        elif kind < 0.7:
            self._progress()
        elif kind < 0.8:
            self._fail()
        elif kind < 0.87:
            with recording():
                self._some(3)
                self._fail()  # the inner block vanishes, the outer one does not
                self._some(3)
        elif kind < 0.97:
            self._some(2)  # each by itself
        else:
            # Numbers are drawn long before the commit: whoever writes meanwhile has to wait.
            with transaction.atomic():
                with recording():
                    self._some(5)
                time.sleep(self._dice.uniform(0.1, 1.0))

    def burst(self, count: int) -> None:
        """So many events of sessions in blocks of two thousand."""
        from events_app.services import recording

        while count > 0:
            with recording():
                for _ in range(min(count, 2000)):
                    self._session()
            count -= 2000

    def _fail(self) -> None:
        from events_app.services import recording

        try:
            with recording():
                self._some(6)
                raise Broken
        except Broken:
            pass

    def _some(self, most: int) -> None:
        for _ in range(self._dice.randint(1, most)):
            self._dice.choice(
                (self._session, self._session, self._session, self._nodes, self._free, self._workflow)
            )()

    def _session(self) -> None:
        place = self._dice.randrange(len(SESSIONS))
        user, key = self._dice.choice(self._owners)
        domain = DOMAINS[0] if user else self._dice.choice(DOMAINS)
        self._record(
            name=self._dice.choice(("session_preparing", "session_creating", "session_started")),
            area="session", subject_id=SESSIONS[place], subject_name=f"run-{place}", domain=domain,
            access_key=key, user_id=user, data={"reason": self.mark()},
        )  # fmt: skip

    def _nodes(self) -> None:
        moved = self._dice.sample(range(NODES), 3)
        category = self._dice.choice(("pending", "in_progress", "succeeded", "failed"))
        changes = {"boot": {category: [f"x{number}" for number in moved]}}
        place = self._dice.randrange(len(SESSIONS))
        self._record(
            name="node_phases", area="node", subject_id=SESSIONS[place], subject_name=f"run-{place}",
            domain=DOMAINS[0], data={"changes": changes, "mark": self.mark()},
        )  # fmt: skip

    def _free(self) -> None:
        from events_app.stream import push

        push(FREE_CHANNEL, "note", {"mark": self.mark()})

    def _workflow(self) -> None:
        domain = self._dice.choice(DOMAINS)
        self._record(
            name="workflow_ready", area="workflow", subject_id="7", domain=domain, data={"mark": self.mark()}
        )

    def _progress(self) -> None:
        from events_app.services import report_progress

        for _ in range(20):
            report_progress(
                self._dice.choice(self._tasks), current=self._dice.randrange(100), message=self.mark()
            )

    @staticmethod
    def _record(**event: Any) -> None:
        from events_app.services import record_event

        record_event(**event)


def main() -> None:
    """Write until standard input ends."""
    import django

    django.setup()
    from django.db import Error, connection

    orders: deque[int] = deque()
    over = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            orders.append(int(line.split()[1]))
        over.set()

    threading.Thread(target=listen, daemon=True).start()
    writer = Writer(int(sys.argv[1]), sys.argv[2:])
    while not over.is_set():
        try:
            if orders:
                writer.burst(orders.popleft())
            writer.write()
        except Error as error:  # the database was busy or away: what was not committed never happened
            print(error, file=sys.stderr, flush=True)
            connection.close()
        time.sleep(0.02)


if __name__ == "__main__":
    main()
