"""A runtime that runs nothing: it works, fails on demand, and shows how a driver is written.

A service's fate is told by its annotation `fake/behaviour`: run (the default), starting, crash, pull-fail,
unschedulable, deadline. What it "runs" is kept in this process's memory, by the runtime's name; time goes on
with the real clock, and `fake/ready-seconds` (0) says how long a replica takes to be ready.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from workflows_app.drivers.base import (
    Observation,
    Plan,
    Reason,
    ReplicaState,
    Rollout,
    RuntimeDriver,
    RuntimeFault,
    ServicePlan,
    ServiceState,
    Setting,
)

# behaviour -> the replica's word, its message, whether a node took it, the rollout's end
Fate = tuple[str, str, bool, tuple[str, str, str]]
UP: Fate = ("Running", "", True, (Rollout.COMPLETE, "", ""))
FATES: dict[str, Fate] = {
    "starting": ("ContainerCreating", "", True, (Rollout.IN_PROGRESS, Reason.ROLLING_OUT, "")),
    "crash": (
        "CrashLoopBackOff",
        "back-off 10s restarting failed container",
        True,
        (Rollout.IN_PROGRESS, Reason.ROLLING_OUT, ""),
    ),
    "pull-fail": (
        "ImagePullBackOff",
        "Back-off pulling image",
        True,
        (Rollout.IN_PROGRESS, Reason.ROLLING_OUT, ""),
    ),
    "unschedulable": (
        "Unschedulable",
        "no nodes available to schedule pods",
        False,
        (Rollout.IN_PROGRESS, Reason.ROLLING_OUT, ""),
    ),
    "deadline": (
        "ContainerCreating",
        "",
        True,
        (Rollout.FAILED, Reason.DEADLINE, "ReplicaSet has timed out progressing."),
    ),
}


@dataclass
class _World:
    """What one fake runtime runs, and how it is to misbehave."""

    plans: dict[str, Plan] = field(default_factory=dict)
    since: dict[str, datetime] = field(default_factory=dict)  # ref/service/template -> first asked for
    lingering: bool = False  # removed deployments go on ending
    fault: RuntimeFault | None = None  # raised by every call
    refusal: RuntimeFault | None = None  # raised by calls that are to change something


class FakeRuntime(RuntimeDriver):
    """See the module's words. Tests reach in by `FakeRuntime.world(name)`."""

    kind = "fake"
    label = "Fake"
    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("refuses", "Refuse every plan with this sentence", help="A permanent fault at publishing."),
        Setting("password", "Password", secret=True, help="Not used; shows how secrets are kept."),
    )
    _worlds: ClassVar[dict[str, _World]] = {}

    @classmethod
    def world(cls, name: str) -> _World:
        """What the fake runtime of this name runs."""
        return cls._worlds.setdefault(name, _World())

    @classmethod
    def forget_all(cls) -> None:
        """Begin anew, for tests."""
        cls._worlds.clear()

    def apply(self, plan: Plan) -> None:
        world = self._reached(to_change=True)
        if self._settings["refuses"]:
            raise RuntimeFault(self._settings["refuses"], permanent=True)
        known = world.plans.get(plan.ref)
        if known is not None and known.generation > plan.generation:
            return
        world.plans[plan.ref] = plan

    def observe(self, ref: str) -> Observation:
        world = self._reached()
        plan = world.plans.get(ref)
        if plan is None:
            return Observation("")
        return Observation(plan.digest(), tuple(self._service(world, ref, each) for each in plan.services))

    def remove(self, ref: str) -> None:
        world = self._reached(to_change=True)
        if not world.lingering:
            world.plans.pop(ref, None)

    def logs(self, ref: str, service: str, replica: str, lines: int) -> str:
        plan = self._reached().plans.get(ref)
        if plan is None or not replica.startswith(service):
            raise RuntimeFault(f"There is no replica {replica}.", permanent=True)
        return f"{replica} says nothing.\n"

    def _reached(self, *, to_change: bool = False) -> _World:
        world = self.world(self.name)
        fault = world.fault or (world.refusal if to_change else None)
        if fault is not None:
            raise fault
        return world

    def _service(self, world: _World, ref: str, plan: ServicePlan) -> ServiceState:
        since = world.since.setdefault(f"{ref}/{plan.id}/{plan.template()}", datetime.now(UTC))
        fate = plan.annotations.get("fake/behaviour", "run")
        up_at = since + timedelta(seconds=float(plan.annotations.get("fake/ready-seconds", 0)))
        up = fate == "run" and datetime.now(UTC) >= up_at
        if up:
            state, message, taken, (rollout, reason, words) = UP
        else:
            state, message, taken, (rollout, reason, words) = FATES.get(fate, FATES["starting"])
        return ServiceState(
            id=plan.id,
            desired=plan.replicas,
            actual=plan.replicas if up else 0,
            rollout=rollout,
            reason=reason,
            message=words,
            updated=plan.replicas,
            total=plan.replicas,
            replicas=tuple(
                ReplicaState(
                    name=self._name(plan, number),
                    state=state,
                    message=message,
                    ready=up,
                    available=up,
                    at_latest=True,
                    created_at=since,
                    started_at=since if taken else None,
                    address=f"http://127.0.0.1:{plan.port}" if up and plan.port else "",
                )
                for number in range(plan.replicas)
            ),
        )

    @staticmethod
    def _name(plan: ServicePlan, number: int) -> str:
        digest = hashlib.sha256(f"{plan.template()}{number}".encode()).hexdigest()
        return f"{plan.id}-{plan.template()}-{digest[:5]}"
