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
from events_app.models import EventCounter, Heartbeat, LifecycleEvent
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
from tasks_app.models import Run, RunLog, Task, Trigger
from workflows_app.models import Deployment, Replica, Revision, Runtime, Service, Workflow

PASSWORD = "a long enough one"
FAULTS = (
    "The BMC does not answer.",
    "The node fetched its boot script but did not report in time (kernel, initrd, muster-report).",
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


def keep_seen() -> None:
    """Worker and beat count as at work, for as long as anybody looks."""
    for name in ("worker", "runner", "beat"):
        Heartbeat.objects.update_or_create(
            name=name, defaults={"seen_at": timezone.now() + timedelta(days=1)}
        )


def small(owner: User) -> BootSession:
    """16 nodes, one session in progress with two failures, one over."""
    nodes = make_fleet(16)
    make_template()
    make_tasks(owner)
    make_workflows(owner)
    make_session(nodes[2:], name="first-boot", owner=owner, age=timedelta(hours=3), over=True, owns=False)
    return make_session(nodes[2:], name="reboot-after-maintenance", owner=owner, failed=2)


def large(owner: User, count: int = 10_240) -> BootSession:
    """10,240 nodes, 24 sessions over, one in progress with 18 failures."""
    nodes = make_fleet(count)
    make_template()
    make_tasks(owner, 40)
    make_workflows(owner)
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


def wide(owner: User, count: int) -> BootSession:
    """One session of so many nodes, at its beginning; what a browser is left open over."""
    nodes = make_fleet(count)
    make_template()
    make_tasks(owner)
    return make_session(nodes, name="reboot-all", owner=owner, through=0.1)


# -- tasks and workflows -------------------------------------------------------------------------------


def make_task(name: str, *, health: str = "successful", owner: User | None = None, **document: Any) -> Task:
    """A task that exists, with a condition on services unless said otherwise."""
    whole = {
        "name": name,
        "description": "Keeps the load balancer's members current",
        "module": "./modules/members",
        "version": "",
        "providers": ["local"],
        "driver": "terraform",
        "auto_apply": True,
        "guard_destroy": False,
        "condition": {"services": {"names": ["api", "web"]}},
        "module_input": {},
        "buffer_period": {"enabled": True, "min": 5_000_000_000, "max": 20_000_000_000},
        "variables": {},
        **document,
    }
    task = Task.objects.create(
        name=name, owner=owner, status="active", health=health, document=whole, resources=12
    )
    for kind, spec in whole["condition"].items():
        Trigger.objects.create(task=task, kind=kind, spec=spec)
    return task


def make_run(
    task: Task, status: str = "succeeded", *, age: timedelta = timedelta(hours=1), **fields: Any
) -> Run:
    """One run with output and, unless told otherwise, a plan of three changes."""
    now = timezone.now()
    task.last_run_number += 1
    task.save()
    ended = now - age + timedelta(seconds=42) if status in {"succeeded", "failed", "cancelled"} else None
    values: dict[str, Any] = {
        "task": task,
        "number": task.last_run_number,
        "status": status,
        "trigger": {"kind": "manual", "by": "olga"},
        "document": task.document,
        "has_changes": True,
        "counts": {"add": 1, "change": 1, "remove": 1},
        "changes": [
            {"action": "create", "address": 'local_file.member["api-3"]', "before": None,
             "after": {"content": "10.0.3.7:8080", "file_permission": "0644"}},
            {"action": "update", "address": 'local_file.member["api-1"]',
             "before": {"content": "10.0.3.5:8080"}, "after": {"content": "10.0.3.5:8443"}},
            {"action": "delete", "address": 'local_file.member["web-9"]',
             "before": {"content": "10.0.4.9:80"}, "after": None, "reason": "no longer in the configuration"},
        ],
        "error": "Error: connection refused" if status == "failed" else "",
        "created_at": now - age,
        "started_at": now - age + timedelta(seconds=1),
        "ended_at": ended,
        **fields,
    }  # fmt: skip
    run = Run.objects.create(**values)
    texts = [
        "Initializing provider plugins...",
        "Success! The configuration is valid.",
        'local_file.member["api-1"]: Refreshing state...',
        "Plan: 1 to add, 1 to change, 1 to destroy.",
    ]
    RunLog.objects.bulk_create(
        RunLog(run=run, number=number, at=now - age + timedelta(seconds=number), phase="plan", text=text)
        for number, text in enumerate(texts, start=1)
    )
    Run.objects.filter(pk=run.pk).update(lines=len(texts))
    run.refresh_from_db()
    return run


def make_tasks(owner: User, count: int = 6) -> list[Task]:
    """Tasks of all kinds, with runs of all kinds."""
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("load-balancer", "successful", {}),
        ("dns-records", "errored", {"condition": {"consul_kv": {"path": "dns/", "recurse": True}}}),
        ("firewall", "critical", {"auto_apply": False}),
        ("nightly-snapshots", "successful", {"condition": {"schedule": {"cron": "30 2 * * *"}}}),
        ("storage-after-boot", "unknown", {"condition": {"session": {"states": ["succeeded"]}}}),
        ("registry-mirror", "successful", {"condition": {"catalog_services": {"regexp": "registry.*"}}}),
    ]
    tasks = []
    for number in range(count):
        name, health, document = kinds[number % len(kinds)]
        name = name if number < len(kinds) else f"{name}-{number}"
        task = make_task(name, health=health, owner=owner, **document)
        for back in range(6, 0, -1):
            bad = back < 3 if health == "critical" else health == "errored" and back == 4
            make_run(task, "failed" if bad else "succeeded", age=timedelta(hours=3 * back))
        tasks.append(task)
    make_run(tasks[2], "unconfirmed", age=timedelta(minutes=4))
    return tasks


