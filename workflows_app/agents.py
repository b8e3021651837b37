"""The long-lived work beside the Celery steps: supervisors of hosted runtimes, watches of the others.

One thread for each runtime. None of them holds a truth: killed and started again, they go on from what the
runtime reports.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
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
LONGEST_PAUSE = 30.0
OVERDUE = timedelta(seconds=4)  # a worker and the beat look every 2 s


def note_changes(refs: Sequence[str]) -> None:
    """Something of these deployments changed: have them looked at. A hint; who misses it looks later."""
    try:
        close_old_connections()
        rows = Deployment.objects.filter(ref__in=refs).exclude(status=DeploymentStatus.UNPUBLISHED)
        if rows.update(due_at=timezone.now()):
            wake(steps.reconcile)
    except DatabaseError as error:
        log.warning("A change could not be passed on: %s", error)


@dataclass
class _Agent:
    """The thread of one runtime."""

    driver: RuntimeDriver
    fingerprint: tuple[Any, ...]
    thread: threading.Thread
    stop: threading.Event = field(default_factory=threading.Event)


class Agents:
    """One thread per runtime, as long as there is the runtime."""

    def __init__(self, *, end_within: float | None) -> None:
        self._end_within = end_within
        self._agents: dict[str, _Agent] = {}

    def run(self, stop: threading.Event) -> None:
        """Until `stop`; then end what has to be ended."""
        while not stop.is_set():
            self._look()
            self._stand_in()
            stop.wait(LOOK_EVERY)
        for agent in self._agents.values():
            agent.stop.set()
        for agent in self._agents.values():
            # A watch that hangs in its connection must not hold back the end of this process.
            agent.thread.join(
                timeout=(self._end_within or 0) + 2 if isinstance(agent.driver, HostedRuntime) else 0.5
            )

    def _look(self) -> None:
        try:
            close_old_connections()
            runtimes = list(Runtime.objects.all())
            note_seen("runtimes")
        except DatabaseError as error:
            log.warning("The runtimes can't be read: %s", error)
            return
        present = {runtime.name: _fingerprint(runtime) for runtime in runtimes}
        for name, agent in list(self._agents.items()):
            if present.get(name) != agent.fingerprint or not agent.thread.is_alive():
                agent.stop.set()
                if not agent.thread.is_alive():
                    del self._agents[name]
        for runtime in runtimes:
            if runtime.name not in self._agents:
                self._begin(runtime)

    def _stand_in(self) -> None:
        """Where no worker takes the steps, take them here: a status must not grow old for want of one."""
        try:
            overdue = timezone.now() - OVERDUE
            if Deployment.objects.due(timezone.now()).filter(due_at__lt=overdue).exists():
                steps.reconcile()
        except DatabaseError as error:
            log.warning("Deployments can't be read: %s", error)

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
            try:
                if isinstance(agent.driver, HostedRuntime):
                    supervisor = agent.driver.supervisor(note_changes)
                    supervisor.run(agent.stop, end_within=self._end_within)
                else:
                    agent.driver.watch(agent.stop, note_changes)
                pause = 1.0
            except RuntimeFault as fault:
                log.warning("Runtime %s: %s", name, fault)
            except Exception:
                log.exception("Runtime %s: its thread failed.", name)
            agent.stop.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)


def _fingerprint(runtime: Runtime) -> tuple[Any, ...]:
    return (runtime.kind, str(runtime.settings), runtime.secret)
