"""What comes next for a node in its phase: pure decisions, no rows, no clock of its own.

`before` says what a due row needs: a request to its BMC, or nothing but a look at what is known.
`after` says where the row goes, given the BMC's answer. steps.py asks and writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sessions_app.drivers.base import PERMANENT, SILENT, Action, Power, Reason, Result
from sessions_app.states import CONFIGURE_STEPS, ByHand, Category, PhaseName, Step


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a row of work when it is due."""

    phase: str
    step: str
    step_at: datetime | None
    attempts: int
    booted: bool  # the node has reported that it runs what is desired
    reported: bool  # it has reported something since it went off
    configuration: str  # what is to be configured, "" = nothing
    configured: bool  # it is applied in this boot, or this installation applies none
    retry_policy: int  # tries of a node in a phase; negative = without end
    operation: str = ""  # of the session; what is done by hand depends on it
    fetched: bool = False  # it asked for its boot script since it was switched on


@dataclass(frozen=True, slots=True)
class Limits:
    """The options of BOS v2 that bound waiting, in seconds (contracts, BOS 2.4)."""

    power_off: float
    power_on: float
    boot: float
    poll: float = 15.0  # the longest time between two looks at a node that is waited for

    @classmethod
    def of(cls, options: dict[str, Any]) -> Limits:
        """From the options' document."""
        return cls(
            power_off=options["max_power_off_wait_time"],
            power_on=options["max_power_on_wait_time"],
            boot=options["max_boot_wait_time"],
            poll=max(options["polling_frequency"], FIRST_LOOK),
        )


@dataclass(frozen=True, slots=True)
class Move:
    """Where a row goes. Rows with equal moves are written by one statement.

    `wait` None: nothing is due any more (the phase is over for this node). `tried`: this counts as a
    failed try; the retry policy bounds the tries of a node in a phase.
    """

    category: str
    step: str
    wait: float | None = None
    error: str = ""
    tried: bool = False


ACTIONS: dict[str, Action] = {
    Step.CHECK: Action.STATE,
    Step.POWER_OFF: Action.OFF_GRACEFUL,
    Step.AWAIT_OFF: Action.STATE,
    Step.FORCE_OFF: Action.OFF_FORCED,
    Step.AWAIT_FORCED_OFF: Action.STATE,
    Step.POWER_ON: Action.ON,
    Step.AWAIT_ON: Action.STATE,
    Step.LOOK: Action.STATE,
}

SUCCEEDED = Move(Category.SUCCEEDED, Step.NONE)
FIRST_LOOK = 2.0  # seconds until a switched node is looked at; the quickest BMCs need about one


def poll_after(elapsed: float, longest: float = 15.0) -> float:
    """Seconds until the next look at a node that has been waited for `elapsed` seconds; at most `longest`.

    Few distinct values, so that the rows of a batch stay together and are written together.
    """
    for bound, wait in ((4, 1.0), (12, 2.0), (40, 4.0), (120, 8.0)):
        if elapsed < bound:
            return min(wait, longest)
    return longest


def retry_after(attempts: int) -> float:
    """Seconds until the next try after `attempts` failed ones: 2, 4, 8, at most 30."""
    return min(2.0 * 2 ** min(attempts - 1, 8), 30.0)


def pause_after(reason: Reason | None, tries: int) -> float:
    """Seconds until a request that failed is sent again. A BMC that is silent or busy may be starting anew,
    which takes it half a minute and more: it gets a quick second try, then that time."""
    if reason in SILENT or reason == Reason.BUSY:
        return 5.0 if tries == 1 else 30.0
    return retry_after(tries)


def before(facts: Facts) -> Action | Move:
    """The request that a due row needs, or its move where none is needed."""
    if facts.step in {Step.AWAIT_ON, Step.AWAIT_REPORT} and facts.booted:
        return SUCCEEDED
    if facts.step == Step.LOCATE:
        return Action.LOCATE if facts.operation == ByHand.LOCATE else Action.UNLOCATE
    action = ACTIONS.get(Step(facts.step))
    if action is not None:
        return action
    if facts.step == Step.AWAIT_REPORT:
        # It is due only when the time is over, or when a report came that was not what is desired.
        why = OTHER_IMAGE if facts.reported else NO_REPORT if facts.fetched else NO_SCRIPT
        return _try_again(facts, Step.POWER_OFF, why)
    if facts.step in CONFIGURE_STEPS and (facts.configured or not facts.configuration):
        return SUCCEEDED
    return Move(Category.FAILED, Step.NONE, error=f"Nothing is known to do in step '{facts.step}'.")


STILL_ON = "The node did not shut down in time; its power was not cut."
OTHER_IMAGE = "The node reported another image than the desired one."
NO_SCRIPT = "The node is on but did not ask for its boot script (network boot, DHCP, iPXE)."
NO_REPORT = "The node fetched its boot script but did not report in time (kernel, initrd, muster-report)."


def after(facts: Facts, result: Result, now: datetime, limits: Limits) -> Move:
    """Where the row goes after its BMC's answer."""
    if not result.begun:
        # Its time to begin had passed: nothing was sent, so nothing is counted.
        return Move(Category.IN_PROGRESS, facts.step, wait=0.0)
    decide = {
        Step.CHECK: _checked,
        Step.POWER_OFF: _asked_off,
        Step.FORCE_OFF: _asked_off,
        Step.AWAIT_OFF: _looked_off,
        Step.AWAIT_FORCED_OFF: _looked_off,
        Step.POWER_ON: _asked_on,
        Step.AWAIT_ON: _looked_on,
        Step.LOOK: _asked_once,
        Step.LOCATE: _asked_once,
    }[Step(facts.step)]
    return decide(facts, result, now, limits)


