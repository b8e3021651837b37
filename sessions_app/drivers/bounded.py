"""What every driver over a network needs, so that a kind of BMC only has to speak its protocol.

`BoundedDriver.perform` runs many actions at once within bounds: a number of them in flight, one per BMC,
a time to begin, a time to end, and a circuit breaker per BMC. A subclass writes `act`, for one target.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
import traceback
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Generic, TypeVar
from urllib.parse import quote

from .base import (
    OPERATION_SECONDS,
    SILENT,
    VAULT_PATH,
    Action,
    PowerDriver,
    PowerError,
    Reason,
    Result,
    Target,
)
from .vault import read_credentials

logger = logging.getLogger(__name__)

BREAKER_FAILURES = 3  # in a row, before a BMC is left alone for a while
BREAKER_SECONDS = 5.0  # the first pause; each further failure doubles it
BREAKER_SECONDS_MOST = 60.0
PATIENCE_SECONDS = 0.5  # after this a waiting action lends its place to others
LATE_SECONDS = 0.02  # a timer that fires later than this tells of an overloaded process
IN_FLIGHT = 128  # enough for 2,500 requests a second at 50 ms each, few enough for their TLS handshakes
SLOW_SECONDS = 4.0  # a BMC that takes longer for what comes before the switch is slow itself
NO_ANSWER = "BMC does not answer"
BOOT_SOURCE_LATE = "BMC did not take the boot source in time"

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class TooLateError(Exception):
    """The time to begin passed before a changing request could be sent."""


class BoundedCache(OrderedDict[K, V], Generic[K, V]):
    """A dict that forgets what was used longest ago: a driver must not grow with the site's history."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def recall(self, key: K) -> V | None:
        """The value, marked as used just now."""
        value = self.get(key)
        if value is not None:
            self.move_to_end(key)
        return value

    def keep(self, key: K, value: V) -> None:
        """Store the value; forget the eldest when there are too many."""
        self[key] = value
        self.move_to_end(key)
        while len(self) > self.most:
            self.popitem(last=False)


class Breaker:
    """Leaves a silent BMC alone for 5 s, 10 s, ... 60 s, so that it costs nothing while it is dead.

    A switch is asked for seldom and counts as a try of its node, so it is never refused for longer than
    the first pause: the BMC may be back.
    """

    __slots__ = ("failed_at", "failures", "open_until")

    def __init__(self) -> None:
        self.failures = 0
        self.failed_at = self.open_until = 0.0

    def is_open(self, *, to_switches: bool = False) -> bool:
        """Whether to answer at once. After a pause the next action is let through as the probe."""
        until = min(self.open_until, self.failed_at + BREAKER_SECONDS) if to_switches else self.open_until
        return self.failures >= BREAKER_FAILURES and self.now() < until

    def now(self) -> float:
        """The clock of the pauses, in seconds."""
        return time.monotonic()

    def record(self, reason: Reason | None) -> None:
        """Count a silent BMC, or close the breaker: any answer at all, even a refusal, is a sign of life."""
        if reason not in SILENT:
            self.failures = 0
            return
        self.failures += 1
        self.failed_at = self.now()
        beyond = self.failures - BREAKER_FAILURES
        if beyond >= 0:
            pause = min(BREAKER_SECONDS * 2 ** min(beyond, 10), BREAKER_SECONDS_MOST)
            self.open_until = self.failed_at + pause


class Channel:
    """What is remembered of one BMC: its breaker, and the lock that keeps it to one action at a time."""

    __slots__ = ("breaker", "lock")

    def __init__(self) -> None:
        self.breaker = Breaker()
        self.lock = asyncio.Lock()


class Places:
    """At most `busy` actions at work, and at most three times as many that merely wait.

    An action without an answer after `PATIENCE_SECONDS` costs nothing but a socket. It lends its place to
    others, otherwise a few hundred dead BMCs would keep all places for the length of a time-out. Not so
    when the event loop itself is late: then it is we who are slow, and more work would make it worse.
    """

    def __init__(self, busy: int) -> None:
        self.free = asyncio.Semaphore(busy)
        self.waiting = 0
        self.waiting_most = 3 * busy

    async def take(self) -> Place:
        """Wait for a place."""
        await self.free.acquire()
        return Place(self)


class Place:
    """One action's place; to be given back once."""

    __slots__ = ("_due", "_lent", "_places", "_timer")

    def __init__(self, places: Places) -> None:
        self._places = places
        self._lent = False
        self._wait()

    def give_back(self) -> None:
        """Let the next one in."""
        self._timer.cancel()
        if self._lent:
            self._places.waiting -= 1
        else:
            self._places.free.release()

    def _wait(self) -> None:
        self._due = time.monotonic() + PATIENCE_SECONDS
        self._timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._lend)

    def _lend(self) -> None:
        places = self._places
        late = time.monotonic() - self._due > LATE_SECONDS
        if late or places.waiting >= places.waiting_most:
            self._wait()
            return
        self._lent = True
        places.waiting += 1
        places.free.release()


