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
from rest_framework.exceptions import AuthenticationFailed, ParseError, PermissionDenied
from rest_framework.request import Request

from accounts_app import signatures
from accounts_app.claims import NotMapped, TokenGrant, read_person, read_scopes
from accounts_app.issuer import TokenRefused, current_issuer, looks_like_token
from accounts_app.models import Grant, User
from accounts_app.services import find_key, note_use
from accounts_app.services_people import know_person


@dataclass(frozen=True)
class Identity:
    """Who asks; `key` is None where the login cookie said it."""

    user: User
    key: Grant | None


class NotIdentified(Exception):
    """What a request carries names nobody: `status` 400 (malformed) or 401 (unknown, wrong, nothing); or it
    names somebody and is not for this door (403)."""

    def __init__(self, status: int, message: str, identity: Identity | None = None, error: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.identity = status, message, identity
        self.challenge = challenge(error, message)


def identify_key(
    *, method: str, path: str, target: str, headers: Mapping[str, str], any_scheme: bool = False
) -> Identity | None:
    """Who a key says asks: X-API-KEY, a bearer token or a signature; None where there is none of these.

    `path` is what the door is called, `target` path and query exactly as on the request line; header names
    are in lower case. With `any_scheme` an Authorization of any other scheme is refused in the signature
    scheme's words, as Backend.AI does. Raises NotIdentified, with 403 where the key is not for this area.
    """
    identity = _find_identity(method=method, target=target, headers=headers, any_scheme=any_scheme)
    if identity is None or identity.key is None or identity.key.opens(path):
        return identity
    raise NotIdentified(403, f"This key is for other areas: {', '.join(identity.key.areas)}.", identity)


def _find_identity(
    *, method: str, target: str, headers: Mapping[str, str], any_scheme: bool
) -> Identity | None:
    authorization = headers.get("authorization", "")
    if headers.get("x-api-key"):
        return _of_key(headers["x-api-key"])
    if authorization.split(" ", 1)[0].lower() == "bearer":
        words = authorization.split()
        if len(words) != 2:
            raise NotIdentified(401, "The Authorization header is not of the form 'Bearer TOKEN'.")
        return _of_token(words[1]) if looks_like_token(words[1]) else _of_key(words[1])
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


def _of_key(token: str) -> Identity:
    key = find_key(token)
    if key is None:
        raise NotIdentified(401, "The key is unknown, expired or revoked.")
    return Identity(key.user, key)


def _of_token(token: str) -> Identity:
    """Whom the site's issuer says so; his row follows what the token claims."""
    try:
        claims = current_issuer().check(token, audiences=settings.MUSTER_OIDC["audiences"])
        scope, areas = read_scopes(claims)
        user = know_person(read_person(claims))
        return Identity(user, TokenGrant.of(claims, user, scope, areas))
    except (TokenRefused, NotMapped) as refused:
        raise NotIdentified(401, str(refused), error="invalid_token") from None


def challenge(error: str = "", message: str = "") -> str:
    """What WWW-Authenticate says (RFC 6750, 3)."""
    # Claims may be quoted in the message: nothing of them may end the text or the header.
    plain = "".join(sign for sign in message if sign.isascii() and sign.isprintable() and sign not in '"\\')
    said = f', error="{error}", error_description="{plain}"' if error else ""
    return f'Bearer realm="muster"{said}'


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
    """`Authorization: Bearer TOKEN`, `X-API-KEY: TOKEN` or a signed request; `request.auth` is the Grant: an
    ApiKey, or what a token of the site's issuer lets its bearer do."""

    def authenticate(self, request: Request) -> tuple[User, Grant] | None:
        """None where the request carries no key; 401 where it carries a wrong one, 400 a malformed one."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        django_request: HttpRequest = request._request
        try:
            identity = identify_key(
                method=request.method or "GET",
                path=django_request.path,
                target=_target(django_request),
                headers=headers,
            )
        except NotIdentified as refused:
            if refused.identity is not None:
                _recognise(django_request, refused.identity)
                raise PermissionDenied(refused.message) from None
            if refused.status == 400:
                raise ParseError(refused.message) from None
            django_request.challenge = refused.challenge  # type: ignore[attr-defined]
            raise AuthenticationFailed(refused.message) from None
        if identity is None or identity.key is None:
            return None
        _recognise(django_request, identity)
        return identity.user, identity.key

    def authenticate_header(self, request: Request) -> str:
        return getattr(request._request, "challenge", "") or challenge()


def _recognise(request: HttpRequest, identity: Identity) -> None:
    """Leave a note for the audit, which sees Django's request only."""
    request.recognised_key = identity.key  # type: ignore[attr-defined]


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
