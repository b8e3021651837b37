"""The driver's side of a hosted runtime: orders out, reports in."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Any

from django.conf import settings

from workflows_app.drivers.base import (
    Observation,
    Plan,
    ReplicaState,
    RuntimeDriver,
    RuntimeFault,
    ServiceState,
)
from workflows_app.drivers.hosted.replica import Host, Replica
from workflows_app.drivers.hosted.store import Store, read_json
from workflows_app.drivers.hosted.supervisor import Supervisor

NOBODY = "The supervisor of this runtime is not at work (manage.py run_runtimes)."
GONE: Any = {"ready": False, "available": False, "state": "Unknown", "message": NOBODY, "address": ""}


class HostedRuntime(RuntimeDriver):
    """A runtime whose replicas our own supervisor looks after."""

    def __init__(self, name: str, settings_: Any, secrets: Any) -> None:
        super().__init__(name, settings_, secrets)
        self.store = Store(Path(settings.MUSTER_RUNTIME_DIR) / name)

    @abstractmethod
    def host(self) -> Host:
        """What starts and ends replicas, for the supervisor."""

    def supervisor(self, changed: Callable[[Sequence[str]], None]) -> Supervisor:
        """The long-lived part; `manage.py run_runtimes` runs it."""
        self.store.prepare()
        return Supervisor(self.store, self.host(), changed)

    def watch(self, stop: Event, changed: Callable[[Sequence[str]], None]) -> None:
        """Be the supervisor: it knows of changes by itself."""
        self.supervisor(changed).run(stop)

    def apply(self, plan: Plan) -> None:
        try:
            self.store.put_plan(plan)
        except OSError as error:
            raise RuntimeFault(f"{self.store.directory} can't be written: {error.strerror}.") from None
        if not self.store.supervised():
            raise RuntimeFault(NOBODY)

    def remove(self, ref: str) -> None:
        try:
            self.store.put_removal(ref)
        except OSError as error:
            raise RuntimeFault(f"{self.store.directory} can't be written: {error.strerror}.") from None
        if not self.store.supervised():
            raise RuntimeFault(NOBODY)

    def observe(self, ref: str) -> Observation:
        order = self.store.order(ref)
        value = read_json(self.store.status / f"{ref}.json")
        if value is None:
            return Observation("", leftovers=order is not None)
        services = tuple(_service(service) for service in value["services"])
        if not self.store.supervised():
            services = tuple(self._without_supervisor(service) for service in services)
        # Until the supervisor has read the newest order, what it says is about an earlier one.
        return Observation(value["digest"], services, leftovers=order is not None and order.removed)

    def _without_supervisor(self, service: ServiceState) -> ServiceState:
        """Nobody has looked since: what is evidently gone must not count as active."""
        replicas = tuple(
            replica
            if self.alive(replica.name)
            else replace(replica, ready=False, available=False, state="Unknown", message=NOBODY, address="")
            for replica in service.replicas
        )
        gone = sum(
            before.available and not after.available
            for before, after in zip(service.replicas, replicas, strict=True)
        )
        return replace(service, replicas=replicas, actual=service.actual - gone)

    def alive(self, replica: str) -> bool:
        """Whether a replica may still run, as far as anybody can tell without a supervisor."""
        return True

    def logs(self, ref: str, service: str, replica: str, lines: int) -> str:
        known = self._replica(ref, service, replica)
        try:
            return tail(known.home(self.store) / "log", lines)
        except OSError:
            return ""

    def _replica(self, ref: str, service: str, name: str) -> Replica:
        """:raises RuntimeFault: there is no such replica of this deployment."""
        known = None
        if name and "/" not in name and not name.startswith("."):
            known = Replica.load(self.store.replicas / name)
        if known is None or known.ref != ref or known.plan.id != service:
            raise RuntimeFault(f"There is no replica {name[:100]!r} of this service.", permanent=True)
        return known


def tail(path: Path, lines: int) -> str:
    """The last lines of a file, at most 1 MB of it."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 1_000_000))
        data = file.read()
    return b"".join(data.splitlines(keepends=True)[-lines:]).decode("utf-8", "replace")


def _service(value: dict[str, Any]) -> ServiceState:
    value = {name: each for name, each in value.items() if name != "progress"}
    return ServiceState(**{**value, "replicas": tuple(_replica(each) for each in value["replicas"])})


def _replica(value: dict[str, Any]) -> ReplicaState:
    times = {
        name: datetime.fromisoformat(value[name]) if value[name] else None
        for name in ("created_at", "started_at")
    }
    return ReplicaState(**{**value, **times})
