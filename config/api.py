"""What every JSON door shares: errors as problem documents, pages of lists."""

from __future__ import annotations

import http
from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig, ValidationError
from django.db import DataError
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.views.defaults import bad_request
from rest_framework import exceptions
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.response import Response
from rest_framework.views import set_rollback

from accounts_app.problems import PROBLEM, problem
from events_app.models import InvalidTransition


def describe_refusals(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """For drf-spectacular: every operation may refuse, with a problem document."""
    result.setdefault("components", {}).setdefault("schemas", {})["Problem"] = {
        "type": "object",
        "description": "Why a request was refused (RFC 9457).",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "errors": {"description": "What is wrong, by field."},
        },
        "required": ["type", "title", "status", "detail"],
    }
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for ways in result["paths"].values():
        for operation in ways.values():
            operation["responses"].setdefault("default", {"description": "Refused.", "content": content})
    return result


NONSENSE = "The request holds a value that can't be stored or looked for."


class Pages(LimitOffsetPagination):
    """`limit` (100, at most 1000) and `offset`; answers count, next, previous, results."""

    default_limit = 100
    max_limit = 1000


def handle_exception(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """Turn what a view raised into the error body of its API.

    A view class may bring its own `problem(status, title, detail, errors)` where its API's errors look
    different. What is none of these stays a 500.
    """
    translated = _translate(error)
    if translated is None:
        return None
    set_rollback()
    status, detail, errors, headers = translated
    make = getattr(context.get("view"), "problem", problem)
    response = make(status, http.HTTPStatus(status).phrase, detail, errors)
    for name, value in headers.items():
        response[name] = value
    return response


def is_nonsense(error: BaseException) -> bool:
    """Whether a database refused a value for what it is: a NUL in a text, a number beyond its type."""
    return isinstance(error, DataError) or (isinstance(error, ValueError) and "NUL (0x00)" in str(error))


class NonsenseMiddleware:
    """What `handle_exception` does for JSON doors, for pages: 400."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """The answer. A login cookie that can't be looked for is none: error pages ask for it, too."""
        if "\x00" in request.COOKIES.get(settings.SESSION_COOKIE_NAME, ""):
            del request.COOKIES[settings.SESSION_COOKIE_NAME]
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponseBase | None:
        """Called by Django where a view raised."""
        return bad_request(request, error) if is_nonsense(error) else None


def _translate(error: Exception) -> tuple[int, str, Any, dict[str, str]] | None:
    """Status, one sentence, errors by field, headers."""
    if isinstance(error, InvalidTransition):
        return 409, str(error), None, {}
    if isinstance(error, Http404):
        return 404, str(error) or "Not found.", None, {}
    if isinstance(error, PermissionDenied):
        return 403, str(error) or "Your role does not allow this.", None, {}
    if is_nonsense(error):
        return 400, NONSENSE, None, {}
    if isinstance(error, RequestDataTooBig):
        return 413, "The request body is too large.", None, {}
    if isinstance(error, ValidationError):
        fields = getattr(error, "message_dict", None)
        return 400, " ".join(error.messages), fields, {}
    if not isinstance(error, exceptions.APIException):
        return None
    headers = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = f"{wait:.0f}"
    if isinstance(error, exceptions.ValidationError):
        return 400, _sentence(error.detail), error.detail, headers
    return error.status_code, _sentence(error.detail), None, headers


def _sentence(detail: Any, path: str = "") -> str:
    """All messages of DRF's nested detail as one text."""
    if isinstance(detail, Mapping):
        return " ".join(_sentence(value, f"{path}.{key}".strip(".")) for key, value in detail.items())
    if isinstance(detail, list):
        return " ".join(_sentence(value, path) for value in detail)
    return f"{path}: {detail}" if path and path != "non_field_errors" else str(detail)