def _off(facts: Facts) -> Move:
    """The node is off: that is all in a shutdown, a boot phase or a power cycle goes on to switch it on."""
    if facts.phase == PhaseName.SHUTDOWN or facts.operation in (ByHand.SOFT, ByHand.OFF):
        return SUCCEEDED
    return Move(Category.IN_PROGRESS, Step.POWER_ON, wait=0.0)


def _checked(facts: Facts, result: Result, now: datetime, limits: Limits) -> Move:
    if not result.ok:
        return _failed_try(facts, result)
    if result.power == Power.OFF:
        return Move(Category.IN_PROGRESS, Step.POWER_ON, wait=0.0)
    if result.power == Power.ON:
        return SUCCEEDED if facts.booted else Move(Category.IN_PROGRESS, Step.POWER_OFF, wait=0.0)
    return _keep_waiting(facts, now, limits, "The BMC does not say whether the node is on.")


def _asked_off(facts: Facts, result: Result, now: datetime, limits: Limits) -> Move:
    graceful = facts.step == Step.POWER_OFF
    if result.ok:
        if result.power == Power.OFF:
            return _off(facts)
        waiting = Step.AWAIT_OFF if graceful else Step.AWAIT_FORCED_OFF
        return Move(Category.IN_PROGRESS, waiting, wait=FIRST_LOOK)
    if graceful and result.reason == Reason.UNSUPPORTED and facts.operation != ByHand.SOFT:
        return Move(Category.IN_PROGRESS, Step.FORCE_OFF, wait=0.0)
    return _failed_try(facts, result)


def _looked_off(facts: Facts, result: Result, now: datetime, limits: Limits) -> Move:
    if result.ok and result.power == Power.OFF:
        return _off(facts)
    if _elapsed(facts, now) < limits.power_off:
        return _poll(facts, result, now, limits)
    if facts.operation == ByHand.SOFT:
        return Move(Category.FAILED, Step.NONE, error=_why(result, STILL_ON))
    if facts.step == Step.AWAIT_OFF:
        return Move(Category.IN_PROGRESS, Step.FORCE_OFF, wait=0.0)
    return _try_again(facts, Step.FORCE_OFF, _why(result, "The node did not go off, although power was cut."))


def _asked_on(facts: Facts, result: Result, now: datetime, limits: Limits) -> Move:
    if result.ok:
        return SUCCEEDED if facts.booted else Move(Category.IN_PROGRESS, Step.AWAIT_ON, wait=FIRST_LOOK)
    return _failed_try(facts, result)


def _looked_on(facts: Facts, result: Result, now: datetime, limits: Limits) -> Move:
    if facts.booted:
        return SUCCEEDED
    if result.ok and result.power == Power.ON:
        if facts.phase == PhaseName.POWER:
            return SUCCEEDED
        return Move(Category.IN_PROGRESS, Step.AWAIT_REPORT, wait=limits.boot)
    if _elapsed(facts, now) < limits.power_on:
        return _poll(facts, result, now, limits)
    return _try_again(facts, Step.POWER_ON, _why(result, "The node did not go on."))


def _asked_once(facts: Facts, result: Result, now: datetime, limits: Limits) -> Move:
    """Looking and locating: the answer is all there is to wait for."""
    return SUCCEEDED if result.ok else _failed_try(facts, result)


def _elapsed(facts: Facts, now: datetime) -> float:
    return (now - (facts.step_at or now)) / timedelta(seconds=1)


def _why(result: Result, otherwise: str) -> str:
    return otherwise if result.ok else result.error or otherwise


def _poll(facts: Facts, result: Result, now: datetime, limits: Limits) -> Move:
    """Look again later; a BMC that does not answer shows its error meanwhile."""
    wait = poll_after(_elapsed(facts, now), limits.poll)
    return Move(Category.IN_PROGRESS, facts.step, wait=wait, error=_why(result, ""))


def _keep_waiting(facts: Facts, now: datetime, limits: Limits, why: str) -> Move:
    elapsed = _elapsed(facts, now)
    if elapsed < limits.power_on:
        return Move(Category.IN_PROGRESS, facts.step, wait=poll_after(elapsed, limits.poll), error=why)
    return Move(Category.FAILED, Step.NONE, error=why)


def _failed_try(facts: Facts, result: Result) -> Move:
    """The request itself failed: again after a while, unless that can't help or was tried often enough."""
    why = result.error or "The BMC refused."
    tries = facts.attempts + 1
    if result.reason in PERMANENT or (0 <= facts.retry_policy <= tries):
        return Move(Category.FAILED, Step.NONE, error=why)
    return Move(
        Category.IN_PROGRESS, facts.step, wait=pause_after(result.reason, tries), error=why, tried=True
    )


def _try_again(facts: Facts, step: str, why: str) -> Move:
    """The node did not follow: back to `step`, counting the try, unless it was tried often enough."""
    tries = facts.attempts + 1
    if 0 <= facts.retry_policy <= tries:
        return Move(Category.FAILED, Step.NONE, error=why)
    return Move(Category.IN_PROGRESS, step, wait=0.0, error=why, tried=True)
