"""A slash at the end of a path of our own API, or none: both are the same path."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.urls import is_valid_path

OURS = "/api/v1/"

Answerer = Callable[[HttpRequest], HttpResponse]


def either_slash(get_response: Answerer) -> Answerer:
    """Middleware: where there is no such path below /api/v1/, look for its twin with or without the slash.

    Without a redirect, which would drop a POST's body. `request.path` stays as it was asked: signatures and
    the audit mean that one.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        path = request.path_info
        if path.startswith(OURS) and not is_valid_path(path):
            twin = path[:-1] if path.endswith("/") else f"{path}/"
            if is_valid_path(twin):
                request.path_info = twin
        return get_response(request)

    return middleware
