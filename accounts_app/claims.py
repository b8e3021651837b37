"""What the claims of a token or of a login say of a person: the one mapping for both (docs/identity.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from accounts_app.models import Grant, User
from accounts_app.states import Area, Role, Verb

USERNAME = re.compile(r"[\w.@+-]{1,150}")  # as Django has it
RANKS = list(Role)  # rights grow downwards
LATEST = 4102444800  # 2100: later ends than any clock needs to know
SCOPE = "muster:"  # words of the claim `scope` that begin so narrow what a token may do


class NotMapped(Exception):
    """The claims name nobody who may come in; the message is one sentence for him."""


@dataclass(frozen=True)
class Person:
    """Who somebody is by his claims. `domain` None: the claims say nothing of domains; empty: he has none."""

    subject: str
    username: str
    role: str
    domain: str | None
    projects: tuple[str, ...] | None  # None: the claims say nothing of projects


@dataclass
class TokenGrant(Grant):
    """What a bearer token lets its bearer do."""

    user: User
    access_key: str
    scope: str
    areas: list[str]
    expires_at: datetime

    @classmethod
    def of(cls, claims: Mapping[str, Any], user: User, scope: str, areas: list[str]) -> TokenGrant:
        """From checked claims; the audit names it by the token's id."""
        name = "jwt:" + "".join(_texts(claims.get("jti")))[:60]
        until = datetime.fromtimestamp(min(claims["exp"], LATEST), UTC)
        return cls(user=user, access_key=name, scope=scope, areas=areas, expires_at=until)


def read_person(claims: Mapping[str, Any]) -> Person:
    """The person that claims describe; with role `none` where no role is mapped. Raises NotMapped."""
    names = settings.MUSTER_OIDC
    username = _at(claims, names["username_claim"])
    if not isinstance(username, str) or not USERNAME.fullmatch(username):
        raise NotMapped("The issuer gives no name that could be used here.")
    role = max(
        (
            names["roles"][value]
            for value in _texts(_at(claims, names["role_claim"]))
            if value in names["roles"]
        ),
        key=RANKS.index,
        default=Role.NONE,
    )
    domain = projects = None
    if names["domain_claim"]:
        found = _texts(_at(claims, names["domain_claim"]))
        if len(found) > 1 or (not found and role not in {Role.NONE, Role.SUPERADMIN}):
            raise NotMapped("The issuer does not say to which one domain this account belongs.")
        domain = found[0].strip("/") if found else ""
    if names["project_claim"]:
        projects = tuple(sorted({name.strip("/") for name in _texts(_at(claims, names["project_claim"]))}))
    if not _texts(claims["sub"]) or len(claims["sub"]) > 255:  # as OpenID Connect bounds it
        raise NotMapped("The issuer gives no subject that could be used here.")
    return Person(f"{claims['iss']} {claims['sub']}", username, role, domain, projects)


def read_scopes(claims: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Scope and areas (none: all) of a token; without any it may all that the role allows.

    `muster:read`, `muster:operate`, `muster:admin` bound the verbs, `muster:AREA` the areas. Raises
    NotMapped.
    """
    scope = claims.get("scope", "")
    words = (
        " ".join(scope) if isinstance(scope, list) and all(isinstance(word, str) for word in scope) else scope
    )
    if not isinstance(words, str):
        raise NotMapped("The token has a scope that means nothing here.")
    said = {word.removeprefix(SCOPE) for word in words.split() if word.startswith(SCOPE)}
    verbs = [verb for verb in Verb.values if verb in said]  # each has all of the one before it
    areas = sorted(said & set(Area.values))
    if said - {*verbs, *areas}:
        raise NotMapped("The token has a scope that means nothing here.")
    return (verbs[-1] if verbs else Verb.ADMIN), areas


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name or, for nested ones, by its path: `realm_access.roles`."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _texts(value: Any) -> list[str]:
    """A claim with one text or several of them as a list; whatever else it holds is left out, and so are
    texts that no database or header takes."""
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str) and text and text.isprintable()]
