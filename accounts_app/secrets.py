"""Keeping secrets: encryption of what must be read again, digests of what need not.

Higher floors use this room for the secrets of their drivers.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.utils.crypto import salted_hmac


class SecretUnreadable(Exception):
    """A stored secret was encrypted with a key that is not configured any more."""


@lru_cache(maxsize=4)
def _box(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


def encrypt(values: dict[str, Any]) -> str:
    """Encrypt a small JSON object with the newest key; an empty one is stored as empty text."""
    if not values:
        return ""
    return _box(tuple(settings.MUSTER_ENCRYPTION_KEYS)).encrypt(json.dumps(values).encode()).decode()


@lru_cache(maxsize=4096)
def _decrypt(text: str, keys: tuple[str, ...]) -> str:
    try:
        return _box(keys).decrypt(text.encode()).decode()
    except InvalidToken:
        raise SecretUnreadable("A stored secret was encrypted with a key that is not configured.") from None


def decrypt(text: str) -> dict[str, Any]:
    """What `encrypt` was given. Raises SecretUnreadable."""
    if not text:
        return {}
    # Decrypted text is kept in memory only, for the thousands of BMCs that a batch reads again and again.
    return json.loads(_decrypt(text, tuple(settings.MUSTER_ENCRYPTION_KEYS)))


def rotate(text: str) -> str:
    """The same secret, encrypted with the newest key. Raises SecretUnreadable."""
    if not text:
        return ""
    try:
        return _box(tuple(settings.MUSTER_ENCRYPTION_KEYS)).rotate(text.encode()).decode()
    except InvalidToken:
        raise SecretUnreadable("A stored secret was encrypted with a key that is not configured.") from None


def digest(secret: str, *, purpose: str) -> str:
    """A keyed digest (HMAC-SHA256, hex) for secrets that only need to be recognised."""
    return salted_hmac(f"muster.{purpose}", secret, algorithm="sha256").hexdigest()


def same(one: str, other: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def fingerprint(text: str) -> str:
    """A short name for a document: equal text, equal name. Not a secret."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
