"""Where requests go: the replicas that are ready, as the database has them."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from events_app.models import EventCounter
from workflows_app.models import Deployment, Replica
from workflows_app.models.deployments import stream_count
from workflows_app.states import USABLE, WANTED_PUBLISHED

LOAD_EVERY = 2.0  # seconds, for what changes by the passing of time: which gateways are at work
AVOIDED_FOR = 5.0  # seconds that an address which could not be connected to comes last


@dataclass
class Route:
    """One published workflow."""

    workflow_id: str
    token: str
    entry: str  # service that takes requests
    entry_path: str
    request_seconds: float
    usable: bool = False  # GREEN or YELLOW
    addresses: dict[str, list[str]] = field(default_factory=dict)  # service name -> base URLs


class Routes:
    """A snapshot of all routes, replaced as a whole; who is busy with how many requests lives on."""

    def __init__(self) -> None:
        self.by_workflow: dict[str, Route] = {}
        self.by_token: dict[str, Route] = {}
        self.busy: Counter[str] = Counter()
        self._avoided: dict[str, float] = {}  # address -> until when
        self._turn = itertools.count()
        self._newest: int | None = None  # event, when they were loaded
        self._loaded_at = float("-inf")

    def follow(self) -> None:
        """Load them where anything has happened since the last time; replicas that change leave an event."""
        newest = EventCounter.objects.filter(pk=1).values_list("last", flat=True).first()
        if newest != self._newest or time.monotonic() - self._loaded_at > LOAD_EVERY:
            self.load()
            self._newest, self._loaded_at = newest, time.monotonic()

    def load(self) -> None:
        """Read the database: a few queries for all workflows together."""
        stream = stream_count()
        routes = {}
        rows = Deployment.objects.filter(status__in=WANTED_PUBLISHED).select_related("revision")
        for deployment in rows.prefetch_related("services"):
            body = deployment.revision.body
            routes[deployment.pk] = Route(
                workflow_id=deployment.pk,
                token=deployment.token,
                entry=deployment.entry_service(),
                entry_path=body.get("entry_path", "/"),
                request_seconds=body.get("request_seconds", 60),
                usable=deployment.present_colour(stream) in USABLE,
            )
        ready = Replica.objects.filter(ready=True, service__deployment__status__in=WANTED_PUBLISHED)
        for pk, name, address in ready.exclude(address="").values_list(
            "service__deployment_id", "service__name", "address"
        ):
            if pk in routes:
                routes[pk].addresses.setdefault(name, []).append(address)
        self.by_workflow = routes
        self.by_token = {route.token: route for route in routes.values()}

    def avoid(self, address: str) -> None:
        """It could not be connected to. Pods of a node that has died are ready for long: not every request
        shall wait for them."""
        now = time.monotonic()
        self._avoided = {each: until for each, until in self._avoided.items() if until > now}
        self._avoided[address] = now + AVOIDED_FOR

    def best(self, workflow_id: str, service: str, tried: Collection[str] = ()) -> str:
        """The replica to ask next, but for those `tried`: the least busy, equally busy ones in turn, those to
        avoid last; "" where there is none."""
        route = self.by_workflow.get(workflow_id)
        known = route.addresses.get(service, []) if route else []
        found = [address for address in known if address not in tried]
        if not found:
            return ""
        turn = next(self._turn) % len(found)
        now = time.monotonic()
        return min(
            found[turn:] + found[:turn],
            key=lambda address: (self._avoided.get(address, 0.0) > now, self.busy[address]),
        )
