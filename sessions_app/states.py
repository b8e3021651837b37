"""The words of booting, each with its meaning, and their allowed moves."""

from django.db.models import TextChoices


class Operation(TextChoices):
    """What a session does to its nodes."""

    BOOT = "boot", "boot"  # bring up with the template's image; off first where another one runs
    REBOOT = "reboot", "reboot"  # off, then up, whatever runs
    SHUTDOWN = "shutdown", "shutdown"  # off
    CONFIGURE = "configure", "configure"  # apply the configuration, leave power alone (BOS v1)


class ByHand(TextChoices):
    """What a person has done to nodes by hand: a session of ours with one phase, which BOS does not see."""

    ON = "on", "switch on"
    SOFT = "soft", "shut down gracefully"  # never cuts the power
    OFF = "off", "cut the power"
    CYCLE = "cycle", "power cycle"  # power cut, then on: what can be watched, unlike a reset
    LOOK = "look", "look at the power state"
    LOCATE = "locate", "switch the locate LED on"
    UNLOCATE = "unlocate", "switch the locate LED off"


# Of those the ones that switch power: a node is in one of them, or in one session, at a time.
SWITCHING = frozenset({ByHand.ON, ByHand.SOFT, ByHand.OFF, ByHand.CYCLE})
LOCATING = frozenset({ByHand.LOCATE, ByHand.UNLOCATE})


class PhaseName(TextChoices):
    """A stretch of the way that a node goes through."""

    SHUTDOWN = "shutdown", "shutdown"
    BOOT = "boot", "boot"
    CONFIGURE = "configure", "configure"
    POWER = "power", "by hand"  # the only phase of what is done by hand


# The phases of each operation, in order (contracts, BOS 1.4).
PHASES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(ByHand, (PhaseName.POWER,)),
    Operation.SHUTDOWN: (PhaseName.SHUTDOWN,),
    Operation.BOOT: (PhaseName.BOOT, PhaseName.CONFIGURE),
    Operation.REBOOT: (PhaseName.SHUTDOWN, PhaseName.BOOT, PhaseName.CONFIGURE),
    Operation.CONFIGURE: (PhaseName.CONFIGURE,),
}


class SessionStatus(TextChoices):
    """Where a session as a whole stands; says nothing about success."""

    PENDING = "pending", "pending"  # accepted, its nodes are not its own yet
    RUNNING = "running", "running"  # at work
    COMPLETE = "complete", "complete"  # nothing is left to do; `result` says how it ended


class SessionResult(TextChoices):
    """How a complete session ended."""

    NONE = "", "not ended"
    SUCCEEDED = "succeeded", "succeeded"  # every node that it kept succeeded
    FAILED = "failed", "failed"  # some nodes failed
    CANCELLED = "cancelled", "cancelled"  # somebody cancelled it
    ERROR = "error", "could not run"  # it could not be set up; `error` says why
    SUPERSEDED = "superseded", "taken over"  # newer sessions took all its nodes


SESSION_MOVES: dict[str, frozenset[str]] = {
    SessionStatus.PENDING: frozenset({SessionStatus.RUNNING, SessionStatus.COMPLETE}),
    SessionStatus.RUNNING: frozenset({SessionStatus.COMPLETE}),
    SessionStatus.COMPLETE: frozenset({SessionStatus.RUNNING}),  # retry of its failed nodes
}


class Category(TextChoices):
    """Where one node stands in one phase."""

    NOT_STARTED = "not_started", "not started"
    SUCCEEDED = "succeeded", "succeeded"
    FAILED = "failed", "failed"
    EXCLUDED = "excluded", "excluded"  # left out: taken over, cancelled, put on hold
    IN_PROGRESS = "in_progress", "in progress"


# Glyph and token of each category, for HTML, SVG, admin and docs alike: colour is never alone.
CATEGORY_LOOKS: dict[str, tuple[str, str]] = {
    Category.NOT_STARTED: ("○", "slate"),
    Category.IN_PROGRESS: ("◐", "blue"),
    Category.SUCCEEDED: ("●", "green"),
    Category.FAILED: ("✕", "red"),
    Category.EXCLUDED: ("–", "grey"),
}

OPEN = frozenset({Category.NOT_STARTED, Category.IN_PROGRESS})

CATEGORY_MOVES: dict[str, frozenset[str]] = {
    Category.NOT_STARTED: frozenset(Category) - {Category.NOT_STARTED},
    Category.IN_PROGRESS: frozenset({Category.SUCCEEDED, Category.FAILED, Category.EXCLUDED}),
    Category.FAILED: frozenset({Category.NOT_STARTED}),  # retry
    Category.EXCLUDED: frozenset(),
    Category.SUCCEEDED: frozenset(),
}


