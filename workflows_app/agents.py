"""The long-lived work beside the Celery steps: supervisors of hosted runtimes, watches of the others.

One thread for each runtime. None of them holds a truth: killed and started again, they go on from what the
runtime reports.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, close_old_connections
from django.utils import timezone

from events_app.services import note_seen, wake
from workflows_app import drivers, steps
from workflows_app.drivers.base import RuntimeDriver, RuntimeFault
from workflows_app.drivers.hosted.driver import HostedRuntime
from workflows_app.models import Deployment, Runtime
from workflows_app.states import DeploymentStatus

log = logging.getLogger(__name__)

LOOK_EVERY = 2.0  # seconds, for runtimes that were added, changed or removed
TELL_EVERY = 0.1
STAND_IN_EVERY = 0.5
LONGEST_PAUSE = 30.0
STEADY = 60.0  # seconds of work after which a fault counts as the first
# A worker takes what is due at once. Together with the next look this is less than replicas are given between
# leaving the routes and being asked to end (drain_seconds), so an update fails no request without a worker.
OVERDUE = timedelta(seconds=1)


def note_changes(refs: Sequence[str]) -> None:
    """Something of these deployments changed: have them looked at. A hint; who misses it looks later."""
    close_old_connections()
    rows = Deployment.objects.filter(ref__in=refs).exclude(status=DeploymentStatus.UNPUBLISHED)
    if rows.update(due_at=timezone.now()):
        wake(steps.reconcile)


@dataclass
class _Agent:
    """The thread of one runtime."""

    driver: RuntimeDriver
    fingerprint: tuple[Any, ...]
    thread: threading.Thread
    stop: threading.Event = field(default_factory=threading.Event)


class Agents:
    """One thread per runtime, as long as there is the runtime.

    The database and the broker are spoken to in threads of their own: a supervisor goes on probing, and the
    process stops when it is told to, while these do not answer.
    """

    def __init__(self, *, end_within: float | None) -> None:
        self._end_within = end_within
        self._agents: dict[str, _Agent] = {}
        self._changes: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stop = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Until `stop`; then end what has to be ended."""
        rounds = ((self._look, LOOK_EVERY), (self._stand_in, STAND_IN_EVERY), (self._tell, TELL_EVERY))
        for work, pause in rounds:
            threading.Thread(target=self._repeat, args=(work, pause), name=work.__name__, daemon=True).start()
        stop.wait()
        self._stop.set()
        agents = list(self._agents.values())
        for agent in agents:
            agent.stop.set()
        for agent in agents:
            # A watch that hangs in its connection must not hold back the end of this process.
            hosted = isinstance(agent.driver, HostedRuntime)
            agent.thread.join(timeout=(self._end_within or 0) + 2 if hosted else 0.5)

    def _repeat(self, work: Callable[[], None], pause: float) -> None:
        while not self._stop.is_set():
            try:
                work()
            except DatabaseError as error:
                log.warning("The database does not answer: %s", error)
            except Exception:
                log.exception("%s failed.", work.__name__)
            self._stop.wait(pause)

    def _tell(self) -> None:
        """Pass on what has changed since the last time, each deployment once."""
        refs = set()
        while not self._changes.empty():
            refs.add(self._changes.get())
        if refs:
            note_changes(sorted(refs))

    def _note(self, refs: Sequence[str]) -> None:
        for ref in refs:
            self._changes.put(ref)

    def _look(self) -> None:
        """Threads for runtimes that are new or were changed; an end for those of others."""
        close_old_connections()
        runtimes = list(Runtime.objects.all())
        note_seen("runtimes")
        present = {runtime.name: _fingerprint(runtime) for runtime in runtimes}
        for name, agent in list(self._agents.items()):
            if present.get(name) != agent.fingerprint or not agent.thread.is_alive():
                agent.stop.set()
                if not agent.thread.is_alive():
                    del self._agents[name]
        for runtime in runtimes:
            if runtime.name not in self._agents and not self._stop.is_set():
                self._begin(runtime)

    def _stand_in(self) -> None:
        """Where no worker takes the steps, take them here: a status must not grow old for want of one."""
        close_old_connections()
        now = timezone.now()
        if Deployment.objects.due(now).filter(due_at__lt=now - OVERDUE).exists():
            steps.reconcile()

    def _begin(self, runtime: Runtime) -> None:
        try:
            driver = drivers.make(runtime.kind, runtime.name, runtime.settings, runtime.secrets())
        except Exception:
            log.exception("Runtime %s can't be used.", runtime.name)
            return
        thread = threading.Thread(target=self._work, args=(runtime.name,), name=runtime.name, daemon=True)
        self._agents[runtime.name] = _Agent(driver, _fingerprint(runtime), thread)
        thread.start()

    def _work(self, name: str) -> None:
        """Watch, or supervise, until told to stop; after a fault again, ever later."""
        agent = self._agents[name]
        pause = 1.0
        while not agent.stop.is_set():
            began = time.monotonic()
            try:
                if isinstance(agent.driver, HostedRuntime):
                    supervisor = agent.driver.supervisor(self._note)
                    # Replicas end with Muster, and not because somebody has changed the runtime's settings.
                    supervisor.run(agent.stop, lambda: self._end_within if self._stop.is_set() else None)
                else:
                    agent.driver.watch(agent.stop, self._note)
            except RuntimeFault as fault:
                log.warning("Runtime %s: %s", name, fault)
            except Exception:
                log.exception("Runtime %s: its thread failed.", name)
            if time.monotonic() - began > STEADY:
                pause = 1.0
            agent.stop.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)


def _fingerprint(runtime: Runtime) -> tuple[Any, ...]:
    return (runtime.kind, str(runtime.settings), runtime.secret)