class BoundedDriver(PowerDriver):
    """Base of the drivers that talk to one BMC at a time with `act`."""

    def __init__(self, *, in_flight: int = IN_FLIGHT) -> None:
        """Must be created inside the event loop that it will serve. `in_flight`: actions at work at once."""
        self._places = Places(in_flight)
        # BMCs that were silent last time queue among themselves, not in front of those that answer.
        self._suspects = Places(max(1, in_flight // 2))
        self._channels: BoundedCache[str, Channel] = BoundedCache(50_000)

    @abstractmethod
    async def act(self, target: Target, begin_by: float) -> Result:
        """Do one action. Raise PowerError for a fault, TooLateError where `begin_by` was missed.

        At most one `act` runs per `channel_of` at a time; it is cancelled after the target's `seconds`.
        """

    def channel_of(self, target: Target) -> str:
        """What must be talked to one action at a time; by default the BMC's address."""
        return target.address

    async def perform(self, targets: Sequence[Target], *, begin_by: float) -> AsyncGenerator[Result, None]:
        """See PowerDriver.perform."""
        ready: asyncio.Queue[Result] = asyncio.Queue()
        queues: dict[str, list[Target]] = {}
        for target in targets:
            queues.setdefault(self.channel_of(target), []).append(target)
        tasks = [
            asyncio.create_task(self._serve(address, queue, begin_by, ready.put_nowait))
            for address, queue in queues.items()
        ]
        try:
            for _ in targets:
                yield await ready.get()
        finally:
            for task in tasks:
                task.cancel()

    async def _serve(
        self, address: str, queue: Iterable[Target], begin_by: float, report: Callable[[Result], None]
    ) -> None:
        channel = self._channels.recall(address)
        if channel is None:
            channel = Channel()
            self._channels.keep(address, channel)
        for target in queue:
            report(await self._attempt(channel, target, begin_by))

    async def _attempt(self, channel: Channel, target: Target, begin_by: float) -> Result:
        """One action within all bounds; whatever goes wrong is its Result."""
        switch = target.action not in (Action.STATE, Action.LOCATE, Action.UNLOCATE)
        if channel.breaker.is_open(to_switches=switch):
            return failure(target, Reason.UNREACHABLE, NO_ANSWER)
        try:
            target = await self._with_credentials(target, begin_by)
        except PowerError as error:
            return failure(target, error.reason, error.error)
        except TimeoutError:
            return Result(key=target.key, ok=False, begun=False)
        try:
            place = await self._begin(channel, begin_by)
        except TimeoutError:
            return Result(key=target.key, ok=False, begun=False)
        try:
            # Other actions on this BMC may have found it dead while this one was waiting.
            if channel.breaker.is_open(to_switches=switch):
                return failure(target, Reason.UNREACHABLE, NO_ANSWER)
            started = time.monotonic()
            result = await self._act_in_time(target, begin_by)
            if result.begun:
                channel.breaker.record(result.reason)
            return replace(result, seconds=time.monotonic() - started)
        finally:
            place.give_back()
            channel.lock.release()

    async def _with_credentials(self, target: Target, begin_by: float) -> Target:
        """The target with what Vault has for it. A Vault that is away is no fault of the BMC, so this comes
        before anything that counts against it. Raises PowerError, TimeoutError."""
        path = target.settings.get(VAULT_PATH.name)
        if not path:
            return target
        async with asyncio.timeout(max(begin_by - time.monotonic(), 0.0)):
            found = await read_credentials(path)
        secret = {setting.name: setting.secret for setting in self.settings}
        known = {name: value for name, value in found.items() if name in secret}
        return replace(
            target,
            settings={**target.settings, **{name: text for name, text in known.items() if not secret[name]}},
            secrets={name: text for name, text in known.items() if secret[name]},
        )

    async def _begin(self, channel: Channel, begin_by: float) -> Place:
        """Take the BMC's lock, then a place; TimeoutError when both were not to be had in time."""
        remaining = begin_by - time.monotonic()
        if remaining <= 0:  # asyncio.timeout only strikes where something is waited for
            raise TimeoutError
        async with asyncio.timeout(remaining):
            await channel.lock.acquire()
            try:
                places = self._suspects if channel.breaker.failures else self._places
                return await places.take()
            except BaseException:
                channel.lock.release()
                raise

    async def _act_in_time(self, target: Target, begin_by: float) -> Result:
        started = time.monotonic()
        try:
            async with asyncio.timeout(target.seconds or OPERATION_SECONDS):
                return await self.act(target, begin_by)
        except PowerError as error:
            return failure(target, error.reason, error.error)
        except TooLateError:
            # Begun late, so the queue was slow and not the BMC: nothing was switched, it was no attempt.
            if time.monotonic() - started < SLOW_SECONDS:
                return Result(key=target.key, ok=False, begun=False)
            return failure(target, Reason.TIMED_OUT, "BMC was too slow to be switched in time")
        except TimeoutError:
            return failure(target, Reason.TIMED_OUT, "BMC did not answer in time")
        except Exception:
            logger.error(
                "The %s driver failed at %s of %s.\n%s",
                self.kind, target.action, target.node, mask(traceback.format_exc(), target),
            )  # fmt: skip
            return failure(target, Reason.INTERNAL, "Internal fault of the power driver")


def failure(target: Target, reason: Reason, error: str) -> Result:
    """The Result of an action that did not succeed."""
    return Result(key=target.key, ok=False, reason=reason, error=error)


def mask(text: str, *targets: Target) -> str:
    """The text without the secrets of these targets. For logs and for what a BMC says about a request."""
    for target in targets:
        for secret in target.secrets.values():
            if secret:
                for form in _forms(str(secret), target):
                    text = text.replace(form, "***")
    return text


def _forms(secret: str, target: Target) -> Iterable[str]:
    """A secret as it may be met in requests and tracebacks: plain, quoted, JSON, basic-auth header."""
    yield secret
    yield repr(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
    yield quote(secret, safe="")
    with suppress(UnicodeEncodeError):
        user = str(target.settings.get("username", ""))
        yield base64.b64encode(f"{user}:{secret}".encode()).decode()
        yield base64.b64encode(secret.encode()).decode()
