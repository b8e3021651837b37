"""What people ask of workflows: describe, publish, scale, roll back, unpublish, use."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Max
from django.utils import timezone

from events_app.models import BackgroundTask, InvalidTransition
from events_app.services import (
    finish_background_task,
    record_event,
    recording,
    start_background_task,
    wake,
)
from events_app.states import BackgroundTaskStatus
from workflows_app import steps
from workflows_app.drivers.base import Reason, Rollout
from workflows_app.models import Deployment, Revision, Run, Runtime, Service, Workflow
from workflows_app.models.workflows import driver_of
from workflows_app.observed import tell_colour
from workflows_app.states import DeploymentStatus, PublishingMode, RunStatus


class NotUsable(Exception):
    """The workflow takes no requests now; `colour` says how it is."""

    def __init__(self, colour: str) -> None:
        super().__init__(f"The workflow can't be used: it is {colour}.")
        self.colour = colour


def default_runtime() -> Runtime:
    """Processes on this machine, for workflows that name no runtime."""
    runtime, _ = Runtime.objects.get_or_create(name="local", defaults={"kind": "process"})
    return runtime


def create_runtime(*, name: str, kind: str, settings: dict[str, Any], actor: Any) -> Runtime:
    """Add a place where workflows run. Raises ValidationError for settings that its driver doesn't know."""
    runtime = Runtime(name=name, kind=kind, settings=settings)
    runtime.full_clean()
    with recording():
        runtime.save()
        _tell_runtime("runtime_created", runtime, actor)
    return runtime


def delete_runtime(*, runtime: Runtime, actor: Any) -> None:
    """Remove a runtime. Raises InvalidTransition while a workflow names it."""
    with recording():
        if runtime.workflows.exists() or runtime.deployments.exists():
            raise InvalidTransition(f"runtime {runtime}", "in use", "deleted")
        _tell_runtime("runtime_deleted", runtime, actor)
        runtime.delete()


def _tell_runtime(name: str, runtime: Runtime, actor: Any) -> None:
    record_event(
        name=name,
        area="workflow",
        subject_id=f"runtime/{runtime.name}",
        subject_name=runtime.name,
        data={"runtime": runtime.name, "kind": runtime.kind, "by": getattr(actor, "username", "")},
    )


# -- describe -----------------------------------------------------------------------------------------


def create_workflow(*, actor: Any, runtime: Runtime | None = None, keys: Any = (), **values: Any) -> Workflow:
    """Describe a new workflow; nothing runs yet. `values`: fields of Workflow, already of the right form.

    Raises ValidationError where the description does not hold together or its runtime can't do it.
    """
    workflow = Workflow(runtime=runtime or default_runtime(), owner=actor, **values)
    _check(workflow)
    if Workflow.objects.filter(pk=workflow.pk).exists():
        raise ValidationError({"id": f"There is a workflow {workflow.pk} already."})
    with recording():
        workflow.save(force_insert=True)
        workflow.keys.set(keys)
        _tell(workflow, "workflow_created", actor)
    return workflow


def update_workflow(*, workflow: Workflow, actor: Any, **values: Any) -> BackgroundTask | None:
    """Change the description. Of a published workflow, what changed is rolled out at once.

    Returns the background task of the rollout, None where nothing is to be rolled out.
    Raises ValidationError as `create_workflow`, and for a new runtime while something runs on the old one.
    """
    keys = values.pop("keys", None)
    with recording():
        workflow = Workflow.objects.select_for_update().get(pk=workflow.pk)
        deployment = _held(workflow)
        idle = deployment is None or deployment.status == DeploymentStatus.UNPUBLISHED
        if "runtime" in values and values["runtime"] != workflow.runtime and not idle:
            raise ValidationError({"runtime": "Unpublish the workflow before moving it to another runtime."})
        for name, value in values.items():
            setattr(workflow, name, value)
        _check(workflow)
        workflow.save()
        if keys is not None:
            workflow.keys.set(keys)
        _tell(workflow, "workflow_updated", actor)
        if deployment is None or not deployment.wanted:
            return None
        if not _differs(deployment, workflow):
            return None
        return _bring(workflow, deployment, actor)


def delete_workflow(*, workflow: Workflow, actor: Any) -> None:
    """Forget a workflow of which nothing runs. Raises InvalidTransition while something does."""
    with recording():
        deployment = deployment_of(workflow)
        if deployment is not None and deployment.status != DeploymentStatus.UNPUBLISHED:
            raise InvalidTransition(str(deployment), deployment.status, "deleted")
        _tell(workflow, "workflow_deleted", actor)
        if deployment is not None:
            deployment.delete()
        workflow.delete()


