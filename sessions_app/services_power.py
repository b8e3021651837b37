"""What people do to nodes by hand: switch them, look at them, find them in the room.

It is a session of ours with one phase: the same rows of work, workers, claims, drivers, counters, task,
cancel and retry as a boot session's, so that there is one engine and one rule for who may act on a node.
BOS's views leave it out, and the node stays its boot session's: what should run on it, and who may retry it,
does not change because somebody pressed a button.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from django.utils import timezone

from accounts_app.asking import digest_of
from accounts_app.models import ApiKey, Domain, User
from events_app.services import record_event, recording, report_progress, start_background_task, wake
from sessions_app import setup, steps
from sessions_app.counts import chunks
from sessions_app.locks import lock_ownership
from sessions_app.models import BootSession, BootSet, Node, NodePhase, Phase
from sessions_app.models.nodes import natural
from sessions_app.nodeset import fold
from sessions_app.services import Refused
from sessions_app.states import SWITCHING, ByHand, PhaseName, SessionStatus, first_step

REFUSE, TAKE, LEAVE = "refuse", "take", "leave"  # what becomes of nodes that something is at work with
NAMES_SAID = 12


class NodesBusy(Refused):
    """Sessions, or other actions by hand, are at work with some of the nodes."""


@dataclass(frozen=True, slots=True)
class Holder:
    """What is at work with some of the nodes."""

    id: int
    name: str
    uuid: str
    by_hand: bool
    nodes: list[str]

    @property
    def kind(self) -> str:
        """In words."""
        return "action" if self.by_hand else "session"


@dataclass
class Plan:
    """Which nodes an action would hit, which it leaves out and why, and from whom it takes nodes."""

    nodes: list[tuple[int, str]] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    held: list[Holder] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Of those that it acts on, in natural order."""
        return [name for _, name in self.nodes]

    @property
    def complaint(self) -> str:
        """Why it can't begin as asked; "" where it can."""
        if not self.held:
            return ""
        parts = [f"{one.kind} {one.name} is at work with {fold(one.nodes, NAMES_SAID)}" for one in self.held]
        return f"Nothing was done: {'; '.join(parts)}."


def plan(*, action: str, ids: Iterable[int], busy: str = REFUSE) -> Plan:
    """What `action` would do to these nodes now.

    Left out are nodes without a BMC and, from switching, locked ones. Nodes that a running session or another
    action is at work with stand in `held`, unless `busy` is LEAVE (then they are left out too); looking and
    locating disturb nobody.
    """
    made = Plan()
    rows: dict[int, str] = {}
    reasons: dict[str, list[str]] = defaultdict(list)
    for part in chunks(ids):
        found = Node.objects.filter(id__among=part).values_list("id", "name", "bmc_id", "locked")
        for pk, name, bmc_id, locked in found:
            if bmc_id is None:
                reasons["without a BMC"].append(name)
            elif locked and action in SWITCHING:
                reasons["locked"].append(name)
            else:
                rows[pk] = name
    if action in SWITCHING:
        made.held = _holders(rows)
        if busy == LEAVE:
            held = {name for one in made.held for name in one.nodes}
            reasons["a session or another action is at work with them"] = sorted(held)
            rows = {pk: name for pk, name in rows.items() if name not in held}
            made.held = []
    made.nodes = sorted(rows.items(), key=lambda row: natural(row[1]))
    made.left_out = {why: sorted(names, key=natural) for why, names in reasons.items() if names}
    return made


def digest_of_plan(action: str, made: Plan, busy: str) -> str:
    """The fingerprint of what was shown: which nodes, and from whom they are taken."""
    return digest_of("by hand", action, busy, made.names, [one.uuid for one in made.held])


def _holders(ids: Iterable[int]) -> list[Holder]:
    names: dict[int, set[str]] = defaultdict(set)
    for rows in setup.owned_rows(ids):
        for session_id, name in rows.unfinished().values_list("session_id", "node__name"):
            names[session_id].add(name)
    sessions = BootSession.objects.filter(id__in=names).order_by("id")
    return [
        Holder(one.pk, one.name, str(one.uuid), one.by_hand, sorted(names[one.pk], key=natural))
        for one in sessions.only("id", "name", "uuid", "by_hand")
    ]


