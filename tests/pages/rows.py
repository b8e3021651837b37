"""Rows for tests and screenshots of pages: fleets and sessions in the middle of something, made in bulk."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from accounts_app.models import User
from accounts_app.states import Role
from events_app.services import record_event, recording
from sessions_app.models import (
    Bmc,
    BootArtifacts,
    BootSession,
    BootSet,
    Node,
    NodeGroup,
    NodePhase,
    Phase,
    SessionTemplate,
)
from sessions_app.states import PHASES, Category, Operation, SessionResult, SessionStatus, Step

PASSWORD = "a long enough one"
FAULTS = (
    "The BMC does not answer.",
    "The node is on but did not report in time.",
    "The BMC refused the user name or password.",
)
BATCH = 1000


def make_user(name: str, role: str = Role.USER, **fields: Any) -> User:
    """Somebody who can sign in with PASSWORD."""
    return User.objects.create_user(name, password=PASSWORD, role=role, **fields)


def cast() -> dict[str, User]:
    """Olga operates, Victor views, Nora has no access, Ada administers everything."""
    return {
        "olga": make_user("olga"),
        "victor": make_user("victor", Role.VIEWER),
        "nora": make_user("nora", Role.NONE),
        "ada": make_user("ada", Role.SUPERADMIN, is_staff=True, is_superuser=True),
    }


def node_names(count: int) -> list[str]:
    """Cray-like: 256 nodes a cabinet (8 chassis, 8 slots, 2 BMCs, 2 nodes)."""
    names = []
    for number in range(count):
        cabinet, place = divmod(number, 256)
        chassis, place = divmod(place, 32)
        slot, place = divmod(place, 4)
        bmc, node = divmod(place, 2)
        names.append(f"x{1000 + cabinet}c{chassis}s{slot}b{bmc}n{node}")
    return names


def make_fleet(count: int) -> list[Node]:
    """Nodes with BMCs, all compute but the first two, booted some hours ago."""
    now = timezone.now()
    image = BootArtifacts.of(
        kernel="s3://boot-images/compute-25.11/kernel",
        initrd="s3://boot-images/compute-25.11/initrd",
        kernel_parameters="console=ttyS0,115200 quiet",
    )
    names = node_names(count)
    bmcs = Bmc.objects.bulk_create(
        [Bmc(name=name[: name.rindex("n")], kind="fake", address="https://10.1.0.7") for name in names[::2]],
        batch_size=BATCH,
    )
    nodes = [
        Node(
            name=name,
            nid=number + 1,
            mac=":".join(f"{(0x020000000000 + number) >> shift & 255:02x}" for shift in range(40, -1, -8)),
            role="Application" if number < 2 else "Compute",
            bmc=bmcs[number // 2],
            power_state="on",
            power_at=now,
            desired=image,
            actual=image,
            actual_at=now - timedelta(minutes=40),
        )
        for number, name in enumerate(names)
    ]
    Node.objects.bulk_create(nodes, batch_size=BATCH)
    login = NodeGroup.objects.create(name="login", description="Where people sign in")
    login.nodes.set(nodes[:2])
    return nodes


def make_template(name: str = "compute-25.11", **boot_set: Any) -> SessionTemplate:
    """One boot set, `compute`, of all compute nodes unless said otherwise."""
    document = {
        "node_roles_groups": ["Compute"],
        "kernel": "s3://boot-images/compute-25.11/kernel",
        "initrd": "s3://boot-images/compute-25.11/initrd",
        "kernel_parameters": "quiet",
        "path": "s3://boot-images/compute-25.11/manifest.json",
        "type": "s3",
        **boot_set,
    }
    return SessionTemplate.objects.create(name=name, body={"boot_sets": {"compute": document}})


def make_session(
    nodes: list[Node],
    *,
    name: str = "",
    owner: User | None = None,
    operation: str = Operation.REBOOT,
    age: timedelta = timedelta(minutes=3),
    through: float = 0.5,
    failed: int = 0,
    over: bool = False,
    owns: bool = True,
) -> BootSession:
    """A session whose nodes are `through` their boot on average; `failed` of them failed; or all is over."""
    now = timezone.now()
    began = now - age
    identity = uuid.uuid4()
    session = BootSession.objects.create(
        uuid=identity,
        name=name or str(identity),
        operation=operation,
        template=SessionTemplate.objects.first(),
        template_name="compute-25.11",
        status=SessionStatus.COMPLETE if over else SessionStatus.RUNNING,
        result=(SessionResult.FAILED if failed else SessionResult.SUCCEEDED) if over else SessionResult.NONE,
        owner=owner,
        created_at=began,
        acted_at=began + timedelta(seconds=2),
        stopped_at=began + timedelta(minutes=9) if over else None,
        total_nodes=len(nodes),
        components=",".join(node.name for node in nodes),
    )
    boot_set = BootSet.objects.create(
        session=session, name="compute", position=0, node_count=len(nodes), started_at=began
    )
    chance = random.Random(7)
    bad = set(chance.sample(range(len(nodes)), failed))
    rows: list[NodePhase] = []
    counts: dict[str, Counter[str]] = {}
    phases = {
        phase: Phase.objects.create(boot_set=boot_set, name=phase, position=position, started_at=began)
        for position, phase in enumerate(PHASES[operation])
    }
    open_nodes = 0
    for number, node in enumerate(nodes):
        far = 1.0 if over else chance.gauss(through, 0.15) * len(phases) / 3
        made = _node_rows(session, phases, node, number in bad, far, began, now, chance)
        open_nodes += made[-1].category != Category.SUCCEEDED and not any(
            row.category == Category.FAILED for row in made
        )
        for row in made:
            counts.setdefault(row.phase.name, Counter())[row.category] += 1
        rows += made
    NodePhase.objects.bulk_create(rows, batch_size=BATCH)
    for phase, row in phases.items():
        Phase.objects.filter(pk=row.pk).update(
            **counts.get(phase, {}), stopped_at=began + timedelta(minutes=1) if phase == "shutdown" else None
        )
    BootSession.objects.filter(pk=session.pk).update(open_nodes=0 if over else open_nodes)
    session.refresh_from_db()
    if owns:
        _own(session, nodes, bad, over)
    _tell(session, nodes, bad)
    return session


def _own(session: BootSession, nodes: list[Node], bad: set[int], over: bool) -> None:
    ids = [node.pk for node in nodes]
    for start in range(0, len(ids), BATCH):
        Node.objects.filter(id__in=ids[start : start + BATCH]).update(session=session, enabled=not over)
    failed = [nodes[number].pk for number in bad]
    for start in range(0, len(failed), BATCH):
        Node.objects.filter(id__in=failed[start : start + BATCH]).update(
            failed=True, enabled=False, error=FAULTS[0]
        )


def _node_rows(
    session: BootSession,
    phases: dict[str, Phase],
    node: Node,
    bad: bool,
    far: float,
    began: datetime,
    now: datetime,
    chance: random.Random,
) -> list[NodePhase]:
    made = []
    at = began + timedelta(seconds=chance.uniform(0, 8))
    fails_in = len(phases) // 2
    over = session.status == SessionStatus.COMPLETE
    for place, phase in enumerate(phases.values()):
        row = NodePhase(session=session, phase=phase, node=node)
        takes = timedelta(seconds=chance.uniform(20, 70))
        if made and made[-1].category != Category.SUCCEEDED:
            pass
        elif bad and place == fails_in:
            row.category, row.started_at, row.stopped_at = Category.FAILED, at, min(now, at + takes)
            row.error = FAULTS[0 if chance.random() < 0.6 else 1 if chance.random() < 0.7 else 2]
            row.attempts = 3
        elif over or bad or far * len(phases) >= place + 1:
            row.category, row.started_at, row.stopped_at = Category.SUCCEEDED, at, min(now, at + takes)
            at = row.stopped_at
        elif far * len(phases) >= place:
            row.category, row.started_at = Category.IN_PROGRESS, min(at, now)
            row.step = {"shutdown": Step.AWAIT_OFF, "boot": Step.AWAIT_REPORT}.get(
                phase.name, Step.AWAIT_CONFIGURED
            )
            row.step_at = row.started_at
        made.append(row)
    return made


def _tell(session: BootSession, nodes: list[Node], bad: set[int]) -> None:
    with recording():
        record_event(**session.event("session_enqueued"))
        record_event(**session.event("session_preparing"))
        record_event(**session.event("session_creating"))
        names = [nodes[number].name for number in sorted(bad)]
        delta = session.event("node_phases")
        delta["area"] = "node"
        delta["data"] = {
            "session": session.name,
            "changes": {"compute/boot": {Category.FAILED: names}} if names else {},
        }
        record_event(**delta)
        if session.status == SessionStatus.COMPLETE:
            record_event(**session.event("session_terminated", result="SUCCESS", reason="task-finished"))


def small(owner: User) -> BootSession:
    """16 nodes, one session in progress with two failures, one over."""
    nodes = make_fleet(16)
    make_template()
    make_session(nodes[2:], name="first-boot", owner=owner, age=timedelta(hours=3), over=True, owns=False)
    return make_session(nodes[2:], name="reboot-after-maintenance", owner=owner, failed=2)


def large(owner: User, count: int = 10_240) -> BootSession:
    """10,240 nodes, 24 sessions over, one in progress with 18 failures."""
    nodes = make_fleet(count)
    make_template()
    for number in range(24):
        part = nodes[number * 256 : number * 256 + 256]
        make_session(
            part or nodes[:256],
            name=f"nightly-{number:02}",
            owner=owner,
            age=timedelta(hours=5 + number),
            over=True,
            failed=3 if number % 9 == 4 else 0,
            owns=False,
        )
    return make_session(nodes[2:], name="reboot-25.11", owner=owner, failed=18, through=0.55)
