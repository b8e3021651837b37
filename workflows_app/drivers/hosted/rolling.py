"""Which replicas to start and which to end: the steps of a rolling update, as Kubernetes takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from workflows_app.drivers.base import ServicePlan
from workflows_app.drivers.hosted.replica import Replica


@dataclass
class Decision:
    """How many to start, and which to end."""

    start: int = 0
    end: list[Replica] = field(default_factory=list)


def decide(
    plan: ServicePlan, replicas: Sequence[Replica], is_available: Callable[[Replica], bool]
) -> Decision:
    """The next step towards `plan` (contracts, RUNTIMES 4: rolling step). Pure."""
    staying = [replica for replica in replicas if not replica.ending]
    template = plan.template()
    new = [replica for replica in staying if replica.template == template]
    old = [replica for replica in staying if replica.template != template]
    want = plan.replicas
    if len(new) > want:
        # Scaled in: those that serve stay, of these the oldest.
        new.sort(key=lambda replica: (not is_available(replica), replica.created_at))
        return Decision(end=new[want:])
    if plan.strategy.kind == "recreate":
        return _recreate(plan, new, old, replicas)
    surge, unavailable = plan.strategy.bounds(want)
    start = max(0, min(want - len(new), want + surge - len(staying)))
    return Decision(start, _surplus_old(new, old, want - unavailable, is_available))


def _recreate(
    plan: ServicePlan, new: list[Replica], old: list[Replica], replicas: Sequence[Replica]
) -> Decision:
    if old:
        return Decision(end=old)
    template = plan.template()
    gone = not any(replica.ending and replica.template != template for replica in replicas)
    return Decision(start=plan.replicas - len(new) if gone else 0)


def _surplus_old(
    new: list[Replica], old: list[Replica], least: int, is_available: Callable[[Replica], bool]
) -> list[Replica]:
    """Old ones that may go: so many that `least` stay, unavailable ones first."""
    not_yet = sum(not is_available(replica) for replica in new)
    may_go = len(new) + len(old) - least - not_yet
    broken = [replica for replica in old if not is_available(replica)][: max(0, may_go)]
    serving = [replica for replica in old if is_available(replica)]
    available = len(serving) + len(new) - not_yet
    may_go = min(may_go - len(broken), available - least)
    serving.sort(key=lambda replica: -replica.created_at)
    return broken + serving[: max(0, may_go)]
