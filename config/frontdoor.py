"""The root and the cookie mode of Backend.AI's console (contracts, events 4.2 and 5.1).

`GET /` tells programs the API version and shows people the dashboard; `POST /server/login` gives a browser
the login cookie with which everything below /func/ works.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django.contrib.auth import authenticate, login, logout
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import URLPattern, URLResolver, get_resolver
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from accounts_app.limits import note_failed_login, too_many_logins
from accounts_app.models import User
from accounts_app.parsers import is_storable
from accounts_app.secrets import fingerprint
from config.streams import main_access_key
from events_app.live.answers import TYPES

API_VERSION = "v7.20230615"
LONGEST = 4096  # of a login's body, in bytes


@require_safe
def root(request: HttpRequest) -> HttpResponse:
    """JSON with the API version, for clients that negotiate it; the overview for browsers."""
    under_func = getattr(request, "scope", {}).get("muster.func")
    if under_func or "text/html" not in request.headers.get("Accept", ""):
        return JsonResponse({"version": API_VERSION, "manager": "muster"})
    overview = _find_view("overview", get_resolver().url_patterns)
    return overview(request) if overview is not None else HttpResponseRedirect("/login")


def _find_view(name: str, patterns: Iterable[Any]) -> Any:
    """The view of a named path, wherever it is: its address may be the root itself."""
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            found = _find_view(name, pattern.url_patterns)
            if found is not None:
                return found
        elif isinstance(pattern, URLPattern) and pattern.name == name:
            return pattern.callback
    return None


# Exempt: a form of another site can't send JSON, and what it could do is log somebody in.
@csrf_exempt
@require_POST
def server_login(request: HttpRequest) -> JsonResponse:
    """{"username", "password"} → the cookie. A wrong password is 200 with authenticated false, as documented;
    400 where the body is no such object or somebody is logged in, 429 after too many wrong ones."""
    if request.user.is_authenticated:
        return _problem(400, "generic-bad-request", "You have already logged in.")
    credentials = _read_credentials(request)
    if credentials is None:
        return _problem(400, "invalid-api-params", "You must provide the username and password fields.")
    username, password = credentials
    if too_many_tries(request, username):
        return _problem(429, "too-many-requests", "Too many failed login attempts.")
    user = authenticate(request, username=username, password=password)
    if not isinstance(user, User):
        note_failed_try(request, username)
        details = "Username or password is wrong."
        data = {"type": f"{TYPES}auth-failed", "title": "Credential/signature mismatch.", "details": details}
        return JsonResponse({"authenticated": False, "data": data})
    login(request, user)
    return JsonResponse({"authenticated": True, "data": _describe(user)})


@csrf_exempt
@require_POST
def server_login_check(request: HttpRequest) -> JsonResponse:
    """Whether the cookie names somebody, and whom."""
    user = request.user
    if not isinstance(user, User):
        return JsonResponse({"authenticated": False, "data": None, "session_id": None})
    # A name for the login, not the cookie's value: scripts of a page must not be able to read that.
    name = fingerprint(request.session.session_key or "")
    return JsonResponse({"authenticated": True, "data": _describe(user), "session_id": name})


@csrf_exempt
@require_POST
def server_logout(request: HttpRequest) -> HttpResponse:
    """Forget the cookie; 201 as documented."""
    logout(request)
    return HttpResponse(status=201)


def _describe(user: User) -> dict[str, str]:
    return {"access_key": main_access_key(user), "role": str(user.role), "status": "active"}


def _read_credentials(request: HttpRequest) -> tuple[str, str] | None:
    if request.content_type != "application/json" or int(request.META.get("CONTENT_LENGTH") or 0) > LONGEST:
        return None
    try:
        document = json.loads(request.body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    username, password = document.get("username"), document.get("password")
    if not isinstance(username, str) or not isinstance(password, str):
        return None
    if not is_storable(username) or not is_storable(password):
        return None
    return username[:150], password


def too_many_tries(request: HttpRequest, username: str) -> bool:
    """Whether wrong passwords have closed the login for this name and address; for both login doors."""
    return too_many_logins(address=request.META.get("REMOTE_ADDR") or "", username=username)


def note_failed_try(request: HttpRequest, username: str) -> None:
    """Count one wrong password."""
    note_failed_login(address=request.META.get("REMOTE_ADDR") or "", username=username)


def _problem(status: int, kind: str, title: str) -> JsonResponse:
    problem = {"type": TYPES + kind, "title": title}
    return JsonResponse(problem, status=status, content_type="application/problem+json; charset=utf-8")
