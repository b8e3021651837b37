"""From what a request carries to a user, for DRF."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, SessionAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts_app.models import ApiKey, User
from accounts_app.services import find_key


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer TOKEN` or `X-API-KEY: TOKEN`; `request.auth` is the ApiKey."""

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        """None where the request carries no key; AuthenticationFailed (401) where it carries a wrong one."""
        token = request.META.get("HTTP_X_API_KEY", "")
        if not token:
            words = get_authorization_header(request).split()
            if not words or words[0].lower() != b"bearer":
                return None
            if len(words) != 2:
                raise AuthenticationFailed("The Authorization header is not of the form 'Bearer TOKEN'.")
            token = words[1].decode("latin-1")
        key = find_key(token)
        if key is None:
            raise AuthenticationFailed("The key is unknown, expired or revoked.")
        return key.user, key

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