class Step(TextChoices):
    """What is due for a node in its phase. Words in await_ wait, the others act."""

    NONE = "", "nothing"  # not reached yet, or over
    CHECK = "check", "read the power state"
    POWER_OFF = "power_off", "ask for a graceful shutdown"
    AWAIT_OFF = "await_off", "wait until it is off"
    FORCE_OFF = "force_off", "cut the power"
    AWAIT_FORCED_OFF = "await_forced_off", "wait until it is off, power was cut"
    POWER_ON = "power_on", "set the boot source and switch on"
    AWAIT_ON = "await_on", "wait until it is on"
    AWAIT_REPORT = "await_report", "wait for the node's own report"
    CONFIGURE = "configure", "apply the configuration"
    AWAIT_CONFIGURED = "await_configured", "wait for the configuration"
    LOOK = "look", "look at the power state"
    LOCATE = "locate", "switch the locate LED"


OFF_STEPS = frozenset({Step.POWER_OFF, Step.AWAIT_OFF, Step.FORCE_OFF, Step.AWAIT_FORCED_OFF})

CONFIGURE_STEPS = frozenset({Step.CONFIGURE, Step.AWAIT_CONFIGURED})

FIRST_STEP: dict[str, str] = {
    PhaseName.SHUTDOWN: Step.POWER_OFF,
    PhaseName.BOOT: Step.CHECK,
    PhaseName.CONFIGURE: Step.CONFIGURE,
}

FIRST_STEP_BY_HAND: dict[str, str] = {
    ByHand.ON: Step.POWER_ON,
    ByHand.SOFT: Step.POWER_OFF,
    ByHand.OFF: Step.FORCE_OFF,
    ByHand.CYCLE: Step.FORCE_OFF,
    ByHand.LOOK: Step.LOOK,
    ByHand.LOCATE: Step.LOCATE,
    ByHand.UNLOCATE: Step.LOCATE,
}


def first_step(operation: str, phase: str) -> str:
    """The step with which a node begins a phase of an operation."""
    return FIRST_STEP_BY_HAND[operation] if phase == PhaseName.POWER else FIRST_STEP[phase]


STEP_MOVES: dict[str, frozenset[str]] = {
    # A node that is off, or runs the wrong image, or is already where it should be.
    Step.CHECK: frozenset({Step.POWER_OFF, Step.POWER_ON, Step.NONE}),
    # Graceful; a BMC that can't goes straight to forced.
    Step.POWER_OFF: frozenset({Step.AWAIT_OFF, Step.FORCE_OFF, Step.POWER_ON, Step.NONE}),
    Step.AWAIT_OFF: frozenset({Step.FORCE_OFF, Step.POWER_ON, Step.NONE}),
    Step.FORCE_OFF: frozenset({Step.AWAIT_FORCED_OFF, Step.POWER_ON, Step.NONE}),
    Step.AWAIT_FORCED_OFF: frozenset({Step.FORCE_OFF, Step.POWER_ON, Step.NONE}),
    Step.POWER_ON: frozenset({Step.AWAIT_ON, Step.NONE}),
    Step.AWAIT_ON: frozenset({Step.POWER_ON, Step.AWAIT_REPORT, Step.NONE}),
    # No report in time: off and on again, as long as the retry policy allows.
    Step.AWAIT_REPORT: frozenset({Step.POWER_OFF, Step.NONE}),
    Step.CONFIGURE: frozenset({Step.AWAIT_CONFIGURED, Step.NONE}),
    Step.AWAIT_CONFIGURED: frozenset({Step.CONFIGURE, Step.NONE}),
    Step.LOOK: frozenset({Step.NONE}),
    Step.LOCATE: frozenset({Step.NONE}),
}


class LastAction(TextChoices):
    """The most recent thing done to a node, in BOS's words (contracts, BOS 4.1)."""

    NONE = "", "nothing"
    ACTUAL_STATE_CLEANUP = "actual_state_cleanup"
    APPLY_STAGED = "apply_staged"
    NEWLY_DISCOVERED = "newly_discovered"
    POWERING_OFF_FORCEFULLY = "powering_off_forcefully"
    POWERING_OFF_GRACEFULLY = "powering_off_gracefully"
    POWERING_ON = "powering_on"
    SESSION_SETUP = "session_setup"


class Reach(TextChoices):
    """Whether a BMC answers."""

    UNKNOWN = "unknown", "not asked yet"
    REACHABLE = "reachable", "reachable"  # it answers, be it with a refusal
    UNREACHABLE = "unreachable", "does not answer"


REACH_LOOKS: dict[str, tuple[str, str]] = {
    Reach.UNKNOWN: ("◌", "violet"),
    Reach.REACHABLE: ("●", "green"),
    Reach.UNREACHABLE: ("✕", "red"),
}


class PowerState(TextChoices):
    """What was last known of a node's power."""

    UNKNOWN = "unknown", "unknown"
    ON = "on", "on"
    OFF = "off", "off"
    CHANGING = "changing", "changing"
