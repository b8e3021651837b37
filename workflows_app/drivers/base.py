"""What the reconcile step asks of a runtime: plain values in, plain values out.

A driver imports no model and saves nothing. `Plan` says what shall run, `Observation` what does run; to
bring the one to the other is the runtime's work (Kubernetes' own controllers, or ours for processes and
containers).
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from threading import Event
from typing import Any, ClassVar

from accounts_app.declared import Setting


class Rollout(StrEnum):
    """How far a service has come to its newest revision (contracts, workflows 12.2)."""

    IN_PROGRESS = "InProgress"
    COMPLETE = "Complete"  # stays so when replicas fail later: "rolled out" is not "healthy now"
    FAILED = "Failed"


class Reason(StrEnum):
    """rolloutStatusReason (contracts, workflows 12.5)."""

    NONE = ""
    ROLLING_OUT = "RollingOutReplicaSet"
    DEADLINE = "ProgressDeadlineExceeded"
    REPLICA_FAILURE = "ReplicaFailure"
    PAUSED = "DeploymentPaused"


@dataclass(frozen=True, slots=True)
class Probe:
    """When a replica is ready. Times in seconds; `port` None = the service's."""

    kind: str  # "http" or "tcp"
    path: str = "/"
    port: int | None = None
    initial_delay_seconds: float = 0
    period_seconds: float = 2
    timeout_seconds: float = 1
    success_threshold: int = 1
    failure_threshold: int = 3


@dataclass(frozen=True, slots=True)
class Strategy:
    """How an update replaces replicas. Numbers, or percentages as text ("25%")."""

    kind: str = "rolling"  # or "recreate"
    max_surge: int | str = "25%"
    max_unavailable: int | str = "25%"

    def bounds(self, want: int) -> tuple[int, int]:
        """(surge, unavailable) for `want` replicas: surge rounds up, unavailable down, never both 0."""
        if self.kind == "recreate" or want == 0:
            return 0, 0
        surge = _share(self.max_surge, want, math.ceil)
        unavailable = _share(self.max_unavailable, want, math.floor)
        return (surge, unavailable) if surge or unavailable else (0, 1)


def _share(value: int | str, want: int, rounded: Callable[[float], int]) -> int:
    if isinstance(value, str):
        return rounded(int(value.removesuffix("%")) * want / 100)
    return value


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """One service as it shall run."""

    id: str  # unique on the runtime, e.g. knowledge-m-f252bb2b
    name: str
    replicas: int = 1
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    port: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    cpu: float | None = None  # cores
    memory: int | None = None  # bytes
    probe: Probe | None = None
    strategy: Strategy = field(default_factory=Strategy)
    min_ready_seconds: float = 0
    progress_deadline_seconds: float = 600
    stop_seconds: float = 10  # between asking a replica to end and ending it
    drain_seconds: float = 3  # between taking it off the routes and asking it to end
    annotations: Mapping[str, str] = field(default_factory=dict)
    restarts: int = 0  # a higher number replaces all replicas

    def template(self) -> str:
        """A short name of what each replica is; equal for services that need no replacing."""
        values = asdict(self)
        for name in ("replicas", "strategy", "progress_deadline_seconds", "min_ready_seconds"):
            del values[name]
        for name in ("stop_seconds", "drain_seconds", "id", "name"):
            del values[name]
        return _digest(values)[:10]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ServicePlan:
        """The inverse of `dataclasses.asdict`, from JSON."""
        values = dict(values)
        if values.get("probe") is not None:
            values["probe"] = Probe(**values["probe"])
        values["strategy"] = Strategy(**values["strategy"])
        for name in ("command", "args"):
            values[name] = tuple(values[name])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Plan:
    """All services of one deployment. `generation` grows with each change, so an older plan never wins."""

    ref: str  # the deployment's UUID
    workflow: str
    generation: int
    services: tuple[ServicePlan, ...]

    def digest(self) -> str:
        """Equal for plans that ask for the same."""
        return _digest([self.ref, [asdict(service) for service in self.services]])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """One replica as the runtime reports it. Times are aware and in UTC."""

    name: str
    state: str  # the runtime's word: Running, ContainerCreating, CrashLoopBackOff...
    ready: bool
    available: bool
    at_latest: bool
    created_at: datetime
    started_at: datetime | None = None  # None while no node has accepted it
    message: str = ""
    address: str = ""  # base URL where requests reach it; "" = not to be sent any
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One service as the runtime reports it; counts as a Kubernetes Deployment's status has them."""

    id: str
    desired: int
    actual: int  # available replicas, old and new
    rollout: str
    reason: str = ""
    message: str = ""  # the runtime's own words about the reason
    updated: int = 0
    total: int = 0
    replicas: tuple[ReplicaState, ...] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """What runs of a deployment. `digest`: of the plan it was brought (or is being brought) to."""

    digest: str
    services: tuple[ServiceState, ...] = ()
    leftovers: bool = False  # something besides the services is still to go


class RuntimeFault(Exception):
    """A runtime could not do as asked. `permanent`: repeating can't help until somebody changes something."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class RuntimeDriver(ABC):
    """One runtime. Instances are cheap, and used by one thread at a time."""

    kind: ClassVar[str]
    label: ClassVar[str]
    settings: ClassVar[tuple[Setting, ...]] = ()
    watches: ClassVar[bool] = False  # `watch` tells of changes, so a rest between looks may be long

    def __init__(self, name: str, settings: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
        self.name = name
        self._settings = {setting.name: setting.default for setting in self.settings} | dict(settings)
        self._secrets = dict(secrets)

    def check(self, plan: Plan) -> list[str]:
        """What of `plan` this kind of runtime can't do, one sentence each. Quick: called inside requests."""
        return []

    @abstractmethod
    def apply(self, plan: Plan) -> None:
        """Ask for `plan`; return when the runtime has taken it, not when it has done it.

        Idempotent. Services of this deployment that the plan doesn't name are removed.
        :raises RuntimeFault: refused (permanent), or no answer in time.
        """

    @abstractmethod
    def observe(self, ref: str) -> Observation:
        """What runs of deployment `ref`; nothing at all is an Observation without services.

        :raises RuntimeFault: no answer in time.
        """

    @abstractmethod
    def remove(self, ref: str) -> None:
        """Ask for the end of everything of `ref`. Idempotent; `observe` tells when it is gone.

        :raises RuntimeFault: refused (permanent), or no answer in time.
        """

    def logs(self, ref: str, service: str, replica: str, lines: int) -> str:
        """The last lines that a replica wrote.

        :raises RuntimeFault: unknown replica, or no answer in time.
        """
        raise RuntimeFault(f"{self.label} runtimes keep no logs.", permanent=True)

    def watch(self, stop: Event, changed: Callable[[Sequence[str]], None]) -> None:
        """Until `stop` is set, call `changed` with the refs of deployments of which something changed.

        Called by one long-lived process; what it tells is a hint, `observe` is the truth.
        :raises RuntimeFault: the connection was lost; the caller calls again.
        """
        stop.wait()
