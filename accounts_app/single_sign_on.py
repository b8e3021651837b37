"""Signing in at the site's issuer: the authorization-code flow of OpenID Connect with PKCE.

Authlib speaks the flow. It keeps state, nonce and verifier in what it takes for the login session; here
that is a signed cookie, so that nobody fills the database by asking to sign in. Tokens are checked where all
tokens are (accounts_app/issuer.py).
"""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import requests
from authlib.integrations.django_client import DjangoIntegration, DjangoOAuth2App, OAuthError
from authlib.oidc.core import CodeIDToken, UserInfo
from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse
from joserfc.errors import JoseError

from accounts_app import issuer
from accounts_app.claims import NotMapped, Person, read_person

CALLBACK = "/login/sso/callback"
TIMEOUT = 10  # seconds for one request to the issuer
COOKIE = SALT = "muster_sso"
WAY = timedelta(hours=1)  # from here to the issuer and back; authlib's own bound
LONGEST_TARGET = 1000  # characters; browsers drop cookies beyond 4 kB
ID_TOKEN = "sso_id_token"  # noqa: S105  (the name under which the login session keeps it, for signing out)


class NotSignedIn(Exception):
    """Nobody came in; `status` 403 (refused) or 503 (the issuer is away), the message is one sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class _App(DjangoOAuth2App):
    """Authlib's client with our issuer's metadata and our check of tokens."""

    def load_server_metadata(self) -> dict[str, Any]:
        return issuer.current_issuer().metadata()

    def parse_id_token(self, token: dict[str, Any], nonce: str, *args: Any, **options: Any) -> UserInfo:
        claims = issuer.current_issuer().check(token["id_token"], audiences=[self.client_id], kinds=issuer.ID)
        # Whether it answers this very request, and is for this client.
        known = {"nonce": nonce, "client_id": self.client_id}
        CodeIDToken(claims, {}, {}, known).validate(leeway=issuer.LEEWAY)
        return UserInfo(claims)


def is_configured() -> bool:
    """Whether people can sign in at an issuer."""
    return bool(settings.MUSTER_OIDC["issuer"] and settings.MUSTER_OIDC["client_id"])


def _app() -> _App:
    known = settings.MUSTER_OIDC
    return _App(
        DjangoIntegration("sso"),
        "sso",
        client_id=known["client_id"],
        client_secret=known["client_secret"] or None,
        client_kwargs={
            "scope": known["scopes"],
            "code_challenge_method": "S256",
            "default_timeout": TIMEOUT,
        },
    )


def start(request: HttpRequest, target: str) -> HttpResponse:
    """Lead the browser to the issuer, and from there to `target`, a path here. Raises NotSignedIn."""
    kept = {"target": target if len(target) <= LONGEST_TARGET else "/"}
    try:
        response = _app().authorize_redirect(_keeping(request, kept), settings.MUSTER_URL + CALLBACK)
    except issuer.IssuerAway:
        raise NotSignedIn(503, "The single sign-on can't be reached. Try again in a moment.") from None
    response.set_cookie(
        COOKIE,
        signing.dumps(kept, salt=SALT, compress=True),
        max_age=WAY,
        path=CALLBACK,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )
    return response


def _keeping(request: HttpRequest, kept: dict[str, Any]) -> HttpRequest:
    """The request as authlib wants it, with `kept` in the place of the login session."""
    found = copy.copy(request)
    found.session = kept  # type: ignore[assignment]  # a dict is all that authlib needs
    return found


def finish(request: HttpRequest) -> tuple[Person, str]:
    """Who the issuer says is back, and where he wanted to go: the code is redeemed, once, and the answer
    checked. Raises NotSignedIn. The caller forgets COOKIE."""
    app = _app()
    try:
        kept = signing.loads(request.COOKIES.get(COOKIE, ""), salt=SALT, max_age=WAY)
    except signing.BadSignature:
        kept = {}
    try:
        token = app.authorize_access_token(_keeping(request, kept))
        claims = token.get("userinfo")
        if not claims:
            raise NotSignedIn(403, "The single sign-on did not say who you are.")
        if app.load_server_metadata().get("userinfo_endpoint"):
            told = app.userinfo(token=token)
            if told.get("sub") != claims["sub"]:
                raise NotSignedIn(403, "The single sign-on spoke of two people.")
            claims = {**told, **claims}
        person = read_person(claims)
    except OAuthError as error:
        denied = error.error == "access_denied"
        said = "The single sign-on refused." if denied else "This sign-in has lapsed or was used. Start anew."
        raise NotSignedIn(403, said) from None
    except (issuer.IssuerAway, requests.RequestException):
        raise NotSignedIn(503, "The single sign-on can't be reached. Try again in a moment.") from None
    except (issuer.TokenRefused, NotMapped) as error:
        raise NotSignedIn(403, str(error)) from None
    except (JoseError, ValueError, KeyError, TypeError, AttributeError):
        raise NotSignedIn(403, "The single sign-on gave an answer that can't be trusted.") from None
    if settings.MUSTER_OIDC["logout"]:
        request.session[ID_TOKEN] = token["id_token"]
    return person, kept["target"]


def end_url(request: HttpRequest) -> str:
    """Where the browser is led to sign out at the issuer, too; empty where it shall not or need not."""
    hint = request.session.get(ID_TOKEN)
    if not hint or not settings.MUSTER_OIDC["logout"]:
        return ""
    try:
        return _app().create_logout_url(
            post_logout_redirect_uri=f"{settings.MUSTER_URL}/login",
            id_token_hint=hint,
            client_id=settings.MUSTER_OIDC["client_id"],
        )["url"]
    except (issuer.IssuerAway, RuntimeError):  # it is away, or has no such door
        return ""
