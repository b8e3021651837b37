"""Who did what: one row for each request that would change something, refused ones too.

The row is written after the answer is known, by itself, by one middleware for all
doors: API, pages, admin. Nobody can change or delete a row: neither through the ORM nor past it, for
triggers in the database refuse (migration 0002).
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from django.conf import settings
from django.db import DatabaseError, DataError, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import ResolverMatch

from accounts_app.models import AuditEntry, AuditPending, Grant

log = logging.getLogger(__name__)

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
HEADER = "X-Request-ID"


class AuditMiddleware:
    """Gives every request an id, and writes the row."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """The answer, with its request's id in X-Request-ID."""
        identity = request_id(request)
        request.audit_id = identity  # type: ignore[attr-defined]
        response = self.get_response(request)
        response[HEADER] = identity
        if request.method not in SAFE:
            record_request(request, response.status_code)
        return response


def request_id(request: HttpRequest) -> str:
    """The caller's own id where it is a UUID (so that his log and ours meet), else a new one."""
    try:
        return str(uuid.UUID(request.headers.get(HEADER, "")))
    except ValueError:
        return str(uuid.uuid4())


def record_request(request: HttpRequest, status: int) -> None:
    """Write the row. A database that is away at this moment costs the row, not the answer."""
    user, key = actor_of(request)
    match = request.resolver_match
    try:
        # One row alone needs no transaction, which would keep SQLite's write lock for longer.
        with transaction.atomic() if settings.MUSTER_AUDIT_WEBHOOK else nullcontext():
            entry = AuditEntry.objects.create(
                request_id=request.audit_id,  # type: ignore[attr-defined]
                username=user,
                access_key=key,
                address=request.META.get("REMOTE_ADDR") or "",
                door=door_of(request.path),
                method=(request.method or "")[:16],
                path=_storable(request.path)[:512],
                view=(match.view_name or match._func_path)[:200] if isinstance(match, ResolverMatch) else "",
                target=_storable(target_of(match)),
                status=status,
            )
            if settings.MUSTER_AUDIT_WEBHOOK:
                AuditPending.objects.create(entry=entry)
    except DatabaseError:
        log.exception("An audit row could not be written: %s %s by %s", request.method, request.path, user)


def _storable(text: str) -> str:
    """PostgreSQL takes no NUL, and a request that has one in its path is the last that may go unseen."""
    return text.replace("\x00", "%00")


def actor_of(request: HttpRequest) -> tuple[str, str]:
    """User name and access key of whoever asked, as the door recognised him; empty where it did not."""
    # DRF's request knows better than Django's: keys are recognised there (accounts_app.authentication).
    key = getattr(request, "recognised_key", None)
    if isinstance(key, Grant):
        return key.user.username, key.access_key
    named = getattr(request, "recognised_as", "")
    if named:
        return named, ""
    user = getattr(request, "user", None)
    try:
        return (user.get_username() if user is not None and user.is_authenticated else ""), ""
    except DataError:
        return "", ""  # a cookie that no database can look for: who sent it is nobody


DOORS = (
    ("/apis/bos/", "bos"),
    ("/v2/", "bos"),
    ("/v1/session", "bos"),
    ("/v1/", "cts"),
    ("/api/", "api"),
    ("/admin/", "admin"),
    ("/events/", "events"),
    ("/func/", "events"),
    ("/server/", "events"),
    ("/keycloak/", "api"),
)


def door_of(path: str) -> str:
    """Through which door a request came."""
    for start, door in DOORS:
        if path.startswith(start):
            return door
    return "page"


def target_of(match: Any) -> str:
    """What the path names: its captured parts, `name=x1000c0s0b0n0`."""
    if match is None:
        return ""
    return ", ".join(f"{name}={value}" for name, value in match.kwargs.items())[:255]
