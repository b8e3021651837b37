"""Write down what a runtime reported, tell what changed, and move the deployment where that leads."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from events_app.services import finish_background_task, record_event, recording, report_progress
from events_app.states import BackgroundTaskStatus
from workflows_app.drivers.base import Observation, Plan, ReplicaState, Rollout, RuntimeFault, ServiceState
from workflows_app.models import Deployment, Replica, Service
from workflows_app.states import DeploymentStatus

# A runtime judges its own deadline; this much later than that, ours ends a rollout of which it says nothing.
SPARE = timedelta(seconds=60)
TAKEN_IN = ("observed_at", "progress_at", "reached")  # what a look at the runtime writes in any case


def store_observation(pk: str, claim: int, plan: Plan, seen: Observation) -> bool | None:
    """Store `seen`; return whether something still moves, None where nothing is left to look at.

    Writes nothing where the claim was lost.
    """
    with recording():
        deployment = _mine(pk, claim)
        if deployment is None:
            return True
        before, after = _take_in(deployment, plan, seen)
        changed = before != after
        deployment.fault = ""
        deployment.attempts = 0
        if deployment.wanted:
            deployment.error = ""
        current = plan.generation == deployment.generation
        if current:
            _move_on(deployment, plan, seen)
        _tell_changes(deployment, before, after)
        deployment.save(update_fields=[*TAKEN_IN, "fault", "attempts", "error", "colour"])
        if deployment.status == DeploymentStatus.UNPUBLISHED:
            return None
        resting = deployment.status in {DeploymentStatus.PUBLISHED, DeploymentStatus.FAILED}
        return not (current and resting and not changed)


def store_fault(
    pk: str, claim: int, fault: RuntimeFault, plan: Plan | None = None, seen: Observation | None = None
) -> int:
    """Store that the runtime could not do as asked; return how often in a row that was.

    `seen`: what it said before it refused, while `plan` was asked for: how things are is told all the same.
    What can't be helped, or wasn't in time, ends the publication (or the removal) as failed.
    """
    with recording():
        deployment = _mine(pk, claim)
        if deployment is None:
            return 1
        if plan is not None and seen is not None:
            before, after = _take_in(deployment, plan, seen)
            _tell_services(deployment, before, after)
        now = timezone.now()
        deployment.attempts += 1
        deployment.fault = str(fault)
        # What was brought there stays as it was seen last while the runtime is away.
        moving = deployment.status in {DeploymentStatus.PUBLISHING, DeploymentStatus.UNPUBLISHING}
        late = moving and now > deployment.changed_at + timedelta(seconds=deployment.deadline_seconds)
        if fault.permanent or late:
            _give_up(deployment, str(fault))
        tell_colour(deployment)
        deployment.save(update_fields=[*TAKEN_IN, "attempts", "fault", "error", "colour"])
        return deployment.attempts


def _mine(pk: str, claim: int) -> Deployment | None:
    return (
        Deployment.objects.select_for_update(of=("self",))
        .select_related("workflow__domain", "revision")
        .filter(pk=pk, claim=claim)
        .first()
    )


def _give_up(deployment: Deployment, reason: str) -> None:
    """End the publishing or unpublishing that is under way as failed."""
    deployment.error = reason
    if deployment.status == DeploymentStatus.PUBLISHING:
        deployment.move_to(DeploymentStatus.FAILED, error=reason)
    elif deployment.status == DeploymentStatus.UNPUBLISHING:
        deployment.move_to(DeploymentStatus.STUCK, error=reason)
    finish_background_task(deployment.background_task_id, status=BackgroundTaskStatus.FAILED, message=reason)


# -- services and replicas ----------------------------------------------------------------------------


def _take_in(deployment: Deployment, plan: Plan, seen: Observation) -> tuple[dict[str, Any], dict[str, Any]]:
    """Store what runs as it was seen; return what is told of it, before and after."""
    before = _summary(deployment)
    _store_services(deployment, plan, seen)
    after = _summary(deployment)
    deployment.observed_at = timezone.now()
    reached = _reached(deployment, plan)
    forward = before != after
    if deployment.wanted:
        settled = plan.generation == deployment.generation and seen.digest == plan.digest()
        forward = settled and reached > deployment.reached
    if forward:
        deployment.reached, deployment.progress_at = reached, deployment.observed_at
    return before, after


def _reached(deployment: Deployment, plan: Plan) -> int:
    """How far the services have come to the plan. Only what exceeds the most so far is progress: a crashing
    replica is up for a moment again and again, and would otherwise never be given up."""
    asked = {service.id for service in plan.services}
    return sum(
        min(service.updated, service.desired)
        + min(service.updated, service.actual, service.desired)
        + (service.rollout == Rollout.COMPLETE)
        for service in deployment.services.all()
        if service.key in asked
    )


def _store_services(deployment: Deployment, plan: Plan, seen: Observation) -> None:
    """Rows equal to what was seen; what is asked for and not seen keeps a row without instances."""
    rows = {row.key: row for row in deployment.services.prefetch_related("replicas")}
    asked = {service.id: (place, service) for place, service in enumerate(plan.services)}
    found = {service.id: service for service in seen.services}
    for key, row in rows.items():
        if key not in found and (key not in asked or not deployment.wanted):
            row.delete()
    for key, (place, service) in asked.items():
        if key not in found and deployment.wanted:
            found[key] = ServiceState(id=key, desired=service.replicas, actual=0, rollout=Rollout.IN_PROGRESS)
        if key in found and key not in rows:
            rows[key] = Service(deployment=deployment, key=key, name=service.name, position=place)
    for key, state in found.items():
        row = rows.get(key) or Service(deployment=deployment, key=key, name=key, position=len(asked))
        desired = 0
        if deployment.wanted and key in asked:
            desired = asked[key][1].replicas
        _store_service(row, state, desired)


def _store_service(row: Service, state: ServiceState, desired: int) -> None:
    values: dict[str, Any] = {
        "desired": desired,
        "actual": state.actual,
        "updated": state.updated,
        "total": state.total,
        "rollout": str(state.rollout),
        "reason": str(state.reason),
        "message": state.message,
    }
    if row.pk is None or any(getattr(row, name) != value for name, value in values.items()):
        for name, value in values.items():
            setattr(row, name, value)
        row.save()
    _store_replicas(row, {replica.name: replica for replica in state.replicas})


def _store_replicas(service: Service, found: dict[str, ReplicaState]) -> None:
    rows = {row.name: row for row in service.replicas.all()}
    gone = [row.pk for name, row in rows.items() if name not in found]
    if gone:
        Replica.objects.filter(pk__in=gone).delete()
    new = []
    for name, state in found.items():
        values = {
            "state": state.state[:127],
            "message": state.message,
            "ready": state.ready,
            "available": state.available,
            "at_latest": state.at_latest,
            "restarts": state.restarts,
            "address": state.address,
            "created_at": state.created_at,
            "started_at": state.started_at,
        }
        row = rows.get(name)
        if row is None:
            new.append(Replica(service=service, name=name, **values))
        elif any(getattr(row, field) != value for field, value in values.items()):
            Replica.objects.filter(pk=row.pk).update(**values)
    Replica.objects.bulk_create(new)


# -- what follows from it -----------------------------------------------------------------------------


def _move_on(deployment: Deployment, plan: Plan, seen: Observation) -> None:
    if not deployment.wanted:
        _move_on_unpublishing(deployment, seen)
        return
    services = list(deployment.services.all())
    asked = {service.id for service in plan.services}
    rollouts = {service.rollout for service in services if service.key in asked}
    settled = seen.digest == plan.digest() or not plan.services
    if deployment.status == DeploymentStatus.PUBLISHED:
        return
    # A scaled service stays Complete while its new replicas come up; those are waited for too.
    there = all(service.actual >= service.desired for service in services if service.key in asked)
    if settled and there and rollouts <= {Rollout.COMPLETE}:
        now = timezone.now()
        deployment.move_to(DeploymentStatus.PUBLISHED, rolled_out_at=now)
        finish_background_task(
            deployment.background_task_id,
            status=BackgroundTaskStatus.DONE,
            message=f"{deployment.workflow.name} is published.",
            result={"revision": deployment.revision.number, "actualStatus": deployment.present_colour()},
        )
    else:
        _follow_publishing(deployment, services, settled)


def _follow_publishing(deployment: Deployment, services: list[Service], settled: bool) -> None:
    """Report progress, or that there is none any more; of what has failed already, why it still has."""
    failed = [service for service in services if service.rollout == Rollout.FAILED]
    limit = timedelta(seconds=deployment.deadline_seconds) + SPARE
    if settled and failed:
        reason = " ".join(_why(service) for service in failed)
    elif timezone.now() > deployment.progress_at + limit:
        # The runtime itself may never say so: replicas that come up and crash are progress to Kubernetes.
        late = [service for service in services if service.actual < service.desired]
        words = " ".join(_why(service) for service in late)
        reason = deployment.error = f"No progress for {limit.total_seconds():g} s. {words}".strip()
    elif deployment.status == DeploymentStatus.PUBLISHING:
        current = sum(min(service.updated, service.actual, service.desired) for service in services)
        waiting = [_why(service) for service in services if service.rollout != Rollout.COMPLETE]
        report_progress(
            deployment.background_task_id,
            current=current,
            total=sum(service.desired for service in services),
            message=" ".join(waiting)[:1000],
        )
        return
    else:
        return
    if deployment.status == DeploymentStatus.PUBLISHING:
        deployment.move_to(DeploymentStatus.FAILED, error=deployment.error)
        finish_background_task(
            deployment.background_task_id, status=BackgroundTaskStatus.FAILED, message=reason[:1000]
        )


def _why(service: Service) -> str:
    """How a service stands, in the runtime's own words where it has some."""
    words = service.message
    if not words:
        troubled = [row for row in service.replicas.all() if not row.available and row.at_latest]
        words = next((f"{row.state}: {row.message}" for row in troubled if row.message), "")
        words = words or next((row.state for row in troubled), "")
    return f"{service.name}: {service.actual} of {service.desired} active{f' ({words})' if words else ''}."


