"""Roles and what each may do (verb by role); the areas of keys; which lists keep filters."""

from collections.abc import Collection, Iterable

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


# What a key with a scope may do.
COVERED: dict[str, frozenset[str]] = {
    Verb.READ: frozenset({Verb.READ}),
    Verb.OPERATE: frozenset({Verb.READ, Verb.OPERATE}),
    Verb.ADMIN: frozenset(Verb),
}
VERBS: dict[str, frozenset[str]] = {
    Role.NONE: frozenset(),
    Role.VIEWER: frozenset({Verb.READ}),
    Role.USER: frozenset({Verb.READ, Verb.OPERATE}),
    Role.ADMIN: frozenset(Verb),
    Role.SUPERADMIN: frozenset(Verb),
}


class Area(TextChoices):
    """A part of Muster; a key may be for some of them only."""

    SESSIONS = "sessions", "sessions, templates and components: BOS, boot scripts"
    NODES = "nodes", "the inventory: nodes, BMCs, groups"
    TASKS = "tasks", "infrastructure tasks, their runs and states"
    WORKFLOWS = "workflows", "workflows, their runs and runtimes"
    EVENTS = "events", "live events of all areas"
    ACCOUNTS = "accounts", "keys and audit"
    METRICS = "metrics", "figures for monitoring"


# Which paths belong to an area; of several that fit the longest counts. What stands in neither table can't
# be reached by a key that is for some areas only.
_PATHS: dict[str, Area] = {
    "/apis/bos": Area.SESSIONS,
    "/apis/bss": Area.SESSIONS,
    "/v1": Area.SESSIONS,
    "/v2": Area.SESSIONS,
    "/api/v1/sessions": Area.SESSIONS,
    "/api/v1/nodes": Area.NODES,
    "/api/v1/bmcs": Area.NODES,
    "/api/v1/groups": Area.NODES,
    "/v1/status": Area.TASKS,
    "/v1/tasks": Area.TASKS,
    "/v1/health": Area.TASKS,
    "/api/v1/tasks": Area.TASKS,
    "/api/v1/task-runs": Area.TASKS,
    "/api/v1/runtime": Area.WORKFLOWS,
    "/api/v1/workflows": Area.WORKFLOWS,
    "/api/v1/runs": Area.WORKFLOWS,
    "/api/v1/runtimes": Area.WORKFLOWS,
    "/events": Area.EVENTS,
    "/api/v1/keys": Area.ACCOUNTS,
    "/api/v1/audit": Area.ACCOUNTS,
    "/metrics": Area.METRICS,
}
ANYBODYS = ("/api/v1/me", "/api/schema", "/api/docs")  # says who one is and what there is


def is_open(path: str, areas: Collection[str]) -> bool:
    """Whether a key for these areas (none: for all) may come in at a path."""
    if not areas or _fits(path, ANYBODYS):
        return True
    place = _fits(path, _PATHS)
    return bool(place) and _PATHS[place] in areas


def _fits(path: str, places: Iterable[str]) -> str:
    """The longest of the places that the path is, or is below; else empty text."""
    return max((place for place in places if f"{path}/".startswith(f"{place}/")), key=len, default="")


class FilteredPage(TextChoices):
    """A list whose filters can be kept; the word is its path."""

    SESSIONS = "sessions", "sessions"
    NODES = "nodes", "nodes"
    TASKS = "tasks", "tasks"
    WORKFLOWS = "workflows", "workflows"
    ACTIVITY = "activity", "activity"
