"""What pages ask about workflows: read only, a fixed number of queries each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Count as CountOf
from django.db.models import Q, QuerySet

from workflows_app.drivers.base import Rollout
from workflows_app.models import Deployment, Service, Workflow
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


def workflows_of(user: Any) -> QuerySet[Workflow]:
    """With what rows and pages need, by a fixed number of queries."""
    rows = Workflow.objects.visible_to(user).select_related(
        "runtime", "domain", "owner", "deployment__revision", "deployment__runtime"
    )
    return (
        rows.prefetch_related("deployment__services")
        .annotate(queued=CountOf("runs", filter=Q(runs__status=RunStatus.QUEUED)))
        .order_by("name", "pk")
    )


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
    """With their present colours; the gateways are asked about once."""
    stream: Count | None = None
    rows = []
    for workflow in workflows:
        deployment: Deployment | None = getattr(workflow, "deployment", None)
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
    for row in workflow_rows(list(workflows_of(user).filter(deployment__isnull=False)[:500])):
        if row.deployment is None:
            continue
        stuck = row.deployment.status == DeploymentStatus.STUCK
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


def counts(user: Any) -> dict[str, int]:
    """Published workflows by colour, and those that are not published."""
    found = dict.fromkeys(Colour.values, 0) | {"total": 0, "unpublished": 0, "ill": 0}
    for row in workflow_rows(list(workflows_of(user)[:1000])):
        found["total"] += 1
        found[row.colour if row.wanted else "unpublished"] += 1
        found["ill"] += row.wanted and row.colour != Colour.GREEN
    return found
