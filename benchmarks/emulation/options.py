"""What an emulated fleet can be told: its size, its manners, its faults; and the names of its nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

NODES_PER_CABINET = 256  # 8 chassis x 8 slots x 2 boards x 2 nodes: 10,000 nodes fill 40 cabinets
ADDRESSES_PER_BLOCK = 254  # 127.1.a.1 to 127.1.a.254
RESET_TYPES = ("On", "ForceOff", "GracefulShutdown", "ForceRestart")


class Fault(StrEnum):
    """What can be wrong with a BMC, or with one request to it."""

    BUSY = "busy"  # 503 with Retry-After, nothing done
    HANG = "hang"  # the request is read and never answered, nothing done
    RESET = "reset"  # the connection is reset, nothing done
    LOST = "lost"  # the request is carried out, then the connection is reset: the answer is lost
    UNAUTHORISED = "unauthorised"  # 401 whatever the password
    SLOW = "slow"  # answered after `slow_seconds` more
    STUCK = "stuck"  # accepts every action, never changes its power state
    DEAF = "deaf"  # the operating system ignores a graceful shutdown; a forced one works
    DEAD = "dead"  # connections are refused
    SILENT = "silent"  # connections are neither refused nor accepted: the client's connect times out


PER_REQUEST = frozenset({Fault.BUSY, Fault.HANG, Fault.RESET, Fault.LOST, Fault.UNAUTHORISED, Fault.SLOW})
NEEDS_OWN_SOCKET = frozenset({Fault.DEAD, Fault.SILENT})


class OptionsError(ValueError):
    """The options contradict each other; the text says how, for a person."""


@dataclass(frozen=True, slots=True)
class Span:
    """A time between two bounds, in seconds; each use draws one from the fleet's seed."""

    least: float
    most: float

    @classmethod
    def parse(cls, text: str) -> Span:
        """Read `2` or `1..3`. Raises ValueError for anything else, negative times included."""
        least, dots, most = text.partition("..")
        span = cls(float(least), float(most if dots else least))
        if not 0 <= span.least <= span.most:
            raise ValueError(f"{text!r} is not a span of seconds such as 2 or 1..3")
        return span

    def at(self, share: float) -> float:
        """The time at `share` (0 to 1) of the way from the least to the most."""
        return self.least + (self.most - self.least) * share


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """Everything that makes one fleet; times in seconds, shares and rates from 0 to 1."""

    count: int = 1000
    first: int = 0  # number of the first node: several processes make one larger fleet
    by: str = "path"  # path, port or address
    port: int = 0  # of the shared listener (path), of every address (address); ignored by port
    https: bool = False
    tls_dir: str = ""
    seed: int = 1
    power: str = "off"  # off, on or mixed: at the start
    delay: float = 0.0  # before each answer
    on_seconds: Span = Span(1.0, 3.0)
    off_seconds: Span = Span(0.5, 1.0)  # forced
    graceful_seconds: Span = Span(1.0, 2.0)
    slow_seconds: float = 5.0
    retry_after: int = 1
    plain_states: bool = False  # never say PoweringOn or PoweringOff
    auth: str = "none"  # none, basic (sessions too) or session (sessions only)
    user: str = "admin"
    password: str = field(default="emulated", repr=False)
    session_limit: int = 4
    etag: str = "offered"  # none, offered or required (PATCH without If-Match: 428)
    monitor: bool = False  # 202 with a task monitor instead of 204
    action_info: bool = False  # reset types by ActionInfo instead of AllowableValues
    http_boot: bool = False  # advertise UefiHttp and HttpBootUri
    strict: bool = False  # 409 for a reset into the state the node is in already
    reset_types: tuple[str, ...] = RESET_TYPES
    system: str = "1"
    faults: dict[Fault, float] = field(default_factory=dict)  # share of the BMCs that always have it
    flaky: dict[Fault, float] = field(default_factory=dict)  # rate of the requests that have it
    log: str = ""
    muster: str = ""  # base URL; "" = the nodes fetch and report nothing
    token: str = field(default="", repr=False)  # bearer token for the boot script door, where it asks one
    firmware_seconds: Span = Span(0.5, 1.0)  # power on to boot script
    boot_seconds: Span = Span(0.5, 1.0)  # boot script to report
    node_requests: int = 64  # of all nodes, in flight at once
    retry_seconds: float = 2.0  # a node's wait after a failed request; grows by itself, to 30

    def check(self) -> None:
        """Refuse contradictions. Raises OptionsError."""
        last = 256 * ADDRESSES_PER_BLOCK
        if self.count < 1 or self.first < 0 or self.first + self.count > last:
            raise OptionsError(f"--count and --first must name nodes from 0 to {last - 1}")
        own_socket = NEEDS_OWN_SOCKET & self.faults.keys()
        if own_socket and self.by == "path":
            raise OptionsError(
                f"--fault {min(own_socket)}: in path mode all BMCs share one socket; use --by address or port"
            )
        unfit = self.flaky.keys() - PER_REQUEST
        if unfit:
            raise OptionsError(f"--flaky {min(unfit)}: a property of a BMC, not of a request; use --fault")
        for name, total in (("--fault", self.faults), ("--flaky", self.flaky)):
            if any(share < 0 for share in total.values()) or sum(total.values()) > 1:
                raise OptionsError(f"{name}: shares must be from 0 to 1 and sum to at most 1")
        unknown = set(self.reset_types) - set(RESET_TYPES)
        if unknown:
            raise OptionsError(f"--reset-types: {min(unknown)} is none of {', '.join(RESET_TYPES)}")


def xname(index: int) -> str:
    """Name of the node number `index` (from 0): x1000c0s0b0n0, x1000c0s0b0n1, x1000c0s0b1n0, ..."""
    cabinet, rest = divmod(index, NODES_PER_CABINET)
    chassis, rest = divmod(rest, 32)
    slot, rest = divmod(rest, 4)
    board, node = divmod(rest, 2)
    return f"x{1000 + cabinet}c{chassis}s{slot}b{board}n{node}"


def mac(index: int) -> str:
    """A locally administered MAC address of node number `index`."""
    return "02:00:" + ":".join(f"{index:08x}"[place : place + 2] for place in (0, 2, 4, 6))


def loopback(index: int) -> str:
    """The loopback address of BMC number `index` in address mode: 127.1.a.b."""
    block, place = divmod(index, ADDRESSES_PER_BLOCK)
    return f"127.1.{block}.{place + 1}"


def draw(seed: int, index: int, turn: int) -> float:
    """A number from 0 to 1 that depends on the three alone, so that a run repeats whatever its timing.

    splitmix64's mixing; a `random.Random` per BMC would cost 2.5 KB each.
    """
    mixed = (seed * 0x9E3779B97F4A7C15 + index * 0xD1B54A32D192ED03 + turn * 0x8CB92BA72F3D8DD7) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((mixed ^ (mixed >> 31)) >> 11) / (1 << 53)


_MASK = (1 << 64) - 1
