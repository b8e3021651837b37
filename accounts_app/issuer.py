"""The site's OpenID Connect issuer: its metadata and keys, kept and fetched anew, and what its tokens say.

One path checks ID tokens of the login and bearer tokens of programs alike. What the issuer publishes is kept
in each process: while it is away, tokens signed with known keys go on working.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection
from functools import lru_cache
from typing import Any

import requests
from django.conf import settings
from joserfc import jwt
from joserfc.errors import (
    ExpiredTokenError,
    InvalidClaimError,
    InvalidKeyIdError,
    JoseError,
    MissingClaimError,
)
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

log = logging.getLogger(__name__)

TIMEOUT = 5  # seconds for one request to the issuer
FRESH = 300  # seconds for which keys and metadata are taken as they are
PATIENCE = 10  # seconds between two fetches that an unknown key or a failure asks for
LEEWAY = 30  # seconds by which clocks may differ
LONGEST = 16 * 1024  # characters of a token

ACCESS, ID = ("Bearer",), ("ID",)
WRONG = {
    "aud": "The token is for another audience.",
    "iss": "The token is of another issuer.",
    "nbf": "The token is not valid yet.",
    "iat": "The token is not valid yet.",
}


class TokenRefused(Exception):
    """A token can't be trusted; the message is one sentence and carries nothing of the token."""


class IssuerAway(TokenRefused):
    """What is needed to check a token can't be fetched, and was not fetched before."""


class _Kept:
    """A JSON document at an address, fetched anew when it is old; the old one serves while that fails."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._document: Any = None
        self._fetched = self._tried = self._asked = float("-inf")

    def get(self, url: str, check: Any) -> Any:
        """The document as `check` makes it, at most FRESH seconds old where the issuer answers."""
        old = time.monotonic() - self._fetched > FRESH
        # With a document at hand nobody waits for the one who fetches.
        if old and self._lock.acquire(blocking=self._document is None):
            try:
                if time.monotonic() - max(self._fetched, self._tried) > PATIENCE:
                    self._fetch(url, check)
            finally:
                self._lock.release()
        if self._document is None:
            raise IssuerAway("The issuer of tokens can't be reached, so the token can't be checked.")
        return self._document

    def renew(self, url: str, check: Any) -> bool:
        """Fetch it now, for something was not in it; whether there is a newer one. Not often: anybody can
        send tokens that name keys which do not exist."""
        began = time.monotonic()
        with self._lock:
            if self._fetched > began:
                return True  # while this one waited
            if began - self._asked < PATIENCE:
                return False
            self._asked = began
            return self._fetch(url, check)

    def _fetch(self, url: str, check: Any) -> bool:
        self._tried = time.monotonic()
        try:
            answer = requests.get(url, timeout=TIMEOUT, allow_redirects=False)
            answer.raise_for_status()
            self._document = check(answer.json())
        except (
            requests.RequestException,
            JoseError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
        ) as error:
            log.warning("%s can't be used: %s", url, type(error).__name__)
            return False
        self._fetched = time.monotonic()
        return True


class Issuer:
    """One issuer, by its address as it stands in `iss`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._metadata, self._keys = _Kept(), _Kept()

    def metadata(self) -> dict[str, Any]:
        """What it publishes about itself (OpenID Connect Discovery). Raises IssuerAway."""
        return self._metadata.get(f"{self.address.rstrip('/')}/.well-known/openid-configuration", self._own)

    def check(
        self, token: str, *, audiences: Collection[str], kinds: Collection[str] = ACCESS
    ) -> dict[str, Any]:
        """The claims of a token of this issuer for one of these audiences, its signature and times checked.

        `kinds`: what its claim `typ` may say, where it has one. Raises TokenRefused.
        """
        if len(token) > LONGEST:
            raise TokenRefused("The token is too long.")
        try:
            found = self._decode(token)
            jwt.JWTClaimsRegistry(
                leeway=LEEWAY,
                iss={"essential": True, "value": self.address},
                aud={"essential": True, "values": list(audiences)},
                exp={"essential": True},
                sub={"essential": True},
            ).validate(found.claims)
        except ExpiredTokenError:
            raise TokenRefused("The token has expired.") from None
        except (InvalidClaimError, MissingClaimError) as error:
            raise TokenRefused(WRONG.get(str(error.claim), "A claim is missing or wrong.")) from None
        except InvalidKeyIdError:
            raise TokenRefused("The token is signed with a key that its issuer does not publish.") from None
        except (JoseError, ValueError, TypeError):
            raise TokenRefused("The token is damaged or its signature is wrong.") from None
        # Keycloak says what a token is for; an ID token is no key to an API, nor is a refresh token.
        if found.claims.get("typ", "") not in {"", *kinds}:
            raise TokenRefused("The token is of another kind.")
        return found.claims

    def _decode(self, token: str) -> jwt.Token:
        """By the published keys; a key that is not among them is looked for once more, but not too often."""
        # Other headers than the registered ones say nothing that matters here.
        registry = JWSRegistry(algorithms=settings.MUSTER_OIDC["algorithms"], strict_check_header=False)
        address = self.metadata()["jwks_uri"]
        keys = self._keys.get(address, KeySet.import_key_set)
        try:
            return jwt.decode(token, keys, registry=registry)
        except InvalidKeyIdError:
            if not self._keys.renew(address, KeySet.import_key_set):
                raise
            return jwt.decode(token, self._keys.get(address, KeySet.import_key_set), registry=registry)

    def _own(self, document: dict[str, Any]) -> dict[str, Any]:
        if document["issuer"] != self.address:
            raise ValueError("The metadata is of another issuer.")
        return {**document, "jwks_uri": str(document["jwks_uri"])}


def looks_like_token(text: str) -> bool:
    """Whether a bearer's text is one of the issuer's tokens: it has three parts, and such are taken."""
    return text.count(".") == 2 and bool(settings.MUSTER_OIDC["audiences"])


@lru_cache(maxsize=4)
def _issuer_at(address: str) -> Issuer:
    return Issuer(address)


def current_issuer() -> Issuer:
    """The configured one."""
    return _issuer_at(settings.MUSTER_OIDC["issuer"])
