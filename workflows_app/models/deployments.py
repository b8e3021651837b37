"""What runs of a workflow: its deployment, the services and replicas last seen, and who takes requests."""

from __future__ import annotations

import secrets as random
import uuid
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone

from events_app.models import BackgroundTask, Lifecycle, LifecycleQuerySet
from workflows_app.drivers.base import Plan, Rollout
from workflows_app.models.workflows import Revision, Runtime, Workflow
from workflows_app.spec import service_id, service_plan
from workflows_app.states import (
    DEPLOYMENT_MOVES,
    WANTED_PUBLISHED,
    Colour,
    Count,
    DeploymentStatus,
    DesiredStatus,
    PublishingMode,
    component_colour,
    is_usable,
    workflow_colour,
)

STREAM_ID = "gateway"


def new_token() -> str:
    """The part of a stream's URL that nobody guesses."""
    return random.token_urlsafe(18)


class GatewayQuerySet(models.QuerySet["Gateway"]):
    """Questions about the processes that take requests."""

    def at_work(self, now: datetime | None = None) -> GatewayQuerySet:
        """Those seen lately, newest first."""
        since = (now or timezone.now()) - timedelta(seconds=settings.MUSTER_GATEWAY_SEEN_SECONDS)
        return self.filter(seen_at__gte=since).order_by("-seen_at")


