"""Two tenants with one of everything each, and one person of each role."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from accounts_app.models import Domain
from accounts_app.states import Role
from events_app.models import BackgroundTask
from events_app.services import record_event, recording
from sessions_app.models import NodeGroup
from tasks_app.models import Run as TaskRun
from tasks_app.models import Task
from tasks_app.serializers import finalize
from tests.factories import make_bmc, make_domain, make_key, make_node, make_session, make_template, make_user
from workflows_app.models import Deployment, Replica, Revision, Run, Runtime, Service, Workflow

ROLES = {
    "nobody": None,
    "nora": Role.NONE,
    "victor": Role.VIEWER,
    "uma": Role.USER,
    "adam": Role.ADMIN,
    "sue": Role.SUPERADMIN,
}
SPEC = {"name": "entry", "image": "x/y:1", "command": [], "replicas": 1, "port": 8080}


def make_people(domain: Domain) -> dict[str, Any]:
    """Everybody but the anonymous; the superadmin is of no domain."""
    return {
        name: make_user(name, role, None if role == Role.SUPERADMIN else domain)
        for name, role in ROLES.items()
        if role is not None
    }


def make_things(domain_name: str, cabinet: int, suffix: str = "") -> dict[str, str]:
    """One of everything in a domain; what its parts are called in paths and bodies, by placeholder. A suffix
    makes another one of everything."""
    domain = make_domain(domain_name)
    tag = domain_name + suffix
    owner = make_user(f"owner-{tag}", Role.USER, domain)
    name = f"x{cabinet}c0s0b0n0"
    bmc = make_bmc(f"bmc-{tag}", domain=domain)
    node = make_node(name, bmc=bmc, domain=domain)
    group = NodeGroup.objects.create(name=f"group-{tag}")
    group.nodes.set([node])
    template = make_template([node], name=f"template-{tag}", domain=domain)
    session = make_session(template, actor=owner, name=f"session-{tag}")
    condition = {"schedule": {"cron": "0 0 1 1 *"}}
    document = finalize({"name": f"task-{tag}", "module": "./m", "condition": condition})
    task = Task.objects.create(
        name=document["name"], domain=domain, owner=owner, status="active", document=document,
        last_run_number=1,
    )  # fmt: skip
    run = TaskRun.objects.create(
        task=task, number=1, status="unconfirmed", trigger={"kind": "manual"}, document=document
    )
    workflow = _make_workflow(tag, domain, owner)
    background = BackgroundTask.objects.create(owner=owner, domain=domain_name, message="working")
    queued = Run.objects.create(
        workflow=workflow, owner=owner, body=b"{}", expires_at=timezone.now() + timedelta(hours=1)
    )
    with recording():
        record_event(
            name="node_marked",
            area="node",
            subject_name=name,
            data={"by": owner.username},
            domain=domain_name,
        )
    return {
        "domain": domain_name,
        "node": name,
        "bmc": bmc.name,
        "group": group.name,
        "template": template.name,
        "session": session.name,
        "uuid": str(session.uuid),
        "task": task.name,
        "task_uuid": str(task.uuid),
        "run": str(run.pk),
        "workflow": workflow.pk,
        "queued": str(queued.pk),
        "key": make_key(owner, name=f"key-{tag}").access_key,
        "background": str(background.pk),
    }


def _make_workflow(name: str, domain: Domain, owner: Any) -> Workflow:
    runtime = Runtime.objects.get_or_create(name="fake", defaults={"kind": "fake"})[0]
    workflow = Workflow.objects.create(
        id=f"workflow-{name}", name=f"flow of {name}", domain=domain, owner=owner, runtime=runtime,
        mode="ASYNC", services=[SPEC],
    )  # fmt: skip
    for number in (1, 2):
        revision = Revision.objects.create(workflow=workflow, number=number, body=workflow.body())
    deployment = Deployment.objects.create(
        workflow=workflow, revision=revision, runtime=runtime, status="published", due_at=None,
        observed_at=timezone.now(), replicas={"entry": 1},
    )  # fmt: skip
    service = Service.objects.create(
        deployment=deployment, key=Service.key_for(workflow.pk, "entry"), name="entry", position=0,
        desired=1, actual=1, updated=1, total=1, rollout="complete",
    )  # fmt: skip
    Replica.objects.create(
        service=service, name="entry-0", state="running", ready=True, available=True,
        created_at=timezone.now(), started_at=timezone.now(),
    )  # fmt: skip
    return workflow
