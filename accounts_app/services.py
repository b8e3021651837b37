"""Issue and revoke keys; keep filters."""

from __future__ import annotations

import secrets as random
import string
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import QueryDict
from django.utils import timezone
from django.utils.http import urlencode

from accounts_app import secrets
from accounts_app.models import ApiKey, SavedFilter, User
from accounts_app.states import Verb
from events_app.services import record_event, recording

MOST_FILTERS = 30  # of one user on one page
TOKEN_PREFIX = "mst"  # noqa: S105  (a marker that scanners for leaked keys can look for)


@dataclass(frozen=True)
class IssuedKey:
    """A new key with its secret, which nobody can read again."""

    key: ApiKey
    access_key: str
    secret_key: str

    @property
    def token(self) -> str:
        """For `Authorization: Bearer` and `X-API-KEY`."""
        return f"{TOKEN_PREFIX}_{self.access_key}_{self.secret_key}"


def issue_key(
    *,
    user: User,
    actor: Any,
    name: str = "",
    scope: str = Verb.ADMIN,
    areas: Collection[str] = (),
    expires_at: datetime | None = None,
    signs: bool = True,
) -> IssuedKey:
    """Make a key for `user`. `areas`: for these alone (none: for all). `signs`: it may sign requests, so its
    secret is also kept encrypted."""
    alphabet = string.ascii_uppercase + string.digits
    access_key = "".join(random.choice(alphabet) for _ in range(20))
    secret_key = random.token_hex(20)
    with recording():
        key = ApiKey.objects.create(
            access_key=access_key,
            name=name,
            user=user,
            secret_digest=secrets.digest(secret_key, purpose="key"),
            secret_encrypted=secrets.encrypt({"secret": secret_key}) if signs else "",
            scope=scope,
            areas=sorted(areas),
            expires_at=expires_at,
        )
        _record("key_issued", key, actor)
    return IssuedKey(key, access_key, secret_key)


def revoke_key(*, key: ApiKey, actor: Any) -> None:
    """Make a key useless from now on; repeating it changes nothing."""
    with recording():
        if ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()):
            _record("key_revoked", key, actor)


def rotate_key(*, key: ApiKey, actor: Any) -> IssuedKey:
    """A new key like this one, which is revoked."""
    with recording():
        issued = issue_key(
            user=key.user,
            actor=actor,
            name=key.name,
            scope=key.scope,
            areas=key.areas,
            expires_at=key.expires_at,
            signs=bool(key.secret_encrypted),
        )
        revoke_key(key=key, actor=actor)
    return issued


def _record(name: str, key: ApiKey, actor: Any) -> None:
    record_event(
        name=name,
        area="account",
        subject_id=key.access_key,
        subject_name=key.name,
        data={"by": getattr(actor, "username", "")},
        domain=key.user.domain.name if key.user.domain else "",
        user_id=key.user_id,
    )


def find_key(token: str) -> ApiKey | None:
    """The usable key that `token` belongs to, its user and domain loaded; None for any other text."""
    parts = token.split("_")
    if len(parts) != 3 or parts[0] != TOKEN_PREFIX:
        return None
    key = ApiKey.objects.select_related("user__domain").filter(access_key=parts[1]).first()
    if key is None or not key.matches(parts[2]) or not key.is_usable:
        return None
    note_use(key)
    return key


def note_use(key: ApiKey) -> None:
    """Remember that a key was used, at most once a minute: a busy key must not write on each request."""
    now = timezone.now()
    if key.last_used_at is None or (now - key.last_used_at).total_seconds() > 60:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)


# -- filters that somebody named -----------------------------------------------------------------------


def plain_query(text: str) -> str:
    """The filter of a list's URL: its fields in one order, without what only turns its pages."""
    asked = QueryDict(text)
    kept = [
        (name, asked[name]) for name in sorted(asked) if asked[name] and name not in {"page", "before", "tz"}
    ]
    return urlencode(kept)


def save_filter(*, user: User, page: str, name: str, query: str) -> SavedFilter:
    """Keep a filter under a name; one of the same name is replaced, and beyond MOST_FILTERS none is kept.

    Raises ValueError then.
    """
    kept = user.saved_filters.filter(page=page)
    if not kept.filter(name=name).exists() and kept.count() >= MOST_FILTERS:
        raise ValueError(f"{MOST_FILTERS} filters are kept here already; forget one first.")
    saved, _ = user.saved_filters.update_or_create(page=page, name=name, defaults={"query": query})
    return saved
