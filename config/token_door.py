"""A key for a name and a password, asked for as OAuth 2 has it: what `cray auth login` calls (docs/cray.md).

RFC 6749, 4.3 (request), 5.1 (answer), 5.2 (errors), at the path that HPE's command line has built in.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth import authenticate
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from accounts_app.models import User
from accounts_app.services import issue_key
from config.frontdoor import LONGEST, note_failed_try, too_many_tries

PATH = "keycloak/realms/shasta/protocol/openid-connect/token"
FORM = "application/x-www-form-urlencoded"
LIFE = timedelta(days=1)  # of a key that a login gave; then `cray` asks to log in again


# Exempt: a login has no cookie to abuse yet, and nothing of the answer can be read by another site.
@csrf_exempt
@require_POST
def token(request: HttpRequest) -> JsonResponse:
    """`grant_type=password`, `username`, `password` as a form → `{access_token, token_type, expires_in}`, a
    key that may do what its owner may, for a day.

    Whatever else the form holds is ignored, as OAuth 2 asks. Errors are `{error, error_description}`: 400
    `invalid_request`, `unsupported_grant_type`, `invalid_grant` (wrong password; or a token to be renewed:
    log in anew), 429 `too_many_tries`.
    """
    if request.content_type != FORM or int(request.META.get("CONTENT_LENGTH") or 0) > LONGEST:
        return _refuse("invalid_request", f"The body must be {FORM}, of at most {LONGEST} bytes.")
    grant = request.POST.get("grant_type", "")
    if grant == "refresh_token":
        return _refuse("invalid_grant", "Tokens are not renewed here: log in again.")
    if grant != "password":
        return _refuse("unsupported_grant_type", "grant_type must be 'password'.")
    username, password = request.POST.get("username", "")[:150], request.POST.get("password", "")
    if not username or not password or "\0" in username:
        return _refuse("invalid_request", "username and password are needed.")
    if too_many_tries(request, username):
        return _refuse("too_many_tries", "Too many wrong passwords. Try again in a few minutes.", status=429)
    user = authenticate(request, username=username, password=password)
    if not isinstance(user, User):
        note_failed_try(request, username)
        return _refuse("invalid_grant", "Invalid user credentials")
    issued = issue_key(
        user=user, actor=user, name="cray auth login", expires_at=timezone.now() + LIFE, signs=False
    )
    request.recognised_key = issued.key  # type: ignore[attr-defined]  # for the audit
    return _answer(
        {
            "access_token": issued.token,
            "token_type": "Bearer",
            "expires_in": int(LIFE.total_seconds()),
        }
    )


def _refuse(error: str, description: str, *, status: int = 400) -> JsonResponse:
    return _answer({"error": error, "error_description": description}, status=status)


def _answer(document: dict[str, Any], status: int = 200) -> JsonResponse:
    return JsonResponse(document, status=status, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})
