"""How often one may ask: by key or person at the JSON doors, by name and address at the logins.

All web processes count together, in Redis. While that is away each counts for itself: everything else goes
on without Redis, too, and a limit that then lets more through is better than a door that is closed. Reports
of nodes and boot scripts go free.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from typing import Any

import redis
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts_app.models import ApiKey, User
from events_app.services import bell

log = logging.getLogger(__name__)

WINDOW = 60  # seconds
LOGIN_PERIOD = 300  # seconds in which wrong passwords count
NAME_TRIES = 10  # wrong ones for one name from one address
ADDRESS_TRIES = 50  # wrong ones from one address, for whatever names
AWAY = 5.0  # seconds in which a Redis that did not answer is not asked again
clock = time.time


class Tally:
    """Numbers by name that are forgotten after a while."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._own: dict[str, tuple[int, float]] = {}
        self._away_until = 0.0

    def add(self, name: str, seconds: int) -> int:
        """One more; how many there are. They are forgotten when none was added for `seconds`."""

        def shared(client: redis.Redis) -> Any:
            with client.pipeline(transaction=False) as pipe:
                pipe.incr(name)
                pipe.expire(name, seconds)
                return pipe.execute()[0]

        return self._shared(shared) or self._add_here(name, seconds)

    def read(self, name: str) -> int:
        """How many there are."""
        found = self._shared(lambda client: client.get(name))
        if found is not None:
            return int(found)
        count, until = self._own.get(name, (0, 0.0))
        return count if until > clock() else 0

    def forget(self) -> None:
        """What this process counted by itself; for tests."""
        with self._lock:
            self._own.clear()
        self._away_until = 0.0

    def _shared(self, ask: Any) -> Any:
        """Redis's answer; None while it is away."""
        if clock() < self._away_until:
            return None
        try:
            return ask(bell())
        except redis.RedisError as error:
            self._away_until = clock() + AWAY
            log.warning("Requests are counted in this process alone: %s", error)
            return None

    def _add_here(self, name: str, seconds: int) -> int:
        now = clock()
        with self._lock:
            if len(self._own) > 10_000:
                self._own = {key: row for key, row in self._own.items() if row[1] > now}
            count, until = self._own.get(name, (0, 0.0))
            self._own[name] = (count + 1 if until > now else 1, now + seconds)
            return self._own[name][0]


tally = Tally()


class RateThrottle(BaseThrottle):
    """MUSTER_API_RATE requests a minute of one key, or of one person who is logged in; 0: no limit."""

    def __init__(self) -> None:
        self.left: float = WINDOW

    def allow_request(self, request: Request, view: Any) -> bool:
        """Count the request. False makes DRF answer 429 with Retry-After in the door's own words; a body that
        is too long for any of them is 413."""
        refuse_long_body(request)
        most, who = settings.MUSTER_API_RATE, _place(request)
        if not most or not who:
            return True
        now = clock()
        self.left = WINDOW - now % WINDOW
        return tally.add(f"muster:rate:{int(now // WINDOW)}:{who}", WINDOW) <= most

    def wait(self) -> float:
        """Seconds until the next window."""
        return max(1.0, self.left)


def refuse_long_body(request: HttpRequest | Request) -> None:
    """Also for doors that read none: what was left out of a request on its way (config/server.py) must not
    be acted on. Raises RequestDataTooBig."""
    said = request.META.get("CONTENT_LENGTH") or ""
    if said.isdecimal() and int(said) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
        raise RequestDataTooBig("The request body is too large.")


def _place(request: Request) -> str:
    """Under what a request is counted; empty for nodes and for the anonymous, whom permission refuses."""
    if isinstance(request.auth, ApiKey):
        return f"key:{request.auth.pk}"
    return f"user:{request.user.pk}" if isinstance(request.user, User) else ""


def too_many_logins(*, address: str, username: str) -> bool:
    """Whether this address tried this name, or too many names, in vain too often; for both login doors."""
    by_address, by_name = _login_places(address, username)
    return tally.read(by_name) >= NAME_TRIES or tally.read(by_address) >= ADDRESS_TRIES


def note_failed_login(*, address: str, username: str) -> None:
    """Count one wrong password."""
    for place in _login_places(address, username):
        tally.add(place, LOGIN_PERIOD)


def _login_places(address: str, username: str) -> tuple[str, str]:
    name = hashlib.sha256(username[:150].encode("utf-8", "replace")).hexdigest()[:32]
    return f"muster:login:{address}", f"muster:login:{address}:{name}"
