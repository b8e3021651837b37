"""The product's own functions at a benchmark's service: JSON lines in, JSON lines out.

A process of its own inside the environment of a stand, because Django is set up once per process.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import django

GROUP, TEMPLATE, IMAGE = "bench", "bench", "s3://boot-images/bench/manifest.json"


def load(*, nodes: list[dict[str, Any]], settings: dict[str, Any]) -> int:
    """Put a fleet's inventory into the database, a BMC for each node, and a template for all of them."""
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
        ids = dict(Bmc.objects.values_list("name", "id"))
        fields = ("nid", "mac", "system")
        Node.objects.bulk_create(
            [
                Node(name=node["xname"], bmc_id=ids[node["xname"]], **{name: node[name] for name in fields})
                for node in nodes
            ],
            batch_size=500,
        )
        group, _ = NodeGroup.objects.get_or_create(name=GROUP)
        group.nodes.set(Node.objects.values_list("id", flat=True))
        body = {"boot_sets": {"all": {"path": IMAGE, "type": "s3", "node_groups": [GROUP]}}}
        SessionTemplate.objects.get_or_create(name=TEMPLATE, domain=None, defaults={"body": body})
    return len(nodes)


def start(*, name: str, operation: str, limit: str = "") -> dict[str, str]:
    """Start a session on all nodes, or on those of a limit; its two identities."""
    from sessions_app.models import SessionTemplate
    from sessions_app.services import start_session

    template = SessionTemplate.objects.get(name=TEMPLATE)
    session = start_session(template=template, operation=operation, actor=None, name=name, limit=limit)
    return {"id": str(session.uuid), "name": session.name}


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


def main() -> None:
    """Answer one line for each line, {"do": name, ...} with {"answer": ...} or {"error": text}."""
    django.setup()
    doors = {"load": load, "start": start, "look": look}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"answer": doors[asked.pop("do")](**asked)}
        except Exception as problem:  # whatever it is, the benchmark tells it
            answer = {"error": f"{type(problem).__name__}: {problem}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
