"""What the boot engine asks of a power driver: plain values in, one result per target out.

A driver imports no model, saves nothing and decides nothing about sessions. It talks to many BMCs at once
inside one event loop and hands each result over as soon as it is known, so that a dead BMC never holds back
the results of the live ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from accounts_app.declared import Setting


class Action(StrEnum):
    """What may be asked of a node's BMC."""

    STATE = "state"  # read the power state, change nothing
    ON = "on"  # set the one-time boot source (when given), then switch on
    OFF_GRACEFUL = "off_graceful"  # ask the operating system to shut down
    OFF_FORCED = "off_forced"  # cut the power
    LOCATE = "locate"  # light the LED by which a person finds the machine
    UNLOCATE = "unlocate"  # put it out


class Power(StrEnum):
    """Power state as the BMC reports it; a node counts as switched only when it has settled."""

    ON = "on"
    OFF = "off"
    CHANGING = "changing"  # PoweringOn, PoweringOff: neither yet
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Why an action did not succeed, in the words that operators group by."""

    UNREACHABLE = "unreachable"  # no TCP connection, or it broke
    TIMED_OUT = "timed_out"  # connected, no answer in time
    TLS = "tls"  # certificate not trusted
    REFUSED = "refused"  # 4xx/5xx that is none of the others
    UNAUTHORISED = "unauthorised"  # 401, 403
    UNSUPPORTED = "unsupported"  # the BMC does not know this reset type or boot source
    BUSY = "busy"  # 503, "not ready", during POST: worth another try
    SETTINGS = "settings"  # the BMC's record here is incomplete or wrong
    INTERNAL = "internal"  # a fault of ours


# Reasons where trying the same again cannot help until a person has changed something.
PERMANENT = frozenset({Reason.UNAUTHORISED, Reason.UNSUPPORTED, Reason.TLS, Reason.SETTINGS})
# The BMC gave no answer.
SILENT = frozenset({Reason.UNREACHABLE, Reason.TIMED_OUT})


@dataclass(frozen=True, slots=True)
class BootSource:
    """A one-time boot override to set before switching on."""

    target: str  # "Pxe" or "UefiHttp"
    url: str = ""  # for UefiHttp only: HttpBootUri, sent only to BMCs that advertise it
    seconds: float = 0.0  # how long setting it may take; 0: as long as the whole action


@dataclass(frozen=True, slots=True)
class Target:
    """One action on one node. `key` is the caller's and comes back in the Result."""

    key: int
    node: str  # xname, for fakes and messages
    action: Action
    address: str  # base URL of the BMC, e.g. https://10.1.0.7
    system: str = ""  # path of the node's System resource; "" = discover it
    settings: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    boot: BootSource | None = None
    seconds: float = 0.0  # how long the action may take once begun; 0: OPERATION_SECONDS


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one Target.

    `ok`: the BMC accepted the action (or, for STATE, answered). Acceptance is not completion: the engine
    polls until the power state has followed. `begun` is False where nothing at all was sent, because the
    time to begin had passed. `error` is a short sentence without addresses, names or secrets, so that
    equal faults of many nodes group under one text.
    """

    key: int
    ok: bool
    power: Power = Power.UNKNOWN
    reason: Reason | None = None
    error: str = ""
    system: str = ""  # the System path, when it was discovered just now
    begun: bool = True
    lit: bool | None = None  # the locate LED, where a STATE answer happens to tell
    seconds: float | None = None  # from the first byte to this result; BoundedDriver measures it


# For drivers that take their credentials from Vault: BoundedDriver reads them before it acts.
VAULT_PATH = Setting(
    "vault_path",
    "Path in Vault",
    help="Where username and password are in Vault, instead of here. Superadmins only.",
)


class PowerError(Exception):
    """Why one action on one node failed: a Reason and the short sentence that goes into its Result."""

    def __init__(self, reason: Reason, error: str) -> None:
        super().__init__(error)
        self.reason = reason
        self.error = error


class PowerDriver(ABC):
    """One kind of BMC. An instance lives in one event loop and may keep connections between calls."""

    kind: ClassVar[str]
    label: ClassVar[str]
    settings: ClassVar[tuple[Setting, ...]] = ()

    @abstractmethod
    def perform(self, targets: Sequence[Target], *, begin_by: float) -> AsyncGenerator[Result, None]:
        """Act on all targets at once; yield each one's Result as soon as it is known, every key once.

        `begin_by` is a time of `time.monotonic()`: no changing request is sent after it; such targets
        yield `begun=False`. The call never raises for a fault of one target. Bounds (in flight, per BMC)
        are the driver's own; one target takes at most its `seconds` once begun.
        """

    async def aclose(self) -> None:  # noqa: B027  # most drivers have nothing to close
        """Close what the driver keeps open."""


# From the first byte of an action to its result, all retries within it included. The engine's claim on a
# node is longer than BEGIN + OPERATION, so a claim that lapsed can have nothing in flight.
BEGIN_SECONDS = 6.0
OPERATION_SECONDS = 10.0
CLAIM_SECONDS = 20.0
CLAIM_SECONDS_MOST = 120.0  # a worker that was killed holds its nodes for so long


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the engine waits for BMCs, in seconds: `claim` for all, to `begin` something, for an
    `operation`, and for the `boot` source in it."""

    claim: float = CLAIM_SECONDS
    begin: float = BEGIN_SECONDS
    operation: float = OPERATION_SECONDS
    boot: float = OPERATION_SECONDS

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Patience:
        """From BOS's options: `pcs_read_timeout` is the claim, of which the others keep their parts;
        `bss_read_timeout` bounds the boot source in the same way."""
        claim = min(float(options["pcs_read_timeout"]), CLAIM_SECONDS_MOST)
        part = claim / CLAIM_SECONDS
        operation = OPERATION_SECONDS * part
        boot = OPERATION_SECONDS * options["bss_read_timeout"] / CLAIM_SECONDS
        return cls(claim, BEGIN_SECONDS * part, operation, min(boot, operation))
