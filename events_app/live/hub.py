"""The hub: reads the event table once for all listeners of this process.

A listener is in a group with all that have the same filter and format; what a group hears is encoded and
joined once. Numbers follow commit order, so one number per listener (`seen`) says all about where he is:
who joins, or was too slow, is brought forward from the kept rows or the table and then put into his group.
Everything here runs in one event loop; only the database is asked in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.db import Error as DatabaseFault
from django.db import connection

from events_app.live import bell, rows
from events_app.live.encoding import Format, Piece
from events_app.live.filters import Filter, Hearer, keys_of
from events_app.live.rows import Row
from events_app.live.sockets import Socket, chunk

log = logging.getLogger(__name__)

TICK = 0.02  # events of this long are joined into one write per listener
LOOK_EVERY = 1.0  # without a bell
BATCH = 1000  # rows per look
PIECE_LIMIT = 64 * 1024  # bytes of one write to one listener
TOO_MUCH = 64 * 1024  # unsent bytes at which a listener leaves his group until he has read them
LITTLE = 8 * 1024
STALLED = 20.0  # seconds after which one who reads too little is dropped
UNSENT_LIMIT = 96 * 1024 * 1024  # of all slow listeners together
SLICE = 250  # writes between two turns of the event loop
KEPT_ROWS, KEPT_BYTES, KEPT_AT_START = 20_000, 16 * 1024 * 1024, 2000
REACH_BACK = 12_000  # numbers for which the kept rows are completed where somebody comes from before them
WHEEL = 0.25  # seconds per slot of the heartbeat
RECHECK_EVERY = 10.0

Result = TypeVar("Result")
Recheck = Callable[[Collection[Hearer]], Collection[Hearer]]


class Stream:
    """One listener: what he hears, how it is written, and up to which number he has it."""

    __slots__ = ("filter", "format", "group", "hearer", "over", "seen", "slow_since", "socket", "task")

    def __init__(self, hearer: Hearer, filter: Filter, format: Format, socket: Socket) -> None:
        self.hearer = hearer
        self.filter = filter
        self.format = format
        self.socket = socket
        self.seen = 0
        self.group: Group | None = None
        self.task: asyncio.Task[None] | None = None
        self.over = False
        self.slow_since = 0.0

    def write(self, body: bytes) -> None:
        """Write one body, framed as this connection needs it."""
        self.socket.write(chunk(body) if self.socket.framed else body)


class Group:
    """Listeners who hear the same in the same form."""

    __slots__ = ("filter", "format", "next_at", "pending", "streams")

    def __init__(self, filter: Filter, format: Format) -> None:
        self.filter = filter
        self.format = format
        self.streams: dict[Stream, None] = {}
        self.pending: list[Row] = []
        self.next_at = 0.0


class Hub:
    """See the module. `start` it in the event loop that serves; `recheck` names the hearers, out of those
    given, whose rights are no longer what they were when they came."""

    def __init__(self, *, redis_url: str, recheck: Recheck) -> None:
        self.last = 0
        self.stopping = False
        self.streams: set[Stream] = set()
        self.held: Counter[int] = Counter()  # streams by user
        self.listeners: list[Callable[[Sequence[Row]], None]] = []  # who else wants all rows of this process
        self._redis_url = redis_url
        self._recheck = recheck
        self._recheck_now = False
        self._groups: dict[tuple[Filter, Format], Group] = {}
        self._routes: dict[Hashable, dict[Group, None]] = defaultdict(dict)
        self._held: set[Group] = set()
        self._slow: dict[Stream, None] = {}
        self._kept: list[Row] = []
        self._kept_bytes = 0
        self._kept_after = 0  # the number beyond which `_kept` has every event
        self._reaching_back = asyncio.Lock()
        self._wheel: dict[int, list[Stream]] = defaultdict(list)
        self._bell = asyncio.Event()
        self._ready = asyncio.Event()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="events-reader")
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="events")
        self._tasks: list[asyncio.Task[None]] = []

    # -- life ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to read. Called in the event loop."""
        self._loop = asyncio.get_running_loop()
        listening = bell.listen(self._redis_url, self.ring)
        for work in (self._read_on(), listening, self._look_after(), self._watch_rights()):
            self._tasks.append(self._loop.create_task(work))

    async def ready(self, patience: float) -> bool:
        """Wait until the table was read once; False where the database does not answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._ready.wait()
        return self._ready.is_set()

    def stop(self) -> None:
        """End all streams properly; their listeners resume at another process."""
        self.stopping = True
        for stream in list(self.streams):
            self.finish(stream)

    def close(self) -> None:
        """Stop, and give back threads and tasks."""
        self.stop()
        for task in self._tasks:
            task.cancel()
        self._reader.shutdown(wait=False, cancel_futures=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def ring(self) -> None:
        """There may be something to read."""
        self._bell.set()

    async def ask(self, question: Callable[..., Result], *arguments: Any) -> Result:
        """Ask the database in one of the hub's few threads, each with a connection of its own."""
        return await self._loop.run_in_executor(self._pool, _with_connection, question, arguments)

    # -- listeners ----------------------------------------------------------------------------------

    def join(self, stream: Stream, after: int) -> None:
        """Let a started response hear everything beyond `after`."""
        self.streams.add(stream)
        self.held[stream.hearer.user_id] += 1
        self._beat_later(stream)
        if after == self.last:
            self._attach(stream, self.last)
        else:
            stream.task = self._loop.create_task(self._bring_forward(stream, after))

    async def is_lost(self, cursor: int) -> bool:
        """Whether what is beyond `cursor` can't be replayed: pruned, or of a history that is not this one."""
        if cursor > self.last:
            return cursor > await self.ask(rows.newest)
        return cursor < self._kept_after and cursor < await self.ask(rows.kept_after)

    def leave(self, stream: Stream) -> None:
        """Forget a listener."""
        stream.over = True
        if stream in self.streams:
            self.streams.remove(stream)
            self._let_go(stream.hearer.user_id)
        self._slow.pop(stream, None)
        self._detach(stream)
        if stream.task is not None and stream.task is not asyncio.current_task():
            stream.task.cancel()

    def _let_go(self, user_id: int) -> None:
        self.held[user_id] -= 1
        if not self.held[user_id]:
            del self.held[user_id]

    def finish(self, stream: Stream) -> None:
        """End his response and forget him."""
        if not stream.over:
            stream.socket.end()
            self.leave(stream)

    def _attach(self, stream: Stream, number: int) -> None:
        """Put a listener who has everything up to `number`, the hub's last, into his group."""
        key = (stream.filter, stream.format)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(*key)
            for route in group.filter.routes():
                self._routes[route][group] = None
        if group.pending:
            # He has seen what is held back for the others.
            self._write_all(group, list(group.streams))
        stream.seen = number
        stream.group = group
        group.streams[stream] = None

    def _detach(self, stream: Stream) -> None:
        group, stream.group = stream.group, None
        if group is None:
            return
        del group.streams[stream]
        if group.streams:
            return
        del self._groups[group.filter, group.format]
        self._held.discard(group)
        for route in group.filter.routes():
            del self._routes[route][group]
            if not self._routes[route]:
                del self._routes[route]

    async def _bring_forward(self, stream: Stream, after: int) -> None:
        """Replay what is beyond `after`, at the listener's own pace, then let him hear with the others."""
        number = after
        try:
            while not stream.over:
                if number > self.last:
                    await self._reach(number)
                elif number == self.last:
                    # Nothing was awaited since the comparison, so nothing can slip in between.
                    self._attach(stream, number)
                    return
                else:
                    replayed = await self._replay(stream, number)
                    if replayed is None:
                        return
                    number = replayed
        except DatabaseFault as fault:
            log.warning("A replay was broken off, the listener will resume: %s", fault)
            self.finish(stream)
        except Exception:
            log.exception("A replay failed; the listener may resume.")
            self.finish(stream)

    async def _replay(self, stream: Stream, number: int) -> int | None:
        """Write what is next beyond `number`; return up to where that was, None where he does not read."""
        if self.last - REACH_BACK <= number < self._kept_after:
            await self._reach_back(number)
        if number >= self._kept_after:
            begin = bisect_right(self._kept, number, key=lambda row: row.number)
            found = self._kept[begin : begin + BATCH]
            upto = found[-1].number if len(found) == BATCH else self.last
            await asyncio.sleep(0)  # the others have their turn between two batches
        else:
            found, upto = await self.ask(rows.read_between, number, self.last, BATCH, stream.filter.narrow)
        wanted = [row for row in found if stream.filter.passes(row)]
        for pieces in _portions(stream.format.encode(wanted)):
            stream.write(b"".join(piece for _, piece in pieces))
            stream.seen = pieces[-1][0]
            if stream.socket.unsent() > TOO_MUCH and not await self._has_read(stream):
                return None
        stream.seen = upto
        if wanted and stream.format.ends(wanted[-1]):
            self.finish(stream)
        return upto

    async def _reach_back(self, number: int) -> None:
        """Complete the kept rows down to `number`, as far as they may grow: after a restart all listeners
        come from about the same place, and so it is read and encoded once."""
        async with self._reaching_back:
            while number < self._kept_after and self._kept_bytes < KEPT_BYTES * 3 // 4:
                upto = self._kept_after
                begin = max(number, upto - BATCH)
                older, _ = await self.ask(rows.read_between, begin, upto, BATCH, lambda events: events)
                if upto == self._kept_after:  # else rows were dropped meanwhile, and these would leave a gap
                    self._kept[:0] = older
                    self._kept_bytes += sum(row.size for row in older)
                    self._kept_after = begin

    async def _reach(self, number: int) -> None:
        """Wait until the hub has read up to `number`, which somebody else saw in the table."""
        for _ in range(200):
            if self.last >= number:
                return
            self.ring()
            await asyncio.sleep(0.05)
        raise DatabaseFault(f"Event {number} can't be read.")

    # -- slow listeners -----------------------------------------------------------------------------

    def _set_aside(self, stream: Stream) -> None:
        """A listener reads slower than he is written to: out of the group, go on from where he was."""
        self._detach(stream)
        stream.task = self._loop.create_task(self._wait_for(stream))

    async def _wait_for(self, stream: Stream) -> None:
        if await self._has_read(stream):
            await self._bring_forward(stream, stream.seen)

    async def _has_read(self, stream: Stream) -> bool:
        """Wait until little is unsent; False where he left or stalled, and then he is dropped."""
        stream.slow_since = self._loop.time()
        self._slow[stream] = None
        pause = 0.02
        try:
            while not stream.over and not stream.socket.closed:
                if stream.socket.unsent() <= LITTLE:
                    return True
                if self._loop.time() - stream.slow_since > STALLED:
                    self._drop(stream)
                    break
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, 0.5)
            return False
        finally:
            self._slow.pop(stream, None)

    def _drop(self, stream: Stream) -> None:
        log.info("A listener who does not read was dropped; %s bytes unsent.", stream.socket.unsent())
        stream.socket.abort()
        self.leave(stream)

    # -- reading ------------------------------------------------------------------------------------

    async def _read_on(self) -> None:
        fault = ""
        while True:
            try:
                more = await self._round() if self._ready.is_set() else await self._begin()
            except DatabaseFault as error:
                if str(error) != fault:
                    fault = str(error)
                    log.warning("Events can't be read, trying each second: %s", fault)
                await asyncio.sleep(1.0)
                continue
            except Exception:
                log.exception("A round of the event hub failed.")
                await asyncio.sleep(1.0)
                continue
            fault = ""
            if not more:
                await asyncio.sleep(TICK)
                await self._wait_for_bell()

    async def _wait_for_bell(self) -> None:
        patience = LOOK_EVERY
        if self._held:
            due = min(group.next_at for group in self._held)
            patience = min(patience, max(due - self._loop.time(), 0.001))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._bell.wait()
        self._bell.clear()

    async def _begin(self) -> bool:
        number = await self._read(rows.newest)
        kept = await self._read(rows.read_after, max(number - KEPT_AT_START, 0), KEPT_AT_START)
        self._kept = [row for row in kept if row.number <= number]
        self._kept_bytes = sum(row.size for row in self._kept)
        self._kept_after = self._kept[0].number - 1 if self._kept else number
        self.last = number
        self._ready.set()
        return True

    async def _round(self) -> bool:
        """Read what is new and spread it; True where there is more."""
        found = await self._read(rows.read_after, self.last, BATCH)
        if found:
            self.last = found[-1].number
            self._keep(found)
        touched = self._route(found)
        now = self._loop.time()
        for group in touched | {group for group in self._held if group.next_at <= now}:
            if group.next_at > now:
                self._held.add(group)
                continue
            group.next_at = now + group.format.joins_for
            self._held.discard(group)
            await self._flush(group)
        for listener in self.listeners if found else ():
            listener(found)
        return len(found) == BATCH

    async def _read(self, question: Callable[..., Result], *arguments: Any) -> Result:
        return await self._loop.run_in_executor(self._reader, _with_connection, question, arguments)

    def _keep(self, found: list[Row]) -> None:
        self._kept.extend(found)
        self._kept_bytes += sum(row.size for row in found)
        if len(self._kept) <= KEPT_ROWS and self._kept_bytes <= KEPT_BYTES:
            return
        drop = 0
        # A quarter more than needed, so that the list is not moved in each round.
        while drop < len(self._kept) - 1 and (
            len(self._kept) - drop > KEPT_ROWS * 3 // 4 or self._kept_bytes > KEPT_BYTES * 3 // 4
        ):
            self._kept_bytes -= self._kept[drop].size
            drop += 1
        self._kept_after = self._kept[drop - 1].number if drop else self._kept_after
        del self._kept[:drop]

    def _route(self, found: list[Row]) -> set[Group]:
        """Hand each row to the groups that hear it."""
        touched: set[Group] = set()
        for row in found:
            if row.area == "account":
                self._recheck_now = True
            for key in keys_of(row) if self._routes else ():
                for group in self._routes.get(key, ()):
                    pending = group.pending
                    if (pending and pending[-1] is row) or not group.filter.passes(row):
                        continue
                    pending.append(row)
                    touched.add(group)
        return touched

    # -- writing ------------------------------------------------------------------------------------

    async def _flush(self, group: Group) -> None:
        """Write what is pending, a slice of the listeners at a time."""
        found, group.pending = group.pending, []
        streams = list(group.streams)
        for portion in self._portions_of(group, found):
            for start in range(0, len(streams), SLICE):
                if start:
                    await asyncio.sleep(0)
                self._write_portion(portion, group, streams[start : start + SLICE])

    def _write_all(self, group: Group, streams: list[Stream]) -> None:
        found, group.pending = group.pending, []
        self._held.discard(group)
        for portion in self._portions_of(group, found):
            self._write_portion(portion, group, streams)

    def _portions_of(self, group: Group, found: list[Row]) -> list[tuple[int, bytes, bytes, bool]]:
        """For each write: its newest number, its plain and its framed bytes, whether it is the last ever."""
        ends = bool(found) and group.format.ends(found[-1])
        portions = []
        for pieces in _portions(group.format.encode(found)):
            framed = b"".join(chunk(piece) for _, piece in pieces)
            plain = b"".join(piece for _, piece in pieces)
            portions.append((pieces[-1][0], plain, framed, ends and pieces[-1][0] == found[-1].number))
        return portions

    def _write_portion(
        self, portion: tuple[int, bytes, bytes, bool], group: Group, streams: list[Stream]
    ) -> None:
        upto, plain, framed, ends = portion
        for stream in streams:
            # Meanwhile he may have left, been set aside, or come back with all of it.
            if stream.group is not group or stream.seen >= upto:
                continue
            socket = stream.socket
            socket.write(framed if socket.framed else plain)
            stream.seen = upto
            if ends:
                self.finish(stream)
            elif socket.unsent() > TOO_MUCH:
                self._set_aside(stream)

    # -- heartbeat and rights -----------------------------------------------------------------------

    def _beat_later(self, stream: Stream) -> None:
        self._wheel[int((self._loop.time() + stream.format.ping_every) / WHEEL) + 1].append(stream)

    async def _look_after(self) -> None:
        """Heartbeats, the bound of all slow listeners together. Nothing here waits for the database."""
        slot = int(self._loop.time() / WHEEL)
        while True:
            await asyncio.sleep(WHEEL)
            now = self._loop.time()
            while slot <= int(now / WHEEL):
                for stream in self._wheel.pop(slot, ()):
                    self._beat(stream)
                slot += 1
            self._bound_unsent()

    def _beat(self, stream: Stream) -> None:
        if stream.over:
            return
        if not stream.socket.unsent():
            stream.write(stream.format.ping)
        self._beat_later(stream)

    def _bound_unsent(self) -> None:
        total = sum(stream.socket.unsent() for stream in self._slow)
        while total > UNSENT_LIMIT and self._slow:
            stream = next(iter(self._slow))
            total -= stream.socket.unsent()
            self._drop(stream)

    async def _watch_rights(self) -> None:
        """Every so often, and soon after an event that tells of accounts."""
        recheck_at = 0.0
        while True:
            await asyncio.sleep(WHEEL)
            if self.streams and (self._recheck_now or self._loop.time() >= recheck_at):
                self._recheck_now = False
                recheck_at = self._loop.time() + RECHECK_EVERY
                try:
                    await self._check_rights()
                except Exception:
                    log.exception("The rights of listeners were not checked.")

    async def _check_rights(self) -> None:
        """End the streams of those whose rights have changed: who may still listen comes back."""
        last = self.last
        try:
            changed = set(await self.ask(self._recheck, {stream.hearer for stream in self.streams}))
            behind = await self.ask(rows.newest) < last
        except DatabaseFault as fault:
            log.warning("The rights of listeners can't be checked: %s", fault)
            return
        for stream in [stream for stream in self.streams if stream.hearer in changed]:
            self.finish(stream)
        if behind:
            log.warning("The event table was set back; all listeners start anew.")
            self._ready.clear()
            for stream in list(self.streams):
                self.finish(stream)


def _with_connection(question: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    """Ask on this thread's own connection, which is opened anew when it broke."""
    connection.close_if_unusable_or_obsolete()
    try:
        return question(*arguments)
    except DatabaseFault:
        connection.close()
        raise


def _portions(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Pieces gathered to writes of about PIECE_LIMIT."""
    portions: list[list[Piece]] = []
    size = PIECE_LIMIT
    for piece in pieces:
        if size >= PIECE_LIMIT:
            portions.append([])
            size = 0
        portions[-1].append(piece)
        size += len(piece[1])
    return portions