def _move_on_unpublishing(deployment: Deployment, seen: Observation) -> None:
    if deployment.status == DeploymentStatus.UNPUBLISHED:
        return
    if not seen.services and not seen.leftovers:
        deployment.error = ""
        deployment.move_to(DeploymentStatus.UNPUBLISHED, error="")
        finish_background_task(
            deployment.background_task_id,
            status=BackgroundTaskStatus.DONE,
            message=f"{deployment.workflow.name} is unpublished.",
        )
        return
    left = sum(max(service.total, len(service.replicas)) for service in seen.services)
    late = timezone.now() > deployment.progress_at + timedelta(seconds=deployment.deadline_seconds) + SPARE
    if deployment.status == DeploymentStatus.UNPUBLISHING and late:
        _give_up(deployment, "What runs does not end.")
    elif deployment.status == DeploymentStatus.UNPUBLISHING and deployment.background_task:
        total = max(deployment.background_task.total_progress, left)
        report_progress(
            deployment.background_task_id,
            current=total - left,
            total=total,
            message=f"{left} instances are still ending.",
        )


def _summary(deployment: Deployment) -> dict[str, Any]:
    """What is told of each service when it changes."""
    return {
        service.key: {
            "id": service.key,
            "name": service.name,
            "desired": service.desired,
            "actual": service.actual,
            "status": service.colour,
            "rolloutStatus": service.rollout,
            "rolloutStatusReason": service.reason,
            "message": service.message,
            "replicas": {
                replica.name: {
                    "status": replica.state,
                    "ready": replica.ready,
                    "statusMessage": replica.message,
                }
                for replica in service.replicas.all()
            },
        }
        for service in Service.objects.filter(deployment=deployment).prefetch_related("replicas")
    }


def _tell_changes(deployment: Deployment, before: dict[str, Any], after: dict[str, Any]) -> None:
    """One event for each service that changed, one for the colour of the whole."""
    _tell_services(deployment, before, after)
    tell_colour(deployment)


def _tell_services(deployment: Deployment, before: dict[str, Any], after: dict[str, Any]) -> None:
    for key, service in after.items():
        if before.get(key) != service:
            record_event(**deployment.event("service_changed", service=service))
    for key in before.keys() - after.keys():
        record_event(**deployment.event("service_removed", service={"id": key}))


def tell_colour(deployment: Deployment) -> None:
    """Tell when the colour of the whole is another than was last told; saving it is the caller's."""
    colour = deployment.present_colour()
    if colour != deployment.colour:
        record_event(**deployment.event("workflow_colour", actualStatus=colour, previous=deployment.colour))
        deployment.colour = colour