def make_tasks_more(owner: User, count: int) -> None:
    """More of the same, under other names."""
    for number in range(count):
        task = make_task(f"more-{number}", owner=owner)
        make_run(task)


def make_workflows(owner: User) -> list[Workflow]:
    """One of each colour, one that was never published."""
    runtime = Runtime.objects.create(name="local", kind="process")
    plans: list[tuple[str, str, list[tuple[str, int, int]]]] = [
        ("image-pipeline", "published", [("ingest", 2, 2), ("analyse", 4, 4)]),
        ("night-report", "published", [("collect", 3, 2), ("render", 1, 1)]),
        ("telescope-feed", "failed", [("receiver", 2, 0), ("filter", 2, 2)]),
        ("archive", "", [("mover", 1, 0)]),
    ]
    made = []
    for name, status, services in plans:
        workflow = Workflow.objects.create(
            id=name, name=name, owner=owner, runtime=runtime, mode="ASYNC",
            services=[{"name": part, "replicas": wanted, "command": ["run"]} for part, wanted, _ in services],
        )  # fmt: skip
        made.append(workflow)
        if status:
            _deploy(workflow, runtime, status, services, owner)
    return made


def _deploy(
    workflow: Workflow, runtime: Runtime, status: str, services: list[tuple[str, int, int]], owner: User
) -> None:
    now = timezone.now()
    for number in (1, 2):
        revision = Revision.objects.create(
            workflow=workflow, number=number, body=workflow.body(), created_by=owner
        )
    deployment = Deployment.objects.create(
        workflow=workflow, revision=revision, runtime=runtime, status=status, observed_at=now, due_at=None,
        replicas={part: wanted for part, wanted, _ in services},
    )  # fmt: skip
    for position, (part, wanted, active) in enumerate(services):
        failed = status == "failed" and not active
        service = Service.objects.create(
            deployment=deployment, key=Service.key_for(workflow.pk, part), name=part, position=position,
            desired=wanted, actual=active, updated=active, total=wanted,
            rollout="failed" if failed else "complete",
            reason="ProgressDeadlineExceeded" if failed else "NewReplicaSetAvailable",
            message="No progress for 600 s." if failed else "",
        )  # fmt: skip
        for place in range(wanted):
            up = place < active
            Replica.objects.create(
                service=service, name=f"{part}-{place}", state="running" if up else "CrashLoopBackOff",
                message="" if up else "exited with status 1", ready=up, available=up,
                restarts=0 if up else 7, created_at=now - timedelta(hours=2), started_at=now,
            )  # fmt: skip


def full(owner: User) -> BootSession:
    """`large`, and 1,000 sessions over, and 100,000 events: for measuring pages."""
    session = large(owner)
    now = timezone.now()
    BootSession.objects.bulk_create(
        BootSession(
            uuid=uuid.uuid4(), name=f"older-{number:04}", operation=Operation.BOOT, owner=owner,
            template_name="compute-25.11", status=SessionStatus.COMPLETE, result=SessionResult.SUCCEEDED,
            created_at=now - timedelta(hours=30, minutes=number), stopped_at=now - timedelta(hours=29),
            total_nodes=256,
        )
        for number in range(1000)
    )  # fmt: skip
    first = EventCounter.draw(100_000)
    LifecycleEvent.objects.bulk_create(
        (
            LifecycleEvent(
                number=first + number, name="session_started", area="session", subject_id=str(session.uuid),
                subject_name=f"older-{number % 1000:04}", at=now - timedelta(days=2), data={"reason": ""},
            )
            for number in range(100_000)
        ),
        batch_size=BATCH,
    )  # fmt: skip
    return session
