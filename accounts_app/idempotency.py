"""`Idempotency-Key` on a POST that starts something: the same key has the same answer, and starts it once.

The row of a key is written first, mostly in the transaction in which the thing is started: who comes second
with the same key waits for it at the unique constraint and gets the stored answer. What was refused is not
stored, so that it can be mended and sent again with the same key. Kept for a day.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from accounts_app import secrets
from accounts_app.models import IdempotentAnswer, User
from accounts_app.problems import problem

HEADER = "Idempotency-Key"
LONGEST = 255
LONGEST_ANSWER = 1024 * 1024  # bytes of an answer that was passed on; of a longer one only the claim is kept
Method = Callable[..., Any]
Claim = Callable[[], IdempotentAnswer]


class _Refused(Exception):
    """Undoes the row of a request that did not start anything."""

    def __init__(self, response: Any) -> None:
        super().__init__()
        self.response = response


def idempotent(method: Method) -> Method:
    """For a view's method that starts something; without the header it is called as it is.

    400 for a key that is empty, too long or not printable ASCII, 422 for one that came with another request.
    """

    def first(view: Any, request: Request, claim: Claim, call: Callable[[], Any]) -> Any:
        try:
            with transaction.atomic():
                row = claim()
                response = call()
                if response.status_code >= 300:
                    raise _Refused(response)
                _store(row, view, request, response)
                return response
        except _Refused as refused:
            return refused.response

    return _guarded(method, first)


def idempotent_apart(method: Method) -> Method:
    """As `idempotent`, for what waits for others and so can't be one transaction.

    The claim is a transaction of its own; who comes second meanwhile is told so by 409, and so is who comes
    after a process that died in between: what was begun is never begun again with the same key. An answer
    with an attribute `passed` is only on its way; whoever has the real one calls `settle`.
    """

    def first(view: Any, request: Request, claim: Claim, call: Callable[[], Any]) -> Any:
        with transaction.atomic():
            row = claim()
        try:
            response = call()
        except Exception:
            row.delete()
            raise
        if hasattr(response, "passed"):
            response.claim = row
        elif response.status_code >= 300:
            row.delete()
        else:
            _store(row, view, request, response)
        return response

    return _guarded(method, first)


def settle(row: IdempotentAnswer, response: HttpResponse | None) -> None:
    """What a request that was passed on came to; None: it reached nobody.

    Refusals may be sent again. Of 502 and 504 nobody knows what was done: the claim stays.
    """
    if response is None or (response.status_code >= 300 and response.status_code not in (502, 504)):
        row.delete()
    elif response.status_code < 300 and len(response.content) <= LONGEST_ANSWER:
        _keep(row, response)


def _guarded(method: Method, first: Callable[[Any, Request, Claim, Callable[[], Any]], Any]) -> Method:
    @wraps(method)
    def guarded(view: Any, request: Request, *args: Any, **kwargs: Any) -> Any:
        key = request.headers.get(HEADER)
        if request.method != "POST" or key is None or not isinstance(request.user, User):
            return method(view, request, *args, **kwargs)
        if not 0 < len(key) <= LONGEST or not key.isascii() or not key.isprintable():
            return _say(view, 400, "Bad Request", f"{HEADER} is 1 to {LONGEST} printable characters.")
        user, digest = request.user, _digest(request)
        found = _stored(user, key)
        if found is None:

            def claim() -> IdempotentAnswer:
                return IdempotentAnswer.objects.create(user=user, key=key, request_digest=digest)

            try:
                return first(view, request, claim, lambda: method(view, request, *args, **kwargs))
            except IntegrityError:
                found = _stored(user, key)
                if found is None:
                    raise
        if found.request_digest != digest:
            return _say(
                view, 422, "Unprocessable Content", f"This {HEADER} was used with another request already."
            )
        if not found.answered:
            return _say(
                view, 409, "Conflict", f"The request with this {HEADER} was begun, and has no answer yet."
            )
        return _again(found)

    return guarded


def _digest(request: Request) -> str:
    """Of method, path, query and body: what makes it the same request."""
    parts = (request.method or "", request.get_full_path(), request.META.get("HTTP_CRAY_TENANT_NAME", ""))
    text = "\n".join(parts).encode() + b"\n" + request._request.body
    return hashlib.sha256(text).hexdigest()


def _stored(user: User, key: str) -> IdempotentAnswer | None:
    """The row of a key; one that is too old is forgotten."""
    row = IdempotentAnswer.objects.filter(user=user, key=key).first()
    if row is not None and row.created_at < timezone.now() - timedelta(
        hours=settings.MUSTER_IDEMPOTENCY_HOURS
    ):
        row.delete()
        return None
    return row


def _store(row: IdempotentAnswer, view: Any, request: Request, response: Any) -> None:
    if isinstance(response, Response):
        # As DRF finishes an answer, only earlier: its text is needed now.
        view.finalize_response(request, response).render()
    _keep(row, response)


def _keep(row: IdempotentAnswer, response: HttpResponse) -> None:
    row.answered = response.status_code
    row.content_type = response.get("Content-Type", "")[:255]
    # Any byte is one character of Latin-1: a service may answer what is no text.
    row.body = secrets.encrypt({"bytes": response.content.decode("latin-1")})
    row.save()


def _again(row: IdempotentAnswer) -> HttpResponse:
    body = secrets.decrypt(row.body)["bytes"].encode("latin-1")
    response = HttpResponse(body, status=row.answered, content_type=row.content_type)
    response["Idempotent-Replayed"] = "true"
    return response


def _say(view: Any, status: int, title: str, detail: str) -> Any:
    return getattr(view, "problem", problem)(status, title, detail, None)