def act_by_hand(
    *,
    action: str,
    ids: Sequence[int],
    actor: User | None,
    key: ApiKey | None = None,
    network_boot: bool = False,
    busy: str = REFUSE,
) -> BootSession:
    """Begin an action on these nodes; its rows are due at once, and its background task tells how it goes.

    `network_boot`: who is switched on boots from the network once, instead of in its own order. `busy`:
    REFUSE, TAKE the nodes out of what is at work with them, or LEAVE those out. Raises Refused where no node
    is left, NodesBusy where nodes are held; then nothing was created.
    """
    if action not in ByHand.values:
        raise Refused(f"'{action}' is not an action: {', '.join(ByHand.values)}.")
    if busy not in (REFUSE, TAKE, LEAVE):
        raise Refused(f"'{busy}' is not one of {REFUSE}, {TAKE}, {LEAVE}.")
    if network_boot and action not in (ByHand.ON, ByHand.CYCLE):
        raise Refused("Only a node that is switched on can boot from the network.")
    with recording():
        lock_ownership()
        made = plan(action=action, ids=ids, busy=busy)
        if not made.nodes:
            raise Refused(setup.NO_NODES)
        if made.held and busy != TAKE:
            raise NodesBusy(made.complaint)
        session = _begin(action, made, actor, key, network_boot=network_boot)
        wake(steps.advance_nodes)
    return session


def _begin(
    action: str, made: Plan, actor: User | None, key: ApiKey | None, *, network_boot: bool
) -> BootSession:
    now = timezone.now()
    ids, count = [pk for pk, _ in made.nodes], len(made.nodes)
    domain = _domain_of(ids)
    identity = uuid.uuid4()
    name = f"{action}-{identity.hex[:8]}"
    task = start_background_task(
        kind=f"node_{action}",
        owner=actor,
        domain=domain.name if domain else "",
        subject=fold(made.names, NAMES_SAID)[:255],
        message="Waiting for a worker",
        total=count,
    )
    session = BootSession.objects.create(
        uuid=identity,
        name=name,
        domain=domain,
        operation=action,
        by_hand=True,
        network_boot=network_boot,
        owner=actor,
        access_key=key.access_key if key else "",
        key=key,
        background_task=task,
    )
    if made.held:
        setup.take_over([pk for pk, name in made.nodes], session, now)
        # Their boot sessions are over for these nodes.
        taken = {name for one in made.held if not one.by_hand for name in one.nodes}
        for part in chunks(pk for pk, name in made.nodes if name in taken):
            Node.objects.filter(id__among=part).update(enabled=False)
    boot_set = BootSet.objects.create(
        session=session, name="nodes", position=0, node_count=count, started_at=now
    )
    phase = Phase.objects.create(
        boot_set=boot_set, name=PhaseName.POWER, position=0, not_started=count, started_at=now
    )
    step = first_step(action, PhaseName.POWER)
    NodePhase.objects.bulk_create(
        [
            NodePhase(session=session, phase=phase, node_id=pk, step=step, step_at=now, due_at=now)
            for pk in ids
        ],
        batch_size=1000,
    )
    for part in chunks(ids):
        setup.wait_for_claims(NodePhase.objects.filter(phase=phase), part, now)
    by = getattr(actor, "username", "")
    record_event(**session.event("session_enqueued", by=by, nodes=made.names))
    session.move_to(SessionStatus.RUNNING, total_nodes=count, open_nodes=count)
    report_progress(task.pk, current=0, total=count)
    return session


def _domain_of(ids: list[int]) -> Domain | None:
    """The tenant whose nodes all of these are; None where they are several tenants' or nobody's."""
    found = {pk for part in chunks(ids) for pk in _domains(part)}
    domain_id = found.pop() if len(found) == 1 else None
    return None if domain_id is None else Domain.objects.get(pk=domain_id)


def _domains(ids: list[int]) -> Iterable[int | None]:
    return Node.objects.filter(id__among=ids).order_by().values_list("domain_id", flat=True).distinct()
