"""From what a request carries to a user: one path for DRF's views and for the streams in front of Django."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed, ParseError
from rest_framework.request import Request

from accounts_app import signatures
from accounts_app.models import ApiKey, User
from accounts_app.services import find_key, note_use


@dataclass(frozen=True)
class Identity:
    """Who asks; `key` is None where the login cookie said it."""

    user: User
    key: ApiKey | None


class NotIdentified(Exception):
    """What a request carries names nobody: `status` 400 (malformed) or 401 (unknown, wrong, nothing)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def identify_key(
    *, method: str, target: str, headers: Mapping[str, str], any_scheme: bool = False
) -> Identity | None:
    """Who a key says asks: X-API-KEY, a bearer token or a signature; None where there is none of these.

    `target` is path and query exactly as on the request line, header names are in lower case. With
    `any_scheme` an Authorization of any other scheme is refused in the signature scheme's words, as
    Backend.AI does. Raises NotIdentified.
    """
    authorization = headers.get("authorization", "")
    if headers.get("x-api-key"):
        return _of_token(headers["x-api-key"])
    if authorization.split(" ", 1)[0].lower() == "bearer":
        words = authorization.split()
        if len(words) != 2:
            raise NotIdentified(401, "The Authorization header is not of the form 'Bearer TOKEN'.")
        return _of_token(words[1])
    if not authorization or not (any_scheme or signatures.is_signed(authorization)):
        return None
    try:
        key = signatures.check(signatures.SignedRequest(method, target, headers))
    except signatures.SignatureRefused as refused:
        raise NotIdentified(refused.status, refused.message) from None
    note_use(key)
    return Identity(key.user, key)


def identify_login(headers: Mapping[str, str]) -> Identity | None:
    """Who is logged in by the dashboard's cookie; None where nobody is."""
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(settings.SESSION_COOKIE_NAME)
    except CookieError:
        return None
    if cookie is None:
        return None
    store = import_module(settings.SESSION_ENGINE).SessionStore(cookie.value)
    user = get_user(SimpleNamespace(session=store))  # type: ignore[arg-type]
    if not isinstance(user, User) or not user.is_active:
        return None
    return Identity(user, None)


def _of_token(token: str) -> Identity:
    key = find_key(token)
    if key is None:
        raise NotIdentified(401, "The key is unknown, expired or revoked.")
    return Identity(key.user, key)


def _target(request: HttpRequest) -> str:
    """Path and query as they were sent; Django's own answer has some characters encoded anew."""
    scope = getattr(request, "scope", None) or {}
    # A prefix that was cut off in front of Django was signed all the same.
    raw = scope.get("muster.raw_path") or scope.get("raw_path")
    if not raw:
        return request.get_full_path()
    query = scope.get("query_string") or b""
    return (raw + (b"?" + query if query else b"")).decode("latin-1")


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer TOKEN`, `X-API-KEY: TOKEN` or a signed request; `request.auth` is the ApiKey."""

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        """None where the request carries no key; 401 where it carries a wrong one, 400 a malformed one."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        django_request: HttpRequest = request._request
        try:
            identity = identify_key(
                method=request.method or "GET", target=_target(django_request), headers=headers
            )
        except NotIdentified as refused:
            if refused.status == 400:
                raise ParseError(refused.message) from None
            raise AuthenticationFailed(refused.message) from None
        if identity is None or identity.key is None:
            return None
        django_request.recognised_key = identity.key  # type: ignore[attr-defined]  # for the audit
        return identity.user, identity.key

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="muster"'


class LoginAuthentication(SessionAuthentication):
    """The login cookie of the dashboard, with CSRF protection for whatever changes something."""


class KeyScheme(OpenApiAuthenticationExtension):
    """How the schema describes KeyAuthentication."""

    target_class = "accounts_app.authentication.KeyAuthentication"
    name = "key"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


class LoginScheme(OpenApiAuthenticationExtension):
    """How the schema describes LoginAuthentication."""

    target_class = "accounts_app.authentication.LoginAuthentication"
    name = "login"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}
