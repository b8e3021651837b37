"""Who hears what. A filter is a value: listeners with equal filters share one encoding and one write."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from django.db.models import Q, QuerySet

from events_app.live.rows import FREE, PERSONAL, PLURALS, Row
from events_app.models import LifecycleEvent


@dataclass(frozen=True)
class Hearer:
    """Who listens, as far as streams care; made from an identity where everything is wired.

    `everywhere`: hears all domains. `widely`: hears all of the domain on the documented streams, else his
    own only (contracts, events 1.3). `manages`: may see what belongs to others of the domain.
    """

    user_id: int
    domain: str = ""
    everywhere: bool = False
    widely: bool = False
    manages: bool = False
    access_key: str = ""
    login: bool = False  # came with the login cookie or a token, not with a key
    until: float | None = None  # when his token lapses, in seconds since 1970


class Filter(Protocol):
    """What a stream lets pass."""

    def routes(self) -> tuple[Hashable, ...]:
        """Under which of the keys of an event (`keys_of`) this filter looks for it."""

    def passes(self, row: Row) -> bool:
        """Whether this event is heard."""

    def narrow(self, events: QuerySet[LifecycleEvent]) -> QuerySet[LifecycleEvent]:
        """As much of `passes` as the database can do by index."""


def keys_of(row: Row) -> Iterator[Hashable]:
    """Under which keys listeners of this event are registered."""
    if row.area == "session":
        yield "all"
        yield ("domain", row.domain)
        yield ("user", row.user_id)
        yield ("name", row.subject_name)
        yield ("session", row.subject_id)
    elif row.area == "background_task":
        yield ("task", row.subject_id)
    for channel in row.channels:
        yield ("channel", channel)


@dataclass(frozen=True)
class SessionFilter:
    """Lifecycle events of sessions: by what the caller may see, and by what he asked for. None = any."""

    domain: str | None = None
    user_id: int | None = None
    session: str | None = None  # UUID
    name: str | None = None
    owner: str | None = None  # with `name`: the access key that has it
    keyless_owner: int | None = None  # and who may own it without a key (started by hand)
    project: str | None = None
    prefixes: tuple[str, ...] = ()

    def routes(self) -> tuple[Hashable, ...]:
        if self.session is not None:
            return (("session", self.session),)
        if self.name is not None:
            return (("name", self.name),)
        if self.user_id is not None:
            return (("user", self.user_id),)
        return (("domain", self.domain),) if self.domain is not None else ("all",)

    def passes(self, row: Row) -> bool:
        if row.area != "session" or (self.domain is not None and row.domain != self.domain):
            return False
        if self.user_id is not None and row.user_id != self.user_id:
            return False
        if self.session is not None and row.subject_id != self.session:
            return False
        if self.name is not None and not self._named(row):
            return False
        if self.project is not None and row.project != self.project:
            return False
        return not self.prefixes or row.name.startswith(self.prefixes)

    def _named(self, row: Row) -> bool:
        if row.subject_name != self.name:
            return False
        if self.owner is not None and row.access_key == self.owner:
            return True
        return self.keyless_owner is not None and not row.access_key and row.user_id == self.keyless_owner

    def narrow(self, events: QuerySet[LifecycleEvent]) -> QuerySet[LifecycleEvent]:
        events = events.filter(area="session")
        if self.session is not None:
            events = events.filter(subject_id=self.session)
        if self.name is not None:
            events = events.filter(subject_name=self.name)
        if self.user_id is not None:
            events = events.filter(user_id=self.user_id)
        if self.domain is not None:
            events = events.filter(domain=self.domain)
        return events


@dataclass(frozen=True)
class TaskFilter:
    """Progress and end of one background task."""

    task: str

    def routes(self) -> tuple[Hashable, ...]:
        return (("task", self.task),)

    def passes(self, row: Row) -> bool:
        return row.area == "background_task" and row.subject_id == self.task

    def narrow(self, events: QuerySet[LifecycleEvent]) -> QuerySet[LifecycleEvent]:
        return events.filter(area="background_task", subject_id=self.task)


@dataclass(frozen=True)
class ChannelFilter:
    """Everything that the channels carry, by their scoped names. Who may, the channel manager has said."""

    channels: tuple[str, ...]

    @cached_property
    def _wanted(self) -> frozenset[str]:
        return frozenset(self.channels)

    def routes(self) -> tuple[Hashable, ...]:
        return tuple(("channel", channel) for channel in self.channels)

    def passes(self, row: Row) -> bool:
        return not self._wanted.isdisjoint(row.channels)

    def narrow(self, events: QuerySet[LifecycleEvent]) -> QuerySet[LifecycleEvent]:
        wanted = Q(pk__in=[])
        for channel in self.channels:
            name = channel.rpartition("@")[0]
            if name == "activity":
                return events
            wanted |= _of_channel(name)
        return events.filter(wanted)


def _of_channel(name: str) -> Q:
    kind, _, subject = name.partition(":")
    if not is_built_in(name):
        return Q(area=FREE, subject_id=name)
    if not subject:
        return Q(area=next(area for area, plural in PLURALS.items() if plural == name))
    areas = ["session", "node"] if kind == "session" else [kind.replace("-", "_")]
    return Q(area__in=areas, subject_id=subject)


def is_built_in(channel: str) -> bool:
    """Whether a channel (without scope) carries the product's own events; other names are free for use."""
    kind, colon, _ = channel.partition(":")
    if colon:
        return kind.replace("-", "_") in PLURALS
    return channel == "activity" or channel in PLURALS.values()


def is_personal(channel: str) -> bool:
    """Whether a channel (without scope) carries events that are heard by their owners."""
    kind = channel.partition(":")[0].replace("-", "_")
    return kind in PERSONAL or channel in {PLURALS[area] for area in PERSONAL}