class Gateway(models.Model):
    """One gateway process: the data stream through which requests reach the services of SYNC workflows."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    url = models.CharField(max_length=255)  # where the web process reaches it
    host = models.CharField(max_length=255, blank=True)
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)

    objects = GatewayQuerySet.as_manager()

    def __str__(self) -> str:
        return f"gateway {self.url}"


def stream_count() -> Count:
    """Gateways asked for and at work; the `stream` of every SYNC workflow."""
    return Count(settings.MUSTER_GATEWAYS, Gateway.objects.at_work().count())


class DeploymentQuerySet(LifecycleQuerySet):
    """The rows of work of `steps.reconcile`."""

    def due(self, now: datetime) -> DeploymentQuerySet:
        """What is to be looked at now and by nobody else."""
        free = models.Q(claimed_until=None) | models.Q(claimed_until__lt=now)
        return self.filter(free, due_at__lte=now)


class Deployment(Lifecycle):
    """The publication of a workflow: one row from the first time it is published on.

    `due_at` says when reality is to be compared with what is desired; a claim (number and end) keeps two
    processes from doing so at once, and what an old claim holder writes is refused.
    """

    TRANSITIONS = DEPLOYMENT_MOVES

    workflow = models.OneToOneField(
        Workflow, on_delete=models.CASCADE, primary_key=True, related_name="deployment"
    )
    ref = models.UUIDField(unique=True, default=uuid.uuid4)  # its name on the runtime
    token = models.CharField(max_length=48, unique=True, default=new_token)
    status = models.CharField(max_length=16, choices=DeploymentStatus, default=DeploymentStatus.UNPUBLISHED)
    colour = models.CharField(max_length=8, choices=Colour, default=Colour.GREEN)  # as last told
    revision = models.ForeignKey(Revision, on_delete=models.PROTECT, related_name="+")
    runtime = models.ForeignKey(Runtime, on_delete=models.PROTECT, related_name="deployments")
    replicas = models.JSONField(default=dict)  # service name -> how many, where scaled since the publication
    restarts = models.IntegerField(default=0)  # how often it was asked to replace all replicas
    generation = models.IntegerField(default=0)  # grows with each change that was asked for
    error = models.TextField(blank=True)  # why publishing or removing failed by itself
    fault = models.TextField(blank=True)  # why the runtime could not be asked, just now
    background_task = models.ForeignKey(
        BackgroundTask, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    changed_at = models.DateTimeField(default=timezone.now)  # when a person last asked for something
    progress_at = models.DateTimeField(default=timezone.now)  # when it last came further than before
    reached = models.IntegerField(default=0)  # how far that was
    rolled_out_at = models.DateTimeField(null=True, blank=True)
    observed_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(null=True, blank=True, default=timezone.now)
    claim = models.BigIntegerField(default=0)
    claimed_until = models.DateTimeField(null=True, blank=True)
    attempts = models.IntegerField(default=0)  # failed tries of the present action

    objects = DeploymentQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["due_at"], name="deployment_due", condition=models.Q(due_at__isnull=False))
        ]

    def __str__(self) -> str:
        return f"workflow {self.workflow_id}"

    # -- what is desired ------------------------------------------------------------------------------

    @property
    def wanted(self) -> bool:
        """Whether it is to be published."""
        return self.status in WANTED_PUBLISHED

    @property
    def desired_status(self) -> str:
        """PUBLISHED or UNPUBLISHED (seed 003)."""
        return DesiredStatus.PUBLISHED if self.wanted else DesiredStatus.UNPUBLISHED

    @property
    def mode(self) -> str:
        """SYNC or ASYNC, of the last publication."""
        return self.revision.body["mode"]

    def service_specs(self) -> list[dict[str, Any]]:
        """The services of the published revision, with the replicas they were scaled to since."""
        return [
            {**spec, "replicas": self.replicas.get(spec["name"], spec.get("replicas", 1))}
            for spec in self.revision.body["services"]
        ]

    def entry_service(self) -> str:
        """Name of the service that takes requests; "" where none can."""
        body = self.revision.body
        if body.get("entry"):
            return body["entry"]
        return next((spec["name"] for spec in body["services"] if spec.get("port")), "")

    @property
    def deadline_seconds(self) -> float:
        """How long a rollout may make no progress: the longest of its services."""
        return max((spec.get("progress_deadline_seconds", 600) for spec in self.service_specs()), default=600)

    def plan(self, stream_url: str) -> Plan:
        """What the runtime is to be brought to. `stream_url`: where services reach each other."""
        environment = {
            "MUSTER_WORKFLOW": self.workflow_id,
            **self._peers(stream_url),
        }
        return Plan(
            ref=str(self.ref),
            workflow=self.workflow_id,
            generation=self.generation,
            services=tuple(
                service_plan(self.workflow_id, spec, environment, self.restarts)
                for spec in self.service_specs()
            ),
        )

    def _peers(self, stream_url: str) -> dict[str, str]:
        """Where services reach each other, by name: through the gateway, which knows who is ready."""
        base = f"{stream_url}/stream/{self.token}"
        return {
            f"MUSTER_SERVICE_{spec['name'].upper().replace('-', '_')}": f"{base}/{spec['name']}"
            for spec in self.service_specs()
            if spec.get("port")
        }

    # -- how it is ------------------------------------------------------------------------------------

    def counts(self) -> list[Count]:
        """Desired and actual of each service last seen."""
        return [service.count() for service in self.services.all()]

    def present_colour(self, stream: Count | None = None) -> str:
        """The colour that follows from what was last seen (contracts, workflows 12.4)."""
        if self.mode == PublishingMode.SYNC and stream is None:
            stream = stream_count()
        counts = self.counts()
        if self.wanted and not counts:
            # Nothing was seen yet: what is asked for counts as missing, not as unasked.
            counts = [Count(spec["replicas"], 0) for spec in self.service_specs()]
        return workflow_colour(
            wanted=self.wanted, mode=self.mode, services=counts, stream=stream, error=bool(self.error)
        )

    def usable(self, colour: str) -> bool:
        """Whether requests are taken at this colour."""
        return is_usable(wanted=self.wanted, mode=self.mode, colour=colour)

    # -- what is told ---------------------------------------------------------------------------------

    def event(self, name: str, **data: Any) -> dict[str, Any]:
        """Keywords of `record_event` for this workflow."""
        domain = self.workflow.domain
        return {
            "name": name,
            "area": "workflow",
            "subject_id": self.workflow_id,
            "subject_name": self.workflow.name,
            "data": {"workflowId": self.workflow_id, **data},
            "domain": domain.name if domain else "",
            "user_id": self.workflow.owner_id,
        }

    def describe_move(self, old: str, new: str) -> dict[str, Any] | None:
        """workflow_publishing, workflow_published, workflow_failed..., with the colour and why."""
        return self.event(
            f"workflow_{new}",
            status=new,
            revision=self.revision.number,
            actualStatus=self.present_colour(),
            reason=self.error,
        )


class Service(models.Model):
    """One service as last seen."""

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="services")
    key = models.CharField(max_length=63)  # its id in the status document and on the runtime
    name = models.CharField(max_length=40)
    position = models.IntegerField(default=0)
    desired = models.IntegerField(default=0)
    actual = models.IntegerField(default=0)
    updated = models.IntegerField(default=0)
    total = models.IntegerField(default=0)
    rollout = models.CharField(max_length=16, default=Rollout.IN_PROGRESS)
    reason = models.CharField(max_length=64, blank=True)
    message = models.TextField(blank=True)  # the runtime's words about the reason

    class Meta:
        constraints = [models.UniqueConstraint(fields=["deployment", "key"], name="service_in_deployment")]
        ordering = ["position", "key"]

    def __str__(self) -> str:
        return self.key

    def count(self) -> Count:
        """Its part in the workflow's colour."""
        return Count(self.desired, self.actual, self.rollout == Rollout.FAILED)

    @property
    def colour(self) -> str:
        """GREEN, YELLOW or RED (contracts, workflows 12.3)."""
        return component_colour(self.desired, self.actual)

    @staticmethod
    def key_for(workflow_id: str, name: str) -> str:
        """The id of a service by its name."""
        return service_id(workflow_id, name)


class Replica(models.Model):
    """One replica as last seen. `state` is the runtime's own word, shown and never interpreted."""

    service = models.ForeignKey(Service, on_delete=models.CASCADE, related_name="replicas")
    name = models.CharField(max_length=253)
    state = models.CharField(max_length=127)
    message = models.TextField(blank=True)
    ready = models.BooleanField(default=False)
    available = models.BooleanField(default=False)
    at_latest = models.BooleanField(default=True)
    restarts = models.IntegerField(default=0)
    address = models.CharField(max_length=255, blank=True)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["service", "name"], name="replica_in_service")]
        ordering = ["created_at", "name"]

    def __str__(self) -> str:
        return self.name
