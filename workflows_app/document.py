"""The documented status of a workflow (seed 003; contracts, workflows 12.2)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from workflows_app.durations import go_duration
from workflows_app.models import Deployment, Replica, Service
from workflows_app.models.deployments import STREAM_ID, stream_count
from workflows_app.states import Count, PublishingMode, component_colour


def status_document(deployment: Deployment, now: datetime | None = None) -> dict[str, Any]:
    """The JSON object of a workflow that has been published at least once."""
    now = now or timezone.now()
    stream = stream_count() if deployment.mode == PublishingMode.SYNC else None
    return {
        "desiredStatus": deployment.desired_status,
        "actualStatus": deployment.present_colour(stream),
        "publishingMode": deployment.mode,
        "details": _details(deployment, stream, now),
    }


def _details(deployment: Deployment, stream: Count | None, now: datetime) -> dict[str, Any]:
    services = [_service(service, now) for service in deployment.services.prefetch_related("replicas").all()]
    if not deployment.wanted:
        return {"services": services} if services else {}
    details: dict[str, Any] = {}
    if stream is not None:
        details["stream"] = {
            "id": STREAM_ID,
            "desired": stream.desired,
            "actual": stream.actual,
            "status": component_colour(stream.desired, stream.actual),
        }
    details["services"] = services
    return details


def _service(service: Service, now: datetime) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": service.key,
        "desired": service.desired,
        "actual": service.actual,
        "status": service.colour,
        "rolloutStatus": service.rollout,
    }
    if service.reason:
        document["rolloutStatusReason"] = service.reason
    document["replicasDetail"] = [_replica(replica, now) for replica in service.replicas.all()]
    return document


def _replica(replica: Replica, now: datetime) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": replica.name,
        "ready": replica.ready,
        "available": replica.available,
    }
    if replica.started_at is not None:
        document["startedAt"] = f"{replica.started_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    document["age"] = go_duration(now - replica.created_at)
    document["status"] = replica.state
    if replica.message:
        document["statusMessage"] = replica.message
    document["atLatestSpec"] = replica.at_latest
    return document
