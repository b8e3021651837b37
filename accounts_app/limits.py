"""How often one may ask: by key or person at the JSON doors. Reports of nodes and boot scripts go free.

Counted in each web process for itself, in windows of a minute: it guards against programs gone wild, must
cost next to nothing, and must not need Redis, without which everything else goes on, too.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts_app.models import ApiKey, User

WINDOW = 60  # seconds
clock = time.time


class Window:
    """Counts of the minute that it is now; those of the minute before are forgotten as a whole."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0
        self._counts: Counter[str] = Counter()

    def count(self, who: str, now: float) -> int:
        """One more of `who`; how many there were in this minute."""
        with self._lock:
            number = int(now // WINDOW)
            if number != self._number:
                self._number, self._counts = number, Counter()
            self._counts[who] += 1
            return self._counts[who]


_window = Window()


class RateThrottle(BaseThrottle):
    """MUSTER_API_RATE requests a minute of one key, or of one person who is logged in; 0: no limit."""

    def __init__(self) -> None:
        self.left: float = WINDOW

    def allow_request(self, request: Request, view: Any) -> bool:
        """Count the request. False makes DRF answer 429 with Retry-After in the door's own words."""
        most, who = settings.MUSTER_API_RATE, _place(request)
        if not most or not who:
            return True
        now = clock()
        self.left = WINDOW - now % WINDOW
        return _window.count(who, now) <= most

    def wait(self) -> float:
        """Seconds until the next window."""
        return max(1.0, self.left)


def _place(request: Request) -> str:
    """Under what a request is counted; empty for nodes and for the anonymous, whom permission refuses."""
    if isinstance(request.auth, ApiKey):
        return f"key:{request.auth.pk}"
    return f"user:{request.user.pk}" if isinstance(request.user, User) else ""
