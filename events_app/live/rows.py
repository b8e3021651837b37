"""Events as the hub holds them, and how they are read from the table."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Any
from urllib.parse import quote

from django.db.models import Max, Min, QuerySet, TextField
from django.db.models.functions import Cast

from events_app.models import EventCounter, LifecycleEvent

Narrow = Callable[[QuerySet[LifecycleEvent]], QuerySet[LifecycleEvent]]

# Channels of an area: the plural takes all of it, `singular:id` one subject.
PLURALS = {
    "session": "sessions",
    "node": "nodes",
    "task": "tasks",
    "workflow": "workflows",
    "background_task": "background-tasks",
    "account": "accounts",
}
PERSONAL = frozenset({"background_task", "account"})  # heard by their owner, and by who manages the domain
FREE = "channel"  # area of events that were sent to a channel by name
SNAPSHOT_LIMIT = 10_000
DELTAS = "node_phases"  # the node map's small changes


class Row:
    """One event, its JSON as the database gave it, and its encodings as far as somebody asked for them."""

    __slots__ = (
        "_channels",
        "access_key",
        "area",
        "at",
        "domain",
        "encoded",
        "name",
        "number",
        "project",
        "subject_id",
        "subject_name",
        "text",
        "user_id",
    )

    def __init__(
        self,
        number: int,
        name: str,
        area: str,
        subject_id: str,
        subject_name: str,
        domain: str,
        project: str,
        access_key: str,
        user_id: int | None,
        at: datetime,
        text: str,
    ) -> None:
        self.number = number
        self.name = name
        self.area = area
        self.subject_id = subject_id
        self.subject_name = subject_name
        self.domain = domain
        self.project = project
        self.access_key = access_key
        self.user_id = user_id
        self.at = at
        self.text = text
        self.encoded: dict[Hashable, bytes] = {}
        self._channels: tuple[str, ...] | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The event's own JSON object."""
        return json.loads(self.text)

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory, without its encodings."""
        return 600 + len(self.text)

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that carry this event, each with its scope (see `scoped`)."""
        if self._channels is None:
            self._channels = tuple(self._find_channels())
        return self._channels

    def _find_channels(self) -> list[str]:
        if self.area == FREE:
            return [scoped(self.subject_id)]
        names = []
        # An area without channels of its own must not get any: their names would count as free ones.
        if self.area in PLURALS:
            names = [PLURALS[self.area], f"{self.area.replace('_', '-')}:{self.subject_id}"]
        if self.area == "node":
            names.append(f"session:{self.subject_id}")
        elif self.area not in PERSONAL:
            names.append("activity")
        scopes = ["*", quote(self.domain, safe="")]
        if self.area in PERSONAL and self.user_id is not None:
            scopes.append(f"{scopes[1]}#{self.user_id}")
        return [f"{name}@{scope}" for name in names for scope in scopes]


def scoped(channel: str, scope: str = "*") -> str:
    """A channel's name with whose events it carries: `@*` everybody's, `@domain`, `@domain#user`."""
    return f"{channel}@{scope}"


def fetch(events: QuerySet[LifecycleEvent], limit: int) -> list[Row]:
    """The first `limit` of these events, in order of number."""
    found = events.order_by("number").values_list(
        "number",
        "name",
        "area",
        "subject_id",
        "subject_name",
        "domain",
        "project",
        "access_key",
        "user_id",
        "at",
        Cast("data", TextField()),
    )[:limit]
    return [Row(*values) for values in found]


def read_after(number: int, limit: int) -> list[Row]:
    """Events beyond `number`. Numbers follow commit order, so nothing can appear below the last one."""
    return fetch(LifecycleEvent.objects.filter(number__gt=number), limit)


def read_between(after: int, upto: int, limit: int, narrow: Narrow) -> tuple[list[Row], int]:
    """Events in (after, upto] that may be wanted, and the number up to which that is all of them."""
    rows = fetch(narrow(LifecycleEvent.objects.filter(number__gt=after, number__lte=upto)), limit)
    return rows, rows[-1].number if len(rows) == limit else upto


def newest() -> int:
    """The number of the newest event; 0 before the first."""
    return EventCounter.objects.filter(pk=1).values_list("last", flat=True).first() or 0


def kept_after() -> int:
    """The number beyond which the table has every event: older ones may have been pruned."""
    oldest = LifecycleEvent.objects.aggregate(oldest=Min("number"))["oldest"]
    return newest() if oldest is None else oldest - 1


def latest_of_each(narrow: Narrow, upto: int) -> list[Row]:
    """The newest event of each subject up to a number: its state at that moment as the events tell it."""
    events = narrow(LifecycleEvent.objects.filter(number__lte=upto))
    numbers = events.order_by().values("subject_id").annotate(newest=Max("number")).values("newest")
    return fetch(LifecycleEvent.objects.filter(number__in=numbers), SNAPSHOT_LIMIT)
