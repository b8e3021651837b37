"""The workflow that a new installation publishes to show itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from workflows_app import services
from workflows_app.models import Workflow
from workflows_app.states import PublishingMode

SAMPLE_ID = "word-count"
SERVER = Path(__file__).parent / "sample" / "server.py"


def sample_services() -> list[dict[str, Any]]:
    """Two services: one that takes requests, one that it asks."""
    return [_service("entry", replicas=2), _service("words", replicas=1)]


def _service(name: str, replicas: int) -> dict[str, Any]:
    return {
        "name": name,
        "command": [sys.executable, "-S", "-E", "-u", str(SERVER), name],
        "replicas": replicas,
        "port": 8080,
        "environment": {"SAMPLE_VERSION": "1"},
        "memory": "128Mi",
        "readiness": {"kind": "http", "path": "/healthz", "period_seconds": 1},
        "strategy": {"kind": "rolling", "max_surge": 1, "max_unavailable": 0},
    }


def publish_sample(*, actor: Any, keys: Any = ()) -> Workflow:
    """Describe the sample where it is not there yet, and publish it unless somebody has unpublished it.

    Its command is renewed at each start: another Python or another place of this project must not break it.
    """
    from workflows_app.serializers import clean_services

    workflow = Workflow.objects.filter(pk=SAMPLE_ID).first()
    if workflow is None:
        workflow = services.create_workflow(
            actor=actor,
            keys=keys,
            id=SAMPLE_ID,
            name="word-count",
            description="Counts the words of a text. Two processes answer requests, a third one counts.",
            mode=PublishingMode.SYNC,
            services=clean_services(sample_services()),
            entry="entry",
            domain=getattr(actor, "domain", None),
        )
        services.publish_workflow(workflow=workflow, actor=actor)
        return workflow
    commands = {each["name"]: each["command"] for each in sample_services()}
    renewed = [{**spec, "command": commands.get(spec["name"], spec["command"])} for spec in workflow.services]
    if renewed != workflow.services:
        services.update_workflow(workflow=workflow, actor=actor, services=renewed)
    return workflow