def deployment_of(workflow: Workflow) -> Deployment | None:
    """The workflow's deployment; None where it has never been published."""
    return Deployment.objects.select_related("revision", "runtime", "workflow").filter(pk=workflow.pk).first()


def _held(workflow: Workflow) -> Deployment | None:
    """The same, locked: before its background task, as by whoever stores what its runtime says."""
    rows = Deployment.objects.select_for_update(of=("self",))
    return rows.select_related("revision", "runtime", "workflow").filter(pk=workflow.pk).first()


def _check(workflow: Workflow) -> None:
    """Names are unique, the entry is one of them and has a port, the runtime can do it all."""
    names = [spec["name"] for spec in workflow.services]
    if len(set(names)) != len(names):
        raise ValidationError({"services": "Two services have the same name."})
    if workflow.entry:
        entry = next((spec for spec in workflow.services if spec["name"] == workflow.entry), None)
        if entry is None:
            raise ValidationError({"entry": f"There is no service {workflow.entry}."})
        if not entry.get("port"):
            raise ValidationError({"entry": f"Service {workflow.entry} takes no requests: it has no port."})
    # By its id: given the workflow itself, the draft would pass for its deployment from then on.
    draft = Deployment(workflow_id=workflow.pk, revision=Revision(body=workflow.body()))
    try:
        problems = driver_of(workflow.runtime).check(draft.plan(""))
    except ValueError as error:
        problems = [str(error)]
    if problems:
        raise ValidationError({"services": problems})


def check_workflow(values: dict[str, Any]) -> None:
    """Check fields of a workflow that is to be; for forms, which say so beside their fields.

    Raises ValidationError as `create_workflow`.
    """
    fields = {field.name for field in Workflow._meta.concrete_fields}
    workflow = Workflow(**{name: value for name, value in values.items() if name in fields})
    _check(workflow)


def _tell(workflow: Workflow, name: str, actor: Any, **data: Any) -> None:
    record_event(
        name=name,
        area="workflow",
        subject_id=workflow.pk,
        subject_name=workflow.name,
        data={"workflowId": workflow.pk, "by": getattr(actor, "username", ""), **data},
        domain=workflow.domain.name if workflow.domain else "",
        user_id=workflow.owner_id,
    )


# -- publish ------------------------------------------------------------------------------------------


def publish_workflow(*, workflow: Workflow, actor: Any) -> BackgroundTask:
    """Bring the workflow to its runtime as it is described now; return the progress bar.

    Publishing what is published already changes nothing; publishing what has failed tries again.
    Raises ValidationError where the runtime can't do it.
    """
    _check(workflow)
    with recording():
        workflow = Workflow.objects.select_for_update().get(pk=workflow.pk)
        return _bring(workflow, _held(workflow), actor)


def _bring(workflow: Workflow, deployment: Deployment | None, actor: Any) -> BackgroundTask:
    """Roll out the present description; a new revision where it differs from the published one."""
    body = workflow.body()
    replicas = _replicas(workflow)
    if deployment is not None and deployment.wanted and _same(deployment.revision.body, body):
        scaled = deployment.replicas != replicas
        if not scaled and deployment.status != DeploymentStatus.FAILED:
            return _unchanged(deployment, actor, "publish")
        if not scaled:
            deployment.restarts += 1
        revision = deployment.revision
    else:
        revision = _new_revision(workflow, body, actor)
    if deployment is None:
        deployment = Deployment.objects.create(
            workflow=workflow, revision=revision, runtime=workflow.runtime, replicas=replicas
        )
    return _roll_out(deployment, revision, replicas, actor)


def _replicas(workflow: Workflow) -> dict[str, int]:
    return {spec["name"]: spec.get("replicas", 1) for spec in workflow.services}


