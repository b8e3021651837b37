"""What pages ask about workflows: read only, a fixed number of queries each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Count as CountOf
from django.db.models import IntegerField, OuterRef, Prefetch, QuerySet, Subquery
from django.db.models.functions import Coalesce

from workflows_app.drivers.base import Rollout
from workflows_app.models import Deployment, Run, Service, Workflow
from workflows_app.models.deployments import stream_count
from workflows_app.states import (
    COLOUR_LOOKS,
    DEPLOYMENT_LOOKS,
    Colour,
    Count,
    DeploymentStatus,
    PublishingMode,
    RunStatus,
)

NEVER = ("○", "slate")
MOST_DEPLOYED = 1000  # whose colours are counted


def workflows_of(user: Any) -> QuerySet[Workflow]:
    """With what rows and pages need, by a fixed number of queries.

    Several small ones: one that joins all of it, grouped, takes PostgreSQL longer to plan than to answer.
    """
    queued = (
        Run.objects.filter(workflow=OuterRef("pk"), status=RunStatus.QUEUED).order_by().values("workflow")
    )
    number = Subquery(queued.annotate(count=CountOf("pk")).values("count"), output_field=IntegerField())
    deployments = Deployment.objects.select_related("revision", "runtime").prefetch_related("services")
    return (
        Workflow.objects.visible_to(user)
        .select_related("runtime", "domain", "owner")
        .prefetch_related(Prefetch("deployment", deployments))
        .annotate(queued=Coalesce(number, 0))
        .order_by("name", "pk")
    )


def _deployed(user: Any) -> list[WorkflowRow]:
    """Those that were published, with no more than colours need: every page's frame asks for these."""
    deployments = (
        Deployment.objects.filter(workflow__in=Workflow.objects.visible_to(user))
        .select_related("workflow", "revision")
        .prefetch_related("services")
        .order_by("workflow__name")
    )
    return _rows((deployment.workflow, deployment) for deployment in deployments[:MOST_DEPLOYED])


@dataclass
class ServiceRow:
    """A service as the tree shows it."""

    service: Service

    @property
    def look(self) -> tuple[str, str]:
        """Of its colour; failed where its rollout did."""
        if self.service.rollout == Rollout.FAILED:
            return COLOUR_LOOKS[Colour.RED]
        return COLOUR_LOOKS[self.service.colour]

    @property
    def says(self) -> str:
        """The rollout in the runtime's words."""
        parts = [self.service.reason, self.service.message]
        return ": ".join(part for part in parts if part)


@dataclass
class WorkflowRow:
    """A workflow as lists show it."""

    workflow: Workflow
    deployment: Deployment | None
    colour: str

    @property
    def wanted(self) -> bool:
        """Whether it is to be published."""
        return self.deployment is not None and self.deployment.wanted

    @property
    def look(self) -> tuple[str, str]:
        """Of the colour where it is wanted, else of where its publication stands."""
        if self.deployment is None:
            return NEVER
        if self.wanted:
            return COLOUR_LOOKS[self.colour]
        return DEPLOYMENT_LOOKS[self.deployment.status]

    @property
    def word(self) -> str:
        """The documented word of its colour, or where its publication stands."""
        if self.deployment is None:
            return "never published"
        return self.colour if self.wanted else DeploymentStatus(self.deployment.status).label

    @property
    def meaning(self) -> str:
        """Why it has this colour, in words."""
        if self.deployment is None:
            return "Nothing of it runs."
        if self.deployment.error or self.deployment.fault:
            return self.deployment.error or self.deployment.fault
        return Colour(self.colour).label.capitalize() + "." if self.wanted else ""

    @property
    def services(self) -> list[ServiceRow]:
        """In their order."""
        return [ServiceRow(service) for service in self.deployment.services.all()] if self.deployment else []

    @property
    def instances(self) -> tuple[int, int]:
        """(active, desired) over all services."""
        rows = [row.service for row in self.services]
        return sum(service.actual for service in rows), sum(service.desired for service in rows)


def workflow_rows(workflows: list[Workflow]) -> list[WorkflowRow]:
    """With their present colours."""
    return _rows((workflow, getattr(workflow, "deployment", None)) for workflow in workflows)


def _rows(workflows: Iterable[tuple[Workflow, Deployment | None]]) -> list[WorkflowRow]:
    """The gateways are asked about once."""
    stream: Count | None = None
    rows = []
    for workflow, deployment in workflows:
        colour = ""
        if deployment is not None:
            if stream is None and deployment.mode == PublishingMode.SYNC:
                stream = stream_count()
            deployment.workflow = workflow
            colour = deployment.present_colour(stream)
        rows.append(WorkflowRow(workflow, deployment, colour))
    return rows


@dataclass
class Attention:
    """One line of the attention list."""

    look: tuple[str, str]
    what: str
    names: str
    url: str
    verb: str = "Open"
    mono: bool = False  # `names` are names of nodes


def attention(user: Any) -> list[Attention]:
    """Published workflows that are not GREEN, and those that can't be unpublished."""
    found = []
    for row in _deployed(user):
        stuck = row.deployment is not None and row.deployment.status == DeploymentStatus.STUCK
        if not stuck and (not row.wanted or row.colour == Colour.GREEN):
            continue
        word = "can't be unpublished" if stuck else f"is {row.colour}"
        what = f"Workflow {row.workflow.name} {word}"
        found.append(Attention(row.look, what, row.meaning, f"/workflows/{row.workflow.pk}/"))
    order = {
        look: place
        for place, look in enumerate(COLOUR_LOOKS[colour] for colour in ("RED", "ORANGE", "YELLOW"))
    }
    return sorted(found, key=lambda line: order.get(line.look, 9))


def needing_attention(user: Any) -> int:
    """How many are published and not GREEN."""
    return sum(row.wanted and row.colour != Colour.GREEN for row in _deployed(user))


def counts(user: Any) -> dict[str, int]:
    """Published workflows by colour, and those that are not published."""
    total = Workflow.objects.visible_to(user).count()
    found = dict.fromkeys(Colour.values, 0) | {"total": total, "unpublished": total, "ill": 0}
    for row in _deployed(user):
        if row.wanted:
            found["unpublished"] -= 1
            found[row.colour] += 1
            found["ill"] += row.colour != Colour.GREEN
    return found
