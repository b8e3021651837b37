"""Roles and what each may do: the one permission table (verb by role)."""

from django.db.models import TextChoices


class Role(TextChoices):
    """What a user is. Rights grow downwards; each role has all of the one above it."""

    NONE = "none", "no access"
    VIEWER = "viewer", "viewer"  # sees, changes nothing
    USER = "user", "user"  # operates: starts, retries, cancels
    ADMIN = "admin", "admin of a domain"  # and manages what belongs to his domain
    SUPERADMIN = "superadmin", "superadmin"  # and everything of every domain


class Verb(TextChoices):
    """What may be done with an object; also the scopes of a key."""

    READ = "read", "read"
    OPERATE = "operate", "operate"
    ADMIN = "admin", "administer"


VERBS: dict[str, frozenset[str]] = {
    Role.NONE: frozenset(),
    Role.VIEWER: frozenset({Verb.READ}),
    Role.USER: frozenset({Verb.READ, Verb.OPERATE}),
    Role.ADMIN: frozenset(Verb),
    Role.SUPERADMIN: frozenset(Verb),
}
