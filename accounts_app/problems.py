"""How our doors say no: problem documents (RFC 9457)."""

from __future__ import annotations

from typing import Any

from rest_framework.response import Response

PROBLEM = "application/problem+json"


def problem(status: int, title: str, detail: str, errors: Any = None) -> Response:
    """A problem document; `errors` maps fields to what is wrong with each."""
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if errors is not None:
        body["errors"] = errors
    return Response(body, status=status, content_type=PROBLEM)
