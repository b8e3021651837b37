"""Signed requests: the HMAC scheme of Backend.AI's clients (contracts, events 4.1).

The signature covers method, path with query, date, host, content type and version; never the body
(API versions since v4.20181215).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dateutil import parser as dates

from accounts_app import secrets
from accounts_app.models import ApiKey

SCHEMES = frozenset({"backendai", "sorna"})
TOLERANCE = timedelta(minutes=15)
EMPTY_BODY = b""
# Extendable-output functions have no fixed digest, which HMAC needs.
METHODS = frozenset(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake"))


class SignatureRefused(Exception):
    """A signed request can't be trusted: `status` 400 (malformed) or 401 (wrong), `message` says what.

    The messages are those of Backend.AI (contracts, events 3); none of them carries what was sent.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True)
class SignedRequest:
    """What a signature covers: `target` is path and query exactly as on the request line, header names are
    in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]

    def header(self, *names: str) -> str:
        """The first of these headers that is there, else empty text."""
        return next((self.headers[name] for name in names if self.headers.get(name)), "")


def is_signed(authorization: str) -> bool:
    """Whether an Authorization header is of this scheme."""
    return authorization.split(" ", 1)[0].lower() in SCHEMES


def check(request: SignedRequest) -> ApiKey:
    """The usable key that signed `request`, its user and domain loaded. Raises SignatureRefused."""
    method, access_key, signature = _read_authorization(request.headers.get("authorization", ""))
    date_text = request.header("date", "x-backendai-date", "x-sorna-date")
    date = _read_date(date_text)
    if not request.header("x-backendai-version", "x-sorna-version"):
        raise SignatureRefused(400, "API version missing in request headers")
    key = ApiKey.objects.select_related("user__domain").filter(access_key=access_key).first()
    if key is None or not key.is_usable or not key.secret_encrypted:
        raise SignatureRefused(401, "Access key not found")
    try:
        secret = secrets.decrypt(key.secret_encrypted)["secret"]
    except secrets.SecretUnreadable:
        raise SignatureRefused(401, "Access key not found") from None
    wanted = sign(request, secret=secret, date=date, date_text=date_text, method=method)
    if not hmac.compare_digest(wanted.encode(), signature.lower().encode()):
        raise SignatureRefused(401, "Signature mismatch")
    return key


def sign(request: SignedRequest, *, secret: str, date: datetime, date_text: str, method: str) -> str:
    """The signature (hex) that `secret` gives this request; `method` is a hash of hashlib, as `sha256`."""
    host = request.headers.get("host", "")
    content_type = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    legacy = not request.headers.get("x-backendai-version")
    version_header = "x-sorna-version" if legacy else "x-backendai-version"
    text = "\n".join(
        [
            request.method,
            request.target,
            date_text,
            f"host:{host}",
            f"content-type:{content_type or 'application/octet-stream'}",
            f"{version_header}:{request.headers.get(version_header, '')}",
            hashlib.new(method, EMPTY_BODY).hexdigest(),
        ]
    )
    day_key = hmac.new(secret.encode(), date.strftime("%Y%m%d").encode(), method).digest()
    key = hmac.new(day_key, host.encode(), method).digest()
    return hmac.new(key, text.encode(), method).hexdigest()


def _read_date(text: str) -> datetime:
    """The signed date in its own offset (none = UTC), refused when 15 minutes or more away from now."""
    try:
        date = dates.parse(text)
    except (ValueError, OverflowError, TypeError):
        raise SignatureRefused(400, "Date/time sync error") from None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    try:
        distance = abs(datetime.now(UTC) - date)
    except OverflowError:
        raise SignatureRefused(400, "Date/time sync error") from None
    if distance >= TOLERANCE:
        raise SignatureRefused(400, "Date/time sync error")
    return date


def _read_authorization(header: str) -> tuple[str, str, str]:
    """Hash name, access key and signature from the Authorization header."""
    scheme, space, rest = header.partition(" ")
    if not space:
        raise SignatureRefused(400, "Malformed authorization header")
    if scheme.lower() not in SCHEMES:
        raise SignatureRefused(400, "Invalid authorization type name")
    fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    method = fields.get("signMethod", "").upper()
    access_key, colon, signature = fields.get("credential", "").partition(":")
    if not method.startswith("HMAC-") or not colon or not access_key or not signature:
        raise SignatureRefused(400, "Missing or malformed authorization parameters")
    method = method.removeprefix("HMAC-").lower().replace("-", "_")
    if method not in METHODS:
        raise SignatureRefused(400, "Missing or malformed authorization parameters")
    return method, access_key, signature
