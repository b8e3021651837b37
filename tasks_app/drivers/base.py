"""What a run asks of a task driver: plain values in, plain results out; no model, no settings.

The caller's `Watch` hears every line as it comes and is asked at least twice a second whether to go on. A
driver that is told to stop interrupts what it runs in the gentlest way that still ends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol


@dataclass(frozen=True, slots=True)
class Line:
    """One line of output."""

    phase: str  # init, validate, plan, apply, note
    text: str
    level: str = "info"  # debug, info, warn, error
    kind: str = ""  # Terraform's `type`


@dataclass(frozen=True, slots=True)
class Job:
    """One run, as a driver sees it. `document` is the task's settings, `inputs` the module's by name."""

    name: str
    directory: Path  # the task's own; the driver makes it
    document: Mapping[str, Any]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    program: str = "terraform"
    backend: Mapping[str, Any] = field(default_factory=dict)  # {"kind": {settings}}
    providers: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    fresh: bool = False  # initialise, and fetch the module again
    wants_text: bool = False  # the plan will be read by a person
    destroy: bool = False
    refresh_only: bool = False
    # An earlier attempt of this very run died: what it locked since then, as this user, is broken.
    own_locks_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One planned change of one resource; sensitive values are masked."""

    action: str  # create, update, delete, replace, read
    address: str
    before: Any = None
    after: Any = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done, for people (`text`) and programs; `file` is what `apply` takes."""

    has_changes: bool
    text: str = ""
    changes: Sequence[Change] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    resources: int = 0  # in the state when it is applied
    file: bytes = field(default=b"", repr=False)
    diagnostics: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply said."""

    diagnostics: Sequence[Mapping[str, Any]] = ()


class Watch(Protocol):
    """The caller's eyes and hands during a command."""

    def begin(self, command: str) -> None:
        """A command starts; its output will be numbered from its first byte."""

    def line(self, line: Line, offset: int = 0) -> None:
        """One line was said; `offset` is where in the command's output it ends."""

    def progress(self, done: int, message: str) -> None:
        """So many changes are applied."""

    def stop(self) -> str:
        """Why to stop now: "" to go on, else cancelled, timed_out, lost or shutdown."""


class DriverError(Exception):
    """A run can't go on. `permanent`: the same settings will fail again, trying again is no use."""

    def __init__(
        self, message: str, *, permanent: bool = False, diagnostics: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.diagnostics = list(diagnostics)


class Stopped(DriverError):
    """The watch said stop; `reason` is what it said. What was begun has ended."""

    def __init__(self, reason: str, diagnostics: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(f"The run was stopped ({reason}).", diagnostics=diagnostics)
        self.reason = reason


class DirectoryBusy(DriverError):
    """Another process works in the task's directory now."""


class TaskDriver(ABC):
    """One tool. Stateless: everything it needs comes with the job."""

    kind: ClassVar[str]
    label: ClassVar[str]

    @abstractmethod
    def prepare(self, job: Job, watch: Watch) -> None:
        """Make ready and check the settings, change nothing. Raises DriverError."""

    @abstractmethod
    def plan(self, job: Job, watch: Watch) -> Plan:
        """Say what `apply` would do, after `prepare`. Raises DriverError."""

    @abstractmethod
    def apply(self, job: Job, plan: Plan, watch: Watch) -> Applied:
        """Do exactly what `plan` says. Raises DriverError."""

    def finished_well(self, job: Job) -> bool:
        """Whether an apply that nobody waited for to the end is known to have succeeded."""
        return False

    def is_at_work(self, job: Job) -> bool:
        """Whether a process of this machine still works in the job's directory."""
        return False

    def unread_output(self, job: Job, offset: int) -> list[Line]:
        """Lines of the last command beyond `offset`, for a run whose worker died."""
        return []
