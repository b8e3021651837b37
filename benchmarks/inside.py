"""The product's own functions at a benchmark's service: JSON lines in, JSON lines out.

A process of its own inside the environment of a stand, because Django is set up once per process.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import django

IMAGE = "s3://boot-images/bench/manifest.json"
ERRORS = [f"BMC answered {status} to Reset" for status in range(500, 508)]


def load(*, nodes: list[dict[str, Any]], settings: dict[str, Any], group: str = "bench") -> int:
    """Put a fleet's inventory into the database, a BMC for each node, a group and a template of one name."""
    from django.db import transaction

    from sessions_app import drivers
    from sessions_app.models import Bmc, Node, NodeGroup, SessionTemplate

    public, secret = drivers.split_settings("redfish", settings)
    with transaction.atomic():
        bmcs = [
            Bmc(name=node["xname"], kind="redfish", address=node["address"], settings=public)
            for node in nodes
        ]
        for bmc in bmcs:
            bmc.set_secrets(secret)
        Bmc.objects.bulk_create(bmcs, batch_size=500)
        made = [bmc.pk for bmc in bmcs]
        ids = {bmc.name: bmc.pk for bmc in bmcs}
        fields = ("nid", "mac", "system")
        Node.objects.bulk_create(
            [
                Node(name=node["xname"], bmc_id=ids[node["xname"]], **{name: node[name] for name in fields})
                for node in nodes
            ],
            batch_size=500,
        )
        members, _ = NodeGroup.objects.get_or_create(name=group)
        members.nodes.set(Node.objects.filter(bmc_id__in=made).values_list("id", flat=True))
        body = {"boot_sets": {"all": {"path": IMAGE, "type": "s3", "node_groups": [group]}}}
        SessionTemplate.objects.create(name=group, body=body)
    return len(nodes)


def start(*, name: str, operation: str, template: str = "bench") -> dict[str, str]:
    """Start a session on all nodes of a template; its two identities."""
    from sessions_app.models import SessionTemplate
    from sessions_app.services import start_session

    found = SessionTemplate.objects.get(name=template)
    session = start_session(template=found, operation=operation, actor=None, name=name)
    return {"id": str(session.uuid), "name": session.name}


def stand_still(*, name: str) -> dict[str, str]:
    """A reboot of the template `name` in full swing, where no worker moves it: every twentieth node has
    failed to go on, with one of eight errors, the others are on their way up."""
    from sessions_app import setup
    from sessions_app.counts import Counts
    from sessions_app.models import BootSession, NodePhase
    from sessions_app.states import Category, Step

    identity = start(name=name, operation="reboot", template=name)
    session = BootSession.objects.get(name=name)
    setup.set_up_session(session.pk)
    rows = {
        phase: list(NodePhase.objects.filter(session=session, phase__name=phase).order_by("id"))
        for phase in ("shutdown", "boot")
    }
    counts = Counts()
    _place(rows["shutdown"], Category.SUCCEEDED, "", Step.NONE, counts)
    _place(rows["boot"], Category.IN_PROGRESS, "", Step.AWAIT_REPORT, counts)
    for place, error in enumerate(ERRORS):
        _place(rows["boot"][place * 20 :: len(ERRORS) * 20], Category.FAILED, error, Step.NONE, counts)
    counts.write(session.created_at)
    return identity


def _place(rows: list[Any], category: str, error: str, step: str, counts: Any) -> None:
    """Move rows that a worker would have moved, and count them."""
    from sessions_app.models import NodePhase

    for part in (rows[start : start + 500] for start in range(0, len(rows), 500)):
        NodePhase.objects.filter(id__in=[row.pk for row in part]).move(
            category, error=error, step=step, due_at=None
        )
        for row in part:
            counts.moved(row.session_id, row.phase_id, row.category, category, [""])
            row.category = category


def look(*, name: str) -> dict[str, Any]:
    """How a session fares: status, counters by phase, seconds from its start to its end, errors."""
    from django.db.models import Count

    from sessions_app.models import BootSession, NodePhase, Phase
    from sessions_app.states import Category

    session = BootSession.objects.get(name=name)
    phases = Phase.objects.filter(boot_set__session=session).order_by("position")
    ended = session.stopped_at and (session.stopped_at - session.created_at).total_seconds()
    failed = NodePhase.objects.filter(session=session, category=Category.FAILED)
    errors = dict(failed.order_by().values_list("error").annotate(Count("id"))) if ended else {}
    return {
        "status": session.status,
        "result": session.result,
        "seconds": ended,
        "total": session.total_nodes,
        "errors": errors,
        "phases": {
            phase.name: {
                name: getattr(phase, name)
                for name in ("not_started", "in_progress", "succeeded", "failed", "excluded")
            }
            for phase in phases
        },
    }


def invite(*, tasks: int) -> dict[str, Any]:
    """Ada, a user of physics, Bob, its admin, and Root: ids and tokens by name; open background tasks of
    Ada's; the number of the newest event."""
    from accounts_app.models import Domain, User
    from accounts_app.services import issue_key
    from events_app.live import rows
    from events_app.services import start_background_task

    physics = Domain.objects.create(name="physics")
    people: dict[str, dict[str, Any]] = {}
    for name, role, domain in (
        ("ada", "user", physics),
        ("bob", "admin", physics),
        ("root", "superadmin", None),
    ):
        user = User.objects.create_user(name, role=role, domain=domain)
        issued = issue_key(user=user, actor=None)
        people[name] = {"id": user.pk, "access_key": issued.access_key, "token": issued.token}
    ada = User.objects.get(username="ada")
    opened = [start_background_task(kind="soak", owner=ada, domain="physics") for _ in range(tasks)]
    return {"people": people, "tasks": [str(task.pk) for task in opened], "newest": rows.newest()}


def finish(*, task: str) -> bool:
    """End a background task."""
    from events_app.services import finish_background_task

    return finish_background_task(task, status="done", message="k0z")


def recorded(*, after: int) -> list[Any]:
    """All events beyond a number, each as [number, name, area, subject_id, subject_name, domain, access_key,
    user_id, data]."""
    from events_app.models import LifecycleEvent

    names = (
        "number",
        "name",
        "area",
        "subject_id",
        "subject_name",
        "domain",
        "access_key",
        "user_id",
        "data",
    )
    return list(LifecycleEvent.objects.after(after).values_list(*names))


def main() -> None:
    """Answer one line for each line, {"do": name, ...} with {"answer": ...} or {"error": text}."""
    django.setup()
    doors = {door.__name__: door for door in (load, start, stand_still, look, invite, finish, recorded)}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"answer": doors[asked.pop("do")](**asked)}
        except Exception as problem:  # whatever it is, the benchmark tells it
            answer = {"error": f"{type(problem).__name__}: {problem}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
