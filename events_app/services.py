"""Record what happened; ring the bell; follow long actions."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import redis
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from events_app.models import BackgroundTask, EventCounter, Heartbeat, LifecycleEvent
from events_app.signals import event_recorded
from events_app.states import BackgroundTaskStatus

log = logging.getLogger(__name__)

BELL_CHANNEL = "muster:bell"
PAUSE = 2.0
TELL_EVERY = timedelta(milliseconds=250)  # a background task tells of its progress at most 4 times a second


class _Pending(threading.local):
    """Events of this thread's open `recording` blocks, innermost last; the steps that receivers want to
    wake while they are told."""

    def __init__(self) -> None:
        self.blocks: list[list[LifecycleEvent]] = []
        self.wakes: dict[tuple[str, tuple[Any, ...]], Any] | None = None


class _Pause:
    """After a failure nobody tries again for `PAUSE` seconds: what is away, or does not answer, must not
    hold up each commit anew."""

    def __init__(self) -> None:
        self._until = 0.0

    def __bool__(self) -> bool:
        return time.monotonic() < self._until

    def begin(self) -> None:
        """It has just failed."""
        self._until = time.monotonic() + PAUSE


_pending = _Pending()
_bell: dict[str, redis.Redis] = {}
_bell_pause = _Pause()
_wake_pause = _Pause()


@contextmanager
def recording() -> Iterator[None]:
    """A transaction whose events are written as its last statements.

    The numbers of events come from a locked row, so that they follow commit order: a reader that has seen
    n misses nothing below n. Drawing them last keeps that lock for the time of one insert. Blocks nest;
    events of an inner block that fails vanish with its changes.
    """
    block: list[LifecycleEvent] = []
    with transaction.atomic():
        _pending.blocks.append(block)
        try:
            yield
        finally:
            _pending.blocks.pop()
        if _pending.blocks:
            _pending.blocks[-1].extend(block)
        elif block:
            _write(block)


def record_event(
    *,
    name: str,
    area: str,
    subject_id: str = "",
    subject_name: str = "",
    data: dict[str, Any] | None = None,
    domain: str = "",
    project: str = "",
    access_key: str = "",
    user_id: int | None = None,
) -> LifecycleEvent:
    """Record one event with the change that it tells of: heard after commit, never after a rollback.

    Inside `recording` it is written (and gets its number) at the end of that block; elsewhere at once, in a
    transaction of its own or the caller's (whose commit the counter's lock then waits for).
    """
    event = LifecycleEvent(
        name=name,
        area=area,
        subject_id=subject_id,
        subject_name=subject_name,
        data=data or {},
        domain=domain,
        project=project,
        access_key=access_key,
        user_id=user_id,
    )
    if _pending.blocks:
        _pending.blocks[-1].append(event)
    else:
        with transaction.atomic():
            _write([event])
    return event


def _write(events: list[LifecycleEvent]) -> None:
    first = EventCounter.draw(len(events))
    now = timezone.now()
    for offset, event in enumerate(events):
        event.number = first + offset
        event.at = now
    LifecycleEvent.objects.bulk_create(events)
    transaction.on_commit(lambda: _tell(events))


def _tell(events: list[LifecycleEvent]) -> None:
    ring_bell(events[-1].number)
    outer = _pending.wakes
    wakes: dict[tuple[str, tuple[Any, ...]], Any] = {}
    _pending.wakes = wakes
    try:
        for event in events:
            if event.repeats is not None:
                continue  # it happened once: nothing is started by its being told again
            for receiver, answer in event_recorded.send_robust(sender=LifecycleEvent, event=event):
                if isinstance(answer, Exception):
                    log.error("%s failed on event %s: %s", receiver, event.number, answer)
    finally:
        _pending.wakes = outer
    # A commit of a thousand events wakes a step once: a message says "look", not what there is to see.
    for (_, arguments), step in wakes.items():
        _send_wake(step, arguments)


MOST_RESENT = 1000


def resend_events(numbers: Iterable[int]) -> int:
    """Tell these events again, in their order, to whoever listens; return how many.

    For listeners that lost what they had heard. Each becomes a new row with a number of its own, marked as a
    repeat: readers with a cursor see it once, in order, and nothing is started by it. At most MOST_RESENT
    at a time, the oldest; repeats are not repeated.
    """
    rows = LifecycleEvent.objects.filter(pk__in=list(numbers), repeats=None).order_by("number")
    kept = ("name", "area", "subject_id", "subject_name", "data", "domain", "project", "access_key")
    again = [
        LifecycleEvent(**{name: getattr(row, name) for name in kept}, user_id=row.user_id, repeats=row.number)
        for row in rows[:MOST_RESENT]
    ]
    if again:
        with transaction.atomic():
            _write(again)
    return len(again)


def ring_bell(number: int) -> None:
    """Say over Redis that there are events up to `number`. A bell that can't ring is no fault: readers look
    by themselves every second."""
    if _bell_pause:
        return
    try:
        bell().publish(BELL_CHANNEL, str(number))
    except redis.RedisError as error:
        _bell_pause.begin()
        log.debug("The bell did not ring: %s", error)


def bell() -> redis.Redis:
    """This process's Redis client for the bell, with short time-outs: nobody waits for a bell."""
    url = settings.REDIS_URL
    if url not in _bell:
        _bell[url] = redis.Redis.from_url(url, socket_connect_timeout=0.5, socket_timeout=0.5)
    return _bell[url]


def wake(step: Any, *args: Any) -> None:
    """Queue a Celery step after commit. A message is only a wake-up: where the broker is away the beat's
    next tick does the same, so failing to send it is logged and forgotten."""

    def send() -> None:
        if _pending.wakes is not None:
            _pending.wakes[step.name, args] = step
        else:
            _send_wake(step, args)

    transaction.on_commit(send)


