"""Words of a workflow's deployment, its services and replicas; which colour follows from which counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from django.db.models import TextChoices


class PublishingMode(TextChoices):
    """How requests reach a workflow (seed 003)."""

    SYNC = "SYNC", "synchronous"  # proxied at once, so somebody must be there
    ASYNC = "ASYNC", "asynchronous"  # queued until the workflow is usable


class DesiredStatus(TextChoices):
    """The target of a workflow, in the documented words."""

    PUBLISHED = "PUBLISHED", "published"
    UNPUBLISHED = "UNPUBLISHED", "unpublished"


class Colour(TextChoices):
    """How far reality agrees with what is desired (seed 003)."""

    GREEN = "GREEN", "all instances active"
    YELLOW = "YELLOW", "some instances active"
    ORANGE = "ORANGE", "a service has no instance"
    RED = "RED", "nothing active, or in error"


# Glyph and token of each colour, for HTML, admin and docs alike: colour is never alone.
COLOUR_LOOKS: dict[str, tuple[str, str]] = {
    Colour.GREEN: ("●", "green"),
    Colour.YELLOW: ("◐", "yellow"),
    Colour.ORANGE: ("▲", "amber"),
    Colour.RED: ("✕", "red"),
}

USABLE = frozenset({Colour.GREEN, Colour.YELLOW})


class DeploymentStatus(TextChoices):
    """Where the publication of a workflow stands. Words in -ing are at work."""

    PUBLISHING = "publishing", "publishing"  # the runtime is being brought to the newest revision
    PUBLISHED = "published", "published"  # it was rolled out; how it is now, the colour says
    FAILED = "failed", "failed"  # the runtime refused it, or it made no progress in time
    UNPUBLISHING = "unpublishing", "unpublishing"  # what runs is being removed
    UNPUBLISHED = "unpublished", "unpublished"  # nothing is left running
    STUCK = "stuck", "could not be unpublished"  # the runtime refuses to remove it


DEPLOYMENT_LOOKS: dict[str, tuple[str, str]] = {
    DeploymentStatus.PUBLISHING: ("◐", "blue"),
    DeploymentStatus.PUBLISHED: ("●", "green"),
    DeploymentStatus.FAILED: ("✕", "red"),
    DeploymentStatus.UNPUBLISHING: ("◐", "blue"),
    DeploymentStatus.UNPUBLISHED: ("○", "slate"),
    DeploymentStatus.STUCK: ("✕", "red"),
}

WANTED_PUBLISHED = frozenset(
    {DeploymentStatus.PUBLISHING, DeploymentStatus.PUBLISHED, DeploymentStatus.FAILED}
)

DEPLOYMENT_MOVES: dict[str, frozenset[str]] = {
    DeploymentStatus.UNPUBLISHED: frozenset({DeploymentStatus.PUBLISHING}),
    DeploymentStatus.PUBLISHING: frozenset(
        {DeploymentStatus.PUBLISHED, DeploymentStatus.FAILED, DeploymentStatus.UNPUBLISHING}
    ),
    # A new revision, a new scale, a rollback: all of them roll out.
    DeploymentStatus.PUBLISHED: frozenset({DeploymentStatus.PUBLISHING, DeploymentStatus.UNPUBLISHING}),
    # Runtimes go on trying after the deadline, so a failed rollout may still come to its end.
    DeploymentStatus.FAILED: frozenset(
        {DeploymentStatus.PUBLISHING, DeploymentStatus.PUBLISHED, DeploymentStatus.UNPUBLISHING}
    ),
    DeploymentStatus.UNPUBLISHING: frozenset(
        {DeploymentStatus.UNPUBLISHED, DeploymentStatus.STUCK, DeploymentStatus.PUBLISHING}
    ),
    DeploymentStatus.STUCK: frozenset(
        {DeploymentStatus.UNPUBLISHING, DeploymentStatus.UNPUBLISHED, DeploymentStatus.PUBLISHING}
    ),
}


class RunStatus(TextChoices):
    """One queued analysis of an asynchronous workflow."""

    QUEUED = "queued", "queued"  # kept until the workflow is usable
    SUCCEEDED = "succeeded", "succeeded"  # the workflow took it and answered 2xx
    FAILED = "failed", "failed"  # the workflow took it and refused it
    TIMED_OUT = "timed_out", "timed out"  # the workflow was not usable in time
    CANCELLED = "cancelled", "cancelled"


RUN_MOVES: dict[str, frozenset[str]] = {
    RunStatus.QUEUED: frozenset(
        {RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.TIMED_OUT, RunStatus.CANCELLED}
    ),
}

RUN_LOOKS: dict[str, tuple[str, str]] = {
    RunStatus.QUEUED: ("◐", "blue"),
    RunStatus.SUCCEEDED: ("●", "green"),
    RunStatus.FAILED: ("✕", "red"),
    RunStatus.TIMED_OUT: ("✕", "red"),
    RunStatus.CANCELLED: ("–", "grey"),
}


class Count(NamedTuple):
    """One component of a workflow: how many instances are asked for, how many are active, how it went."""

    desired: int
    actual: int
    failed: bool = False  # its rollout has failed


def component_colour(desired: int, actual: int) -> str:
    """GREEN, YELLOW or RED of a service or stream (contracts, workflows 12.3)."""
    if desired <= 0 or actual >= desired:
        return Colour.GREEN
    return Colour.YELLOW if actual > 0 else Colour.RED


def workflow_colour(
    *,
    wanted: bool,
    mode: str,
    services: Iterable[Count],
    stream: Count | None,
    error: bool = False,
) -> str:
    """The workflow's colour, first row that holds (contracts, workflows 12.4, rows 2 to 9).

    `wanted`: it is to be published. `error`: publishing, or else removing, failed by itself. `stream` is
    None for ASYNC, whose part that takes requests is the queue and always counts as active.
    """
    parts = list(services)
    if not wanted:
        if error:
            return Colour.RED
        return Colour.YELLOW if parts else Colour.GREEN
    if mode == PublishingMode.SYNC and stream is not None:
        parts.append(stream)
    missing = [part for part in parts if part.desired > 0 and part.actual <= 0]
    # A refused update whose old instances all still serve is judged by counts, like a failed rollout.
    if (error and (missing or not parts)) or any(part.failed for part in missing):
        return Colour.RED
    if all(component_colour(part.desired, part.actual) == Colour.GREEN for part in parts):
        return Colour.GREEN
    if not missing:
        return Colour.YELLOW
    intake = mode == PublishingMode.ASYNC
    if intake or any(part.actual > 0 for part in parts):
        return Colour.ORANGE
    return Colour.RED


def is_usable(*, wanted: bool, mode: str, colour: str) -> bool:
    """SYNC needs somebody to answer; ASYNC queues as long as it is published (contracts, workflows 12.4)."""
    return wanted and (mode == PublishingMode.ASYNC or colour in USABLE)
