"""Watches Consul by blocking queries and writes what it sees into the triggers' rows.

One process at a time does it, by a lease; others stand by. It keeps nothing that matters: after a restart it
asks anew and compares with the rows, so a change that happened meanwhile is seen. Equal questions of
many tasks are asked once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

import aiohttp
from django.conf import settings
from django.db import IntegrityError, InterfaceError, OperationalError, connection
from django.utils import timezone

from events_app.services import note_seen, record_event, recording
from tasks_app import owners
from tasks_app.drivers import consul
from tasks_app.drivers.consul import Consul, ConsulError
from tasks_app.models import Trigger, WatchLease
from tasks_app.records import wake_triggers
from tasks_app.states import TriggerKind
from tasks_app.triggers import WATCHER, trigger_digest

log = logging.getLogger(__name__)

T = TypeVar("T")
LEASE = 15.0  # seconds
RENEW = 4.0
LOOK_EVERY = 1.0  # seconds between looks at which triggers there are
WAIT = 60.0  # of a blocking query
AT_ONCE = 128  # connections; Consul allows 200 of one client
SHORT_WAIT = 2.0  # where there are more questions than connections
LONGEST_PAUSE = 15.0


@dataclass
class Query:
    """One question that is asked for ever; whoever listens is woken at each new answer or error."""

    path: str
    params: dict[str, str]
    answer: Any = None
    seen: bool = False
    index: int = 0
    error: str = ""
    listeners: set[asyncio.Event] = field(default_factory=set)
    task: asyncio.Task[None] | None = None

    def tell(self) -> None:
        for listener in self.listeners:
            listener.set()


class Questions:
    """All questions of this process, each asked once however many listen."""

    def __init__(self, client: Consul) -> None:
        self._client = client
        self._queries: dict[str, Query] = {}
        self._free = asyncio.Semaphore(AT_ONCE)

    def listen(self, question: tuple[str, Mapping[str, str]], listener: asyncio.Event) -> Query:
        """The query of a question, begun where nobody asks it yet."""
        key = json.dumps([question[0], dict(question[1])], sort_keys=True)
        query = self._queries.get(key)
        if query is None:
            query = self._queries[key] = Query(question[0], dict(question[1]))
            query.task = asyncio.create_task(self._ask_for_ever(query))
        query.listeners.add(listener)
        if query.seen or query.error:
            listener.set()
        return query

    def leave(self, query: Query, listener: asyncio.Event) -> None:
        """Listen no more; a question without listeners is asked no more."""
        query.listeners.discard(listener)
        if not query.listeners:
            self._queries = {key: other for key, other in self._queries.items() if other is not query}
            if query.task:
                query.task.cancel()

    async def _ask_for_ever(self, query: Query) -> None:
        pause = 0.5
        while True:
            wait = WAIT if len(self._queries) <= AT_ONCE else SHORT_WAIT
            try:
                async with self._free:
                    answer, index = await self._client.get(
                        query.path, query.params, index=query.index, wait=wait
                    )
            except ConsulError as error:
                query.index = 0
                if query.error != str(error):
                    query.error = str(error)
                    query.tell()
                await asyncio.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause = 0.5
            # An index that goes backwards, or is none, must not be waited on (Consul's documentation).
            query.index = index if index >= query.index else 0
            if not query.seen or query.error or answer != query.answer:
                query.answer, query.seen, query.error = answer, True, ""
                query.tell()
            await asyncio.sleep(0.05 if query.index else 1.0)


class Follower:
    """Follows one watched thing: puts the answers of its questions together, and stores the value."""

    def __init__(self, kind: str, spec: dict[str, Any], questions: Questions, store: Callable[..., Any]):
        self.kind, self.spec = kind, spec
        self._questions = questions
        self._store = store
        self._listener = asyncio.Event()
        self._catalog: Query | None = None
        self._single: Query | None = None
        self._services: dict[str, Query] = {}

    async def run(self) -> None:
        """Until cancelled."""
        try:
            self._begin()
            while True:
                await self._listener.wait()
                self._listener.clear()
                await self._look()
        finally:
            for query in [self._catalog, self._single, *self._services.values()]:
                if query is not None:
                    self._questions.leave(query, self._listener)

    def _begin(self) -> None:
        if self.kind == TriggerKind.CONSUL_KV:
            self._single = self._questions.listen(consul.kv_question(self.spec), self._listener)
        elif self.kind == TriggerKind.CATALOG_SERVICES:
            self._single = self._questions.listen(consul.catalog_question(self.spec), self._listener)
        elif self.spec.get("names"):
            self._follow_services(self.spec["names"])
        else:
            question = consul.catalog_question({**self.spec, "node_meta": {}})
            self._catalog = self._questions.listen(question, self._listener)

    def _follow_services(self, names: list[str]) -> None:
        for name in set(self._services) - set(names):
            self._questions.leave(self._services.pop(name), self._listener)
        for name in names:
            if name not in self._services:
                question = consul.service_question(name, self.spec)
                self._services[name] = self._questions.listen(question, self._listener)

    async def _look(self) -> None:
        if self._catalog is not None and self._catalog.seen:
            self._follow_services(consul.matching(self._catalog.answer or {}, self.spec))
        queries = [query for query in (self._catalog, self._single, *self._services.values()) if query]
        error = next((query.error for query in queries if query.error), "")
        if error:
            await self._store(self.kind, self.spec, error=error)
        elif all(query.seen for query in queries):
            await self._store(self.kind, self.spec, value=self._value())

    def _value(self) -> dict[str, Any]:
        if self._single is not None:
            make = consul.pairs if self.kind == TriggerKind.CONSUL_KV else consul.catalog
            return make(self._single.answer, self.spec)
        found: dict[str, Any] = {}
        for query in self._services.values():
            found.update(consul.instances(query.answer, self.spec))
        return found


class Watcher:
    """The whole process: lease, followers, heartbeat. `run` ends when `stop` is set."""

    def __init__(self, holder: str = "") -> None:
        self.holder = holder or owners.me()
        self._database = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._renewed = float("-inf")

    async def run(self, stop: asyncio.Event) -> None:
        """Follow what the triggers name until `stop` is set."""
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            questions = Questions(Consul(settings.MUSTER_CONSUL, session))
            try:
                while not stop.is_set():
                    await self._turn(questions)
                    try:
                        await asyncio.wait_for(stop.wait(), LOOK_EVERY)
                    except TimeoutError:
                        continue
            finally:
                await self._drop(list(self._followers))
                await self._in_database(lambda: release_lease(self.holder))
                await self._in_database(lambda: connection.close())
                self._database.shutdown()

    async def _turn(self, questions: Questions) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._renewed > RENEW and await self._in_database(lambda: take_lease(self.holder)):
            self._renewed = now
        if now - self._renewed > LEASE - RENEW:
            await self._drop(list(self._followers))  # somebody else watches, or will soon
            return
        wanted = await self._in_database(wanted_by_triggers)
        if wanted is None:
            return
        await self._drop([key for key in self._followers if key not in wanted])
        for key, (kind, spec) in wanted.items():
            follower = self._followers.get(key)
            if follower is None or follower.done():
                if follower is not None:
                    log.error("Watching %s %s ended: %r", kind, spec, follower.exception())
                self._followers[key] = asyncio.create_task(Follower(kind, spec, questions, self._store).run())

    async def _drop(self, keys: list[str]) -> None:
        ended = [self._followers.pop(key) for key in keys]
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)

    async def _store(self, kind: str, spec: dict[str, Any], **seen: Any) -> None:
        """Write until the database takes it: what was seen must not be lost."""

        def write() -> bool:
            store(kind, spec, **seen)
            return True

        while not await self._in_database(write):
            await asyncio.sleep(1)

    async def _in_database(self, act: Callable[[], T]) -> T | None:
        """Do something with the database in its thread; None where the database is away."""

        def guarded() -> T | None:
            try:
                return act()
            except (OperationalError, InterfaceError) as error:
                log.warning("The database is away: %s", error)
                connection.close()
                return None

        return await asyncio.get_running_loop().run_in_executor(self._database, guarded)


# -- rows ---------------------------------------------------------------------------------------------


def take_lease(holder: str) -> bool:
    """Take or renew the lease; False where another living process has it."""
    now = timezone.now()
    note_seen(WATCHER)
    until = now + timedelta(seconds=LEASE)
    row = WatchLease.objects.filter(name="consul").first()
    if row is None:
        try:
            WatchLease.objects.create(name="consul", holder=holder, until=until)
        except IntegrityError:
            return False
        return True
    if row.holder != holder and row.until > now and not owners.is_dead(row.holder):
        return False
    mine = WatchLease.objects.filter(name="consul", holder=row.holder, until=row.until)
    return bool(mine.update(holder=holder, until=until))


def release_lease(holder: str) -> None:
    """Let the next one watch at once."""
    WatchLease.objects.filter(name="consul", holder=holder).update(until=timezone.now())


def wanted_by_triggers() -> dict[str, tuple[str, dict[str, Any]]]:
    """What is to be watched, by a key that is equal for equal questions."""
    if not settings.MUSTER_CONSUL["address"]:
        return {}
    rows = Trigger.objects.watched().values_list("kind", "spec")
    return {json.dumps([kind, spec], sort_keys=True): (kind, spec) for kind, spec in rows}


def store(kind: str, spec: dict[str, Any], *, value: Any = None, error: str = "") -> None:
    """Write a value, or why there is none, into every trigger that watches it."""
    now = timezone.now()
    same = [
        pk
        for pk, other in Trigger.objects.watched().filter(kind=kind).values_list("pk", "spec")
        if other == spec
    ]
    with recording():
        rows = Trigger.objects.filter(pk__in=same).defer("value").select_related("task__domain")
        for row in rows.select_for_update(of=("self",)):
            if error:
                _store_error(row, error)
            else:
                _store_value(row, value, now)


def _store_error(row: Trigger, error: str) -> None:
    if Trigger.objects.filter(pk=row.pk).exclude(error=error).update(error=error):
        record_event(**row.task.event("task_watch_failed", kind=row.kind, error=error))


def _store_value(row: Trigger, value: Any, now: datetime) -> None:
    digest = trigger_digest(row.kind, value)
    values: dict[str, Any] = {"value": value, "digest": digest, "seen_at": now, "error": ""}
    if digest != row.digest:
        values["first_change_at"], values["due_at"] = row.due_after_change(now)
        if values["due_at"] <= now:
            wake_triggers()
    if row.error:
        record_event(**row.task.event("task_watch_restored", kind=row.kind))
    Trigger.objects.filter(pk=row.pk).update(**values)
