"""The directory in which driver and supervisor of a runtime meet.

plans/REF.json        what shall run of a deployment (the driver writes)
status/REF.json       what does run (the supervisor writes)
replicas/NAME/        replica.json, log, and what the host keeps for it
lock                  held by the supervisor at work
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workflows_app.drivers.base import Plan, ServicePlan


def write_json(path: Path, value: Any) -> None:
    """Replace the file at once; only its owner reads it, for environments may hold secrets."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file)
    temporary.replace(path)


def read_json(path: Path) -> Any:
    """The file's value; None where there is none, or none that can be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class Order:
    """What shall run of one deployment, as the supervisor reads it."""

    ref: str
    generation: int
    digest: str
    services: tuple[ServicePlan, ...]
    removed: bool = False


class Store:
    """Paths and files of one runtime."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.plans = directory / "plans"
        self.status = directory / "status"
        self.replicas = directory / "replicas"

    def prepare(self) -> None:
        """Make the directories; nobody else looks in."""
        for path in (self.directory, self.plans, self.status, self.replicas):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    # -- orders ---------------------------------------------------------------------------------------

    def put_plan(self, plan: Plan) -> None:
        """Ask for a plan, unless a newer one is asked for already."""
        self.prepare()
        with self._writing():
            known = self.order(plan.ref)
            if known is not None and not known.removed and known.generation > plan.generation:
                return
            if known is not None and not known.removed and known.digest == plan.digest():
                return
            write_json(
                self.plans / f"{plan.ref}.json",
                {
                    "generation": plan.generation,
                    "digest": plan.digest(),
                    "services": [asdict(service) for service in plan.services],
                },
            )

    def put_removal(self, ref: str) -> None:
        """Ask for the end of a deployment."""
        self.prepare()
        with self._writing():
            known = self.order(ref)
            if known is not None and not known.removed:
                value = {"generation": known.generation, "digest": "", "services": [], "removed": True}
                write_json(self.plans / f"{ref}.json", value)

    def order(self, ref: str) -> Order | None:
        """What was asked for; None where nothing was, or its end was reached."""
        value = read_json(self.plans / f"{ref}.json")
        if value is None:
            return None
        services = tuple(ServicePlan.from_dict(service) for service in value["services"])
        return Order(ref, value["generation"], value["digest"], services, value.get("removed", False))

    def stamps(self) -> dict[str, int]:
        """Deployment -> something that changes with its order."""
        found = {}
        with contextlib.suppress(OSError), os.scandir(self.plans) as entries:
            for entry in entries:
                if entry.name.endswith(".json") and not entry.name.startswith("."):
                    with contextlib.suppress(OSError):
                        found[entry.name[:-5]] = entry.stat().st_mtime_ns ^ entry.inode()
        return found

    def forget(self, ref: str) -> None:
        """A removed deployment is gone: unless it was asked for anew, forget it."""
        with self._writing():
            order = self.order(ref)
            if order is None or order.removed:
                (self.status / f"{ref}.json").unlink(missing_ok=True)
                (self.plans / f"{ref}.json").unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One writer of orders at a time: they are read, compared and replaced."""
        descriptor = os.open(self.directory / "orders.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    # -- the supervisor -------------------------------------------------------------------------------

    def take(self) -> int | None:
        """Become the supervisor: a descriptor to keep open as long; None where there is one already."""
        self.prepare()
        descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor

    def supervised(self) -> bool:
        """Whether a supervisor is at work."""
        try:
            descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            # A shared lock: two that ask at once must not take each other for the supervisor.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False
