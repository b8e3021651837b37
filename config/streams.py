"""Who may hear what: identities of accounts_app, as the streams of events_app want to know them."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from accounts_app.authentication import Identity, NotIdentified, identify_key, identify_login
from accounts_app.models import ApiKey, Grant, User
from accounts_app.permissions import may
from accounts_app.states import Role, Verb
from events_app.live import answers
from events_app.live.doors import Caller
from events_app.live.filters import Hearer

# Own sessions only, on the documented streams (contracts, events 1.3). Viewers have none of their own and
# see their domain's, as on the pages.
NARROW_ROLES = frozenset({Role.USER})


def identify(caller: Caller) -> tuple[User, Hearer]:
    """The user behind a request for a stream, and what he may hear. Raises Refused."""
    identity = _identity(caller)
    if identity is None:
        raise answers.unauthorized()
    hearer = _hearer(identity.user, identity.key)
    if hearer is None:
        raise answers.forbidden()
    return identity.user, hearer


def _identity(caller: Caller) -> Identity | None:
    if caller.by_cookie:
        return identify_login(caller.headers)
    try:
        found = identify_key(
            method=caller.method,
            path="/events",
            target=caller.target,
            headers=caller.headers,
            any_scheme=True,
        )
    except NotIdentified as refused:
        if refused.status == 403:
            raise answers.forbidden() from None
        if refused.status == 400:
            raise answers.malformed_authorization(refused.message) from None
        raise answers.unauthorized(refused.message, refused.challenge) from None
    return found or identify_login(caller.headers)


def hearer_of(user: Any) -> Hearer | None:
    """What a user may hear who came without a key; None where nothing (MUSTER_HEARER_OF)."""
    return _hearer(user, None)


def _hearer(user: User, key: Grant | None) -> Hearer | None:
    if not may(user, Verb.READ, key):
        return None
    named = isinstance(key, ApiKey)
    until = key.expires_at.timestamp() if key is not None and key.expires_at and not named else None
    return Hearer(
        user_id=user.pk,
        domain=user.domain.name if user.domain else "",
        everywhere=user.is_superadmin,
        widely=user.role not in NARROW_ROLES,
        manages=user.role in {Role.ADMIN, Role.SUPERADMIN},
        access_key=key.access_key if key is not None and named else main_access_key(user),
        login=not named,
        until=until,
    )


def main_access_key(user: User) -> str:
    """The access key that counts as his where he came without one: his oldest that is usable."""
    keys = user.keys.select_related("user").order_by("created_at", "pk")
    return next((key.access_key for key in keys if key.is_usable), "")


def recheck(hearers: Collection[Hearer]) -> set[Hearer]:
    """Those whose rights are not any more what they were when they came; two queries for all of them."""
    users = {
        user.pk: user
        for user in User.objects.select_related("domain").filter(pk__in={one.user_id for one in hearers})
    }
    names = {one.access_key for one in hearers if not one.login}
    keys = {
        key.access_key: key
        for key in ApiKey.objects.select_related("user__domain").filter(access_key__in=names)
    }
    return {one for one in hearers if _now(one, users, keys) != one}


def _now(hearer: Hearer, users: dict[int, User], keys: dict[str, ApiKey]) -> Hearer | None:
    user = users.get(hearer.user_id)
    if user is None:
        return None
    if hearer.login:
        now = _hearer(user, None)
        over = hearer.until is not None and hearer.until <= time.time()
        return None if now is None or over else replace(now, until=hearer.until)
    key = keys.get(hearer.access_key)
    return _hearer(key.user, key) if key is not None and key.is_usable else None
