"""Alive, ready, metrics: for load balancers, supervisors and Prometheus."""

from __future__ import annotations

import logging

import redis
from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from events_app import services

log = logging.getLogger(__name__)

SEEN_WITHIN = 15.0  # seconds; beat and worker note themselves every 2 s


@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """200 while this process answers at all; asks nobody else."""
    return JsonResponse({"status": "alive"})


@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """200 when database and broker answer and workers and the beat were seen lately, else 503 with which."""
    parts = {"database": _database_answers(), "broker": _broker_answers()}
    for name in ("worker", "runner", "beat"):
        parts[name] = parts["database"] and services.seen_within(name, SEEN_WITHIN)
    ready = all(parts.values())
    body = {"status": "ready" if ready else "not ready", "parts": parts}
    return JsonResponse(body, status=200 if ready else 503)


def _database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        log.warning("The database does not answer: %s", error)
        return False
    return True


def _broker_answers() -> bool:
    try:
        return bool(services.bell().ping())
    except redis.RedisError as error:
        log.warning("Redis does not answer: %s", error)
        return False