def _differs(deployment: Deployment, workflow: Workflow) -> bool:
    """Whether what is published is not what is described now."""
    same = _same(deployment.revision.body, workflow.body())
    return not same or deployment.replicas != _replicas(workflow)


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two revisions differ in nothing but replicas, which are scaled without a new revision."""

    def without_replicas(body: dict[str, Any]) -> dict[str, Any]:
        services = [{k: v for k, v in spec.items() if k != "replicas"} for spec in body["services"]]
        return {**body, "services": services}

    return without_replicas(one) == without_replicas(other)


def _new_revision(
    workflow: Workflow, body: dict[str, Any], actor: Any, restored: int | None = None
) -> Revision:
    last = workflow.revisions.aggregate(last=Max("number"))["last"] or 0
    return Revision.objects.create(
        workflow=workflow, number=last + 1, body=body, restored_from=restored, created_by=actor
    )


def _roll_out(
    deployment: Deployment, revision: Revision, replicas: dict[str, int], actor: Any
) -> BackgroundTask:
    """Ask for `revision` with `replicas`: rows first, so that the status says so from this moment on."""
    was_wanted = deployment.wanted
    failed = deployment.status == DeploymentStatus.FAILED
    fresh = not was_wanted or failed or revision.pk != deployment.revision_id
    deployment.revision = revision
    if not was_wanted:
        deployment.runtime = deployment.workflow.runtime
    deployment.replicas = replicas
    total = sum(replicas.values())
    verb = "Publishing" if fresh else "Scaling"
    task = _follow(deployment, actor, "workflow_publish", f"{verb} {deployment.workflow.name}.", total)
    _ask(deployment, task)
    _expect_services(deployment, fresh)
    if deployment.status != DeploymentStatus.PUBLISHING:
        deployment.move_to(DeploymentStatus.PUBLISHING)
    tell_colour(deployment)
    deployment.save(update_fields=["colour"])
    _tell(deployment.workflow, "workflow_rollout", actor, revision=revision.number, replicas=replicas)
    return task


def _ask(deployment: Deployment, task: BackgroundTask) -> None:
    """Store what is asked for now and wake who does it."""
    now = timezone.now()
    deployment.generation += 1
    deployment.error = deployment.fault = ""
    deployment.attempts = 0
    deployment.changed_at = deployment.progress_at = now
    deployment.reached = 0
    deployment.due_at = now
    deployment.background_task = task
    deployment.save(
        update_fields=[
            "revision",
            "runtime",
            "replicas",
            "restarts",
            "generation",
            "error",
            "fault",
            "attempts",
            "changed_at",
            "progress_at",
            "reached",
            "due_at",
            "background_task",
        ]
    )
    wake(steps.reconcile, deployment.pk)


def _expect_services(deployment: Deployment, fresh: bool) -> None:
    """Rows for the services of the revision: what is not seen yet has no instance."""
    names = set()
    for position, spec in enumerate(deployment.service_specs()):
        key = Service.key_for(deployment.workflow_id, spec["name"])
        names.add(key)
        values: dict[str, Any] = {"name": spec["name"], "position": position, "desired": spec["replicas"]}
        row, created = Service.objects.get_or_create(deployment=deployment, key=key, defaults=values)
        if fresh or created:
            values |= {"rollout": Rollout.IN_PROGRESS, "reason": Reason.ROLLING_OUT, "message": ""}
        Service.objects.filter(pk=row.pk).update(**values)
    deployment.services.exclude(key__in=names).update(desired=0)


def _follow(deployment: Deployment, actor: Any, kind: str, message: str, total: int) -> BackgroundTask:
    """A progress bar for what begins now; the one of what it replaces ends as cancelled."""
    if deployment.background_task_id:
        finish_background_task(
            deployment.background_task_id,
            status=BackgroundTaskStatus.CANCELLED,
            message="Something newer was asked for.",
        )
    domain = deployment.workflow.domain
    return start_background_task(
        kind=kind,
        owner=actor,
        domain=domain.name if domain else "",
        subject=deployment.workflow.name,
        message=message,
        total=total,
    )


def _unchanged(deployment: Deployment, actor: Any, what: str) -> BackgroundTask:
    """The progress bar of a request that asks for what is so, or is under way, already."""
    task = deployment.background_task
    if task is not None and task.status == BackgroundTaskStatus.STARTED:
        return task
    domain = deployment.workflow.domain
    task = start_background_task(
        kind=f"workflow_{what}",
        owner=actor,
        domain=domain.name if domain else "",
        subject=deployment.workflow.name,
    )
    finish_background_task(task.pk, status=BackgroundTaskStatus.DONE, message=f"Nothing to {what}.")
    task.refresh_from_db()
    return task


def unpublish_workflow(*, workflow: Workflow, actor: Any) -> BackgroundTask:
    """Remove what runs of a workflow; return the progress bar. Repeating it changes nothing.

    Raises InvalidTransition where it has never been published.
    """
    with recording():
        Workflow.objects.select_for_update().get(pk=workflow.pk)
        deployment = _held(workflow)
        if deployment is None:
            raise InvalidTransition(f"workflow {workflow.pk}", "never published", "unpublished")
        if deployment.status in {DeploymentStatus.UNPUBLISHED, DeploymentStatus.UNPUBLISHING}:
            return _unchanged(deployment, actor, "unpublish")
        total = sum(service.total or service.actual for service in deployment.services.all())
        task = _follow(deployment, actor, "workflow_unpublish", f"Unpublishing {workflow.name}.", total)
        _ask(deployment, task)
        deployment.services.update(desired=0)
        deployment.move_to(DeploymentStatus.UNPUBLISHING)
        tell_colour(deployment)
        deployment.save(update_fields=["colour"])
        _tell(workflow, "workflow_withdrawn", actor)
    return task


def scale_service(*, workflow: Workflow, service: str, replicas: int, actor: Any) -> BackgroundTask:
    """Ask for another number of instances of one service of a published workflow.

    Raises ValidationError for an unknown service, InvalidTransition where the workflow is not published.
    """
    with recording():
        workflow = Workflow.objects.select_for_update().get(pk=workflow.pk)
        specs = [dict(spec) for spec in workflow.services]
        chosen = next((spec for spec in specs if spec["name"] == service), None)
        if chosen is None:
            raise ValidationError({"service": f"There is no service {service}."})
        chosen["replicas"] = replicas
        workflow.services = specs
        workflow.save()
        deployment = _held(workflow)
        if deployment is None or not deployment.wanted:
            raise InvalidTransition(f"workflow {workflow.pk}", "not published", "scaled")
        wanted = {**deployment.replicas, service: replicas}
        if wanted == deployment.replicas:
            return _unchanged(deployment, actor, "scale")
        return _roll_out(deployment, deployment.revision, wanted, actor)


def roll_back(*, workflow: Workflow, actor: Any, revision: int | None = None) -> BackgroundTask:
    """Return to an earlier revision (by default the one before the present); replicas stay as scaled.

    The earlier revision becomes the newest under a new number, as with Kubernetes. Raises ValidationError
    where there is no such revision, InvalidTransition where the workflow is not published.
    """
    with recording():
        workflow = Workflow.objects.select_for_update().get(pk=workflow.pk)
        deployment = _held(workflow)
        if deployment is None or not deployment.wanted:
            raise InvalidTransition(f"workflow {workflow.pk}", "not published", "rolled back")
        earlier = _earlier(workflow, deployment, revision)
        present = {**deployment.replicas}
        services = [
            {**spec, "replicas": present.get(spec["name"], spec.get("replicas", 1))}
            for spec in earlier.body["services"]
        ]
        for name, value in {**earlier.body, "services": services}.items():
            setattr(workflow, name, value)
        _check(workflow)
        workflow.save()
        newest = _new_revision(workflow, workflow.body(), actor, restored=earlier.number)
        return _roll_out(deployment, newest, {spec["name"]: spec["replicas"] for spec in services}, actor)


def _earlier(workflow: Workflow, deployment: Deployment, number: int | None) -> Revision:
    present = deployment.revision
    revisions = workflow.revisions.exclude(pk=present.pk)
    if number is None:
        # After a rollback the one before is what was rolled back from; going there again would swing.
        before = present.restored_from or present.number
        found = revisions.filter(number__lt=before).first()
    else:
        found = revisions.filter(number=number).first()
    if found is None:
        raise ValidationError({"revision": "There is no such earlier revision."})
    return found


# -- use ----------------------------------------------------------------------------------------------


def queue_run(*, workflow: Workflow, actor: Any, body: bytes, content_type: str = "") -> Run:
    """Keep an analysis until the workflow is usable, or its time is over.

    Raises NotUsable where it is not published as ASYNC.
    """
    with recording():
        deployment = deployment_of(workflow)
        if deployment is None or not deployment.wanted or deployment.mode != PublishingMode.ASYNC:
            raise NotUsable(deployment.present_colour() if deployment else "never published")
        domain = workflow.domain
        task = start_background_task(
            kind="workflow_run",
            owner=actor,
            domain=domain.name if domain else "",
            subject=workflow.name,
            message="The analysis is queued.",
            total=1,
        )
        seconds = deployment.revision.body.get("queue_seconds", workflow.queue_seconds)
        return Run.objects.create(
            workflow=workflow,
            owner=actor,
            body=body,
            content_type=content_type[:255],
            background_task=task,
            expires_at=timezone.now() + timedelta(seconds=seconds),
        )


def cancel_run(*, run: Run, actor: Any) -> None:
    """Take an analysis from the queue. Raises InvalidTransition where it was delivered already."""
    with recording():
        run.move_to(RunStatus.CANCELLED, finished_at=timezone.now(), error="")
        finish_background_task(
            run.background_task_id,
            status=BackgroundTaskStatus.CANCELLED,
            message="It was cancelled.",
        )


def read_logs(*, workflow: Workflow, service: str, replica: str, lines: int = 200) -> str:
    """The last lines that a replica wrote. Raises RuntimeFault."""
    deployment = deployment_of(workflow)
    if deployment is None:
        raise InvalidTransition(f"workflow {workflow.pk}", "never published", "read")
    key = Service.key_for(workflow.pk, service)
    return driver_of(deployment.runtime).logs(str(deployment.ref), key, replica, lines)
