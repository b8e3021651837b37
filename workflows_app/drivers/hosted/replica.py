"""One replica under our supervisor: what is known of it, kept in a file; and what does the real work."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from workflows_app.drivers.base import ServicePlan
from workflows_app.drivers.hosted.store import Store, read_json, write_json

# As Kubernetes' kubelet: at once, then 10 s doubling to 300 s; forgotten after 10 minutes of running.
FIRST_BACK_OFF, LONGEST_BACK_OFF, STEADY_AFTER = 10.0, 300.0, 600.0
# Of a replica's fields, those that go to its file.
KEPT = (
    "name",
    "ref",
    "template",
    "created_at",
    "port",
    "attempt",
    "phase",
    "started_at",
    "next_start_at",
    "pause",
    "back_off",
    "restarts",
    "word",
    "words",
    "ready_since",
    "ending_at",
    "asked_at",
    "details",
)
LETTERS = "bcdfghjklmnpqrstvwxz2456789"


class HostFault(Exception):
    """A replica could not be started; `word` is its status, the message says why."""

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.word = word


@dataclass(frozen=True, slots=True)
class Exit:
    """How a replica ended: an exit code, else a signal, else unknown."""

    code: int | None = None
    signal: int | None = None
    word: str = ""  # where the host knows better: OOMKilled, StartError
    words: str = ""

    @property
    def status(self) -> str:
        """As the STATUS column of kubectl says it."""
        return self.word or ("Completed" if self.code == 0 else "Error")

    def describe(self) -> str:
        """In words."""
        if self.words:
            return self.words
        if self.signal is not None:
            return f"ended by signal {self.signal}"
        return "its end was not seen" if self.code is None else f"exit code {self.code}"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a host sees of a replica now. Neither running nor ended: there is nothing."""

    running: bool
    ended: Exit | None = None


@dataclass
class Replica:
    """What the supervisor knows of one replica. Times are seconds since the epoch."""

    name: str
    ref: str
    plan: ServicePlan  # as it was started with; an update starts others
    template: str
    created_at: float
    port: int | None = None
    attempt: int = 0  # how often it was started
    phase: str = "waiting"  # waiting, starting, running
    started_at: float | None = None
    next_start_at: float = 0
    pause: float = 0  # before the start that is next
    back_off: float = 0  # and the pause after that
    restarts: int = 0
    word: str = ""  # of the last failure: Error, OOMKilled, ErrImagePull...
    words: str = ""  # about it
    ready_since: float | None = None
    ending_at: float | None = None  # it is on the way out; from then on it is asked to end
    asked_at: float | None = None  # when it was asked to end
    details: dict[str, Any] = field(default_factory=dict)  # the host's: process numbers, container id

    # In memory only.
    starting: Future[None] | None = field(default=None, repr=False)
    probing: Future[str] | None = field(default=None, repr=False)
    next_probe_at: float = 0
    successes: int = 0
    failures: int = 0
    probe_error: str = ""
    refusal: str = ""  # why it can't be placed now
    forced: bool = False

    @classmethod
    def new(cls, ref: str, plan: ServicePlan, now: float) -> Replica:
        """A replica to be started."""
        template = plan.template()
        ending = "".join(random.SystemRandom().choices(LETTERS, k=5))
        return cls(f"{plan.id}-{template}-{ending}", ref, plan, template, now)

    @property
    def ending(self) -> bool:
        """Whether it is on the way out: it counts no more."""
        return self.ending_at is not None

    @property
    def ready(self) -> bool:
        """Whether it may be sent requests."""
        return self.ready_since is not None and not self.ending and self.phase == "running"

    def available(self, now: float, least: float) -> bool:
        """Ready for at least so many seconds."""
        return self.ready and self.ready_since is not None and now - self.ready_since >= least

    def note_start(self, now: float) -> None:
        """It runs."""
        self.phase, self.started_at = "running", now
        self.ready_since = None
        self.successes = self.failures = 0
        self.probe_error = ""
        probe = self.plan.probe
        self.next_probe_at = now + (probe.initial_delay_seconds if probe else 0)

    def note_end(self, ended: Exit, now: float) -> None:
        """It ended by itself: start it again, ever later."""
        ran = now - self.started_at if self.started_at is not None else 0.0
        if ran >= STEADY_AFTER:
            self.back_off = 0
        self.restarts += 1
        self._pause(ended.status, ended.describe(), now)

    def note_fault(self, fault: HostFault, now: float) -> None:
        """It could not be started: try again, ever later."""
        if not self.back_off:
            self.back_off = FIRST_BACK_OFF
        self._pause(fault.word, str(fault), now)

    def _pause(self, word: str, words: str, now: float) -> None:
        self.phase, self.ready_since = "waiting", None
        self.word, self.words = word, words
        self.pause, self.next_start_at = self.back_off, now + self.back_off
        self.back_off = min(self.back_off * 2, LONGEST_BACK_OFF) or FIRST_BACK_OFF

    # -- the file -------------------------------------------------------------------------------------

    def save(self, store: Store) -> None:
        """Write what a later supervisor must know."""
        values = {name: getattr(self, name) for name in KEPT}
        write_json(self.home(store) / "replica.json", {**values, "plan": asdict(self.plan)})

    def home(self, store: Store) -> Path:
        """Its directory, made at first use."""
        path = store.replicas / self.name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    @classmethod
    def load(cls, path: Path) -> Replica | None:
        """From its directory; None where the file is none of ours."""
        values = read_json(path / "replica.json")
        try:
            replica = cls(**{**values, "plan": ServicePlan.from_dict(values["plan"])})
        except (TypeError, KeyError):
            return None
        if replica.phase == "starting":
            replica.phase = "running"  # whether it does, the host will see
        return replica


class Host(ABC):
    """What starts and ends replicas. Called by the supervisor's threads."""

    creating: str = "ContainerCreating"  # the status of a replica that is being started

    def __init__(self, store: Store, settings: Mapping[str, Any]) -> None:
        self.store = store
        self.settings = settings

    @abstractmethod
    def start(self, replica: Replica) -> None:
        """Start it; may take long. Fills in `replica.details`. Raises HostFault."""

    @abstractmethod
    def look(self, replicas: Collection[Replica]) -> dict[str, Seen]:
        """How these are now, by name. Raises HostFault where nobody can say."""

    @abstractmethod
    def stop(self, replica: Replica, *, force: bool) -> None:
        """Ask it to end, or end it."""

    @abstractmethod
    def forget(self, replica: Replica) -> None:
        """It has ended: remove what is left of it outside its directory."""

    @abstractmethod
    def address(self, replica: Replica, port: int | None) -> tuple[str, int] | None:
        """Where this machine reaches `port` of it (None = the service's own)."""

    @abstractmethod
    def end_strays(self, known: Collection[str]) -> None:
        """End what carries our mark and is none of the replicas `known` by name."""

    def refusal(self, replica: Replica, others: Collection[Replica]) -> str:
        """Why there is no room for it beside the others; "" where there is."""
        return ""