def _send_wake(step: Any, arguments: tuple[Any, ...]) -> None:
    if _wake_pause:
        return
    try:
        step.apply_async(arguments, ignore_result=True, expires=60)
    except Exception as error:  # kombu raises its own, the client's and the socket's errors
        _wake_pause.begin()
        log.warning("Could not wake %s, nor anybody for %g s: %s", step.name, PAUSE, error)


# -- background tasks ---------------------------------------------------------------------------------


def start_background_task(
    *,
    kind: str,
    owner: Any = None,
    domain: str = "",
    subject: str = "",
    message: str = "",
    total: int = 0,
) -> BackgroundTask:
    """Open a progress bar for `owner` (a user, or None for the service itself); total 0 = unknown."""
    return BackgroundTask.objects.create(
        kind=kind, owner=owner, domain=domain, subject=subject, message=message, total_progress=total
    )


def report_progress(
    task_id: Any, *, current: int, total: int | None = None, message: str | None = None
) -> None:
    """Store how far a background task is; tell of it at most every 250 ms.

    What is stored too soon after the last telling is told by the next call or by `tell_untold`, so the
    last state is never lost. A finished task is left as it is.
    """
    now = timezone.now()
    values: dict[str, Any] = {"current_progress": current, "updated_at": now, "untold": True}
    if total is not None:
        values["total_progress"] = total
    if message is not None:
        values["message"] = message
    BackgroundTask.objects.filter(pk=task_id, status=BackgroundTaskStatus.STARTED).update(**values)
    tell_untold(only=task_id)


def tell_untold(only: Any = None) -> int:
    """Send bgtask_updated for tasks whose progress is stored and not yet told; return how many."""
    now = timezone.now()
    due = BackgroundTask.objects.filter(
        untold=True, status=BackgroundTaskStatus.STARTED, told_at__lte=now - TELL_EVERY
    )
    if only is not None:
        due = due.filter(pk=only)
    told = 0
    for task in due[:500]:
        with recording():
            # The condition lets one of several processes tell, not each.
            if BackgroundTask.objects.filter(pk=task.pk, untold=True, told_at=task.told_at).update(
                untold=False, told_at=now
            ):
                record_event(**task.event("bgtask_updated", task.progress_data()))
                told += 1
    return told


def finish_background_task(
    task_id: Any, *, status: str, message: str = "", result: Any = None, current: int | None = None
) -> bool:
    """End a background task as done, failed or cancelled; False where it had ended before."""
    with recording():
        task = BackgroundTask.objects.select_for_update().filter(pk=task_id).first()
        if task is None or task.status != BackgroundTaskStatus.STARTED:
            return False
        if current is None:
            current = task.total_progress if status == BackgroundTaskStatus.DONE else task.current_progress
        now = timezone.now()
        task.move_to(
            status,
            message=message,
            result=result,
            current_progress=current,
            updated_at=now,
            finished_at=now,
            untold=False,
        )
        return True


@contextmanager
def followed(*, kind: str, owner: Any = None, subject: str = "", total: int = 0) -> Iterator[BackgroundTask]:
    """A background task around work that is done here and now, such as an import.

    It is done when the block ends, with the `message` and `result` that the block gives the yielded row;
    failed when the block raises, with the error's words. What the block writes in one transaction can't be
    told before that is over, so the bar goes from 0 to its end; a terminal shows the way between.
    """
    task = start_background_task(kind=kind, owner=owner, subject=subject, total=total, message="Begun")
    report_progress(task.pk, current=0)  # told now: nothing is told again before the end
    try:
        yield task
    except BaseException as error:
        said = str(error)[:1000] or "It was ended before its end."
        finish_background_task(task.pk, status=BackgroundTaskStatus.FAILED, message=said)
        raise
    finish_background_task(
        task.pk, status=BackgroundTaskStatus.DONE, message=task.message, result=task.result
    )


# -- upkeep -------------------------------------------------------------------------------------------


def note_seen(name: str) -> None:
    """Note that a part of the service is at work now."""
    Heartbeat.objects.update_or_create(name=name, defaults={"seen_at": timezone.now()})


def seen_within(name: str, seconds: float) -> bool:
    """Whether a part of the service was at work in the last `seconds`."""
    return Heartbeat.objects.filter(
        name=name, seen_at__gte=timezone.now() - timedelta(seconds=seconds)
    ).exists()


def give_up_silent() -> int:
    """End the tasks of `followed` whose process was killed, for nothing else would; return how many."""
    oldest = timezone.now() - timedelta(hours=1)
    silent = BackgroundTask.objects.filter(
        status=BackgroundTaskStatus.STARTED, kind__startswith="import_", updated_at__lt=oldest
    )
    said = "Its process ended before it was done; nothing was imported."
    return sum(
        finish_background_task(pk, status=BackgroundTaskStatus.FAILED, message=said)
        for pk in list(silent.values_list("pk", flat=True))
    )


def prune() -> tuple[int, int]:
    """Forget events and results that are older than kept; return how many of each."""
    give_up_silent()
    now = timezone.now()
    oldest = now - timedelta(days=settings.MUSTER_EVENTS_KEPT_DAYS)
    events = LifecycleEvent.objects.filter(at__lt=oldest)._raw_delete(connection.alias)
    ended = now - timedelta(hours=settings.MUSTER_BACKGROUND_TASK_HOURS)
    tasks, _ = BackgroundTask.objects.filter(finished_at__lt=ended).delete()
    return events, tasks
