"""GET /events/background-task on the wire, and how progress gets there."""

from __future__ import annotations

import json
import threading
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from accounts_app.states import Role
from events_app.models import BackgroundTask, LifecycleEvent
from events_app.services import (
    TELL_EVERY,
    finish_background_task,
    report_progress,
    start_background_task,
    tell_untold,
)
from events_app.states import BackgroundTaskStatus
from tests import factories
from tests.base import wait_until
from tests.events.wire import Web, bearer, data_of

pytestmark = pytest.mark.process

V7 = {"X-BackendAI-Version": "v7.20230615"}
V5 = {"X-BackendAI-Version": "v5.20191215"}
DONE, FAILED, CANCELLED = (
    BackgroundTaskStatus.DONE,
    BackgroundTaskStatus.FAILED,
    BackgroundTaskStatus.CANCELLED,
)


def begin(owner: Any, total: int = 2, **fields: Any) -> BackgroundTask:
    """A background task that may tell of its progress at once."""
    task = start_background_task(kind="test", owner=owner, total=total, **fields)
    BackgroundTask.objects.filter(pk=task.pk).update(told_at=timezone.now() - timedelta(seconds=5))
    return task


def told_of(task: BackgroundTask) -> QuerySet[LifecycleEvent]:
    """The events of a task, in order."""
    return LifecycleEvent.objects.filter(subject_id=str(task.pk)).order_by("number")


def without_ids(text: bytes) -> bytes:
    """The stream without our `id` lines: what Backend.AI's server sends."""
    return b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"id: "))


def test_a_task_is_followed_to_its_end_byte_by_byte(web: Web):
    issued = factories.make_key(factories.make_olga())
    task = begin(issued.key.user)
    name = str(task.pk).encode()
    with web.listen(f"/events/background-task?task_id={task.pk}", bearer(issued) | V7) as stream:
        assert stream.raw == b""
        report_progress(task.pk, current=1, message="step 1")
        stream.wait_for(1)
        finish_background_task(task.pk, status=DONE, message="all good")
        stream.read_to_end()
        assert without_ids(stream.body) == (
            b'event: bgtask_updated\r\ndata: {"task_id": "' + name + b'", "message": "step 1", '
            b'"current_progress": 1, "total_progress": 2}\r\nretry: 5\r\n\r\n'
            b'event: bgtask_done\r\ndata: {"task_id": "' + name + b'", "message": "all good"}\r\n'
            b"retry: 5\r\n\r\n"
            b"event: server_close\r\ndata: {}\r\n\r\n"
        )
        numbers = [event["id"] for event in stream.events if "id" in event]
        assert numbers == [str(number) for number in told_of(task).values_list("number", flat=True)]


def test_names_follow_the_callers_version(web: Web):
    issued = factories.make_key(factories.make_olga())
    task = begin(issued.key.user)
    streams = [
        web.listen(f"/events/background-task?taskId={task.pk}", bearer(issued) | version)
        for version in ({}, V5, V7)
    ]
    finish_background_task(task.pk, status=FAILED, message="RuntimeError('boom')")
    for stream, wanted in zip(streams, ("task_failed", "task_failed", "bgtask_failed"), strict=True):
        with stream:
            stream.read_to_end()
            assert [event["event"] for event in stream.events] == [wanted, "server_close"]
            assert data_of(stream.events[0])["message"] == "RuntimeError('boom')"


def test_a_finished_task_is_one_event_and_the_end(web: Web):
    issued = factories.make_key(factories.make_olga())
    for status in (DONE, FAILED, CANCELLED):
        task = begin(issued.key.user)
        finish_background_task(task.pk, status=status, message="over")
        path = f"/events/background-task?task_id={task.pk}"
        _, headers, new = web.ask(path, headers=bearer(issued) | V7)
        assert headers["content-type"] == "text/event-stream"
        current = "2" if status == DONE else "0"
        assert (
            without_ids(new)
            == (
                f'event: bgtask_{status}\r\ndata: {{"task_id": "{task.pk}", "status": "{status}", '
                f'"current_progress": "{current}", "total_progress": "2", "message": "over"}}\r\n\r\n'
                "event: server_close\r\ndata: {}\r\n\r\n"
            ).encode()
        )
        _, _, old = web.ask(path, headers=bearer(issued))
        assert (
            without_ids(old)
            == (
                f'event: task_{status}\r\ndata: {{"task_id": "{task.pk}", "message": "over", '
                f'"current_progress": {current}, "total_progress": 2}}\r\n\r\n'
                "event: server_close\r\ndata: {}\r\n\r\n"
            ).encode()
        )


def test_a_cursor_at_a_finished_task_replays_what_was_missed_and_no_more(web: Web):
    issued = factories.make_key(factories.make_olga())
    task = begin(issued.key.user)
    report_progress(task.pk, current=1)
    finish_background_task(task.pk, status=DONE)
    updated, done = told_of(task).values_list("number", flat=True)
    path = f"/events/background-task?task_id={task.pk}"
    wanted = {updated - 1: ["task_updated", "task_done"], updated: ["task_done"], done: []}
    for cursor, names in wanted.items():
        with web.listen(path, bearer(issued) | {"Last-Event-ID": str(cursor)}) as stream:
            stream.read_to_end()
            assert [event["event"] for event in stream.events] == [*names, "server_close"]


def test_a_snapshot_shows_the_bar_at_once(web: Web):
    issued = factories.make_key(factories.make_olga())
    task = begin(issued.key.user, total=10)
    report_progress(task.pk, current=4, message="four")
    with web.listen(f"/events/background-task?task_id={task.pk}&snapshot=1", bearer(issued)) as stream:
        assert data_of(stream.wait_for(1)[0]) == {
            "task_id": str(task.pk),
            "message": "four",
            "current_progress": 4,
            "total_progress": 10,
        }
        finish_background_task(task.pk, status=CANCELLED)
        stream.read_to_end()
        assert [event["event"] for event in stream.events] == [
            "task_updated",
            "task_cancelled",
            "server_close",
        ]


def test_unknown_expired_and_foreign_tasks_are_not_found(web: Web):
    domain = factories.make_domain("physics")
    una = factories.make_user("una", Role.USER, domain)
    keys = {
        "owner": factories.make_key(una),
        "colleague": factories.make_key(factories.make_user("carl", Role.USER, domain)),
        "admin": factories.make_key(factories.make_user("ada", Role.ADMIN, domain)),
        "stranger": factories.make_key(
            factories.make_user("stan", Role.ADMIN, factories.make_domain("biology"))
        ),
        "superadmin": factories.make_key(factories.make_olga()),
    }
    task = begin(una, domain="physics")
    finish_background_task(task.pk, status=DONE)
    expired = begin(una, domain="physics")
    finish_background_task(expired.pk, status=DONE)
    BackgroundTask.objects.filter(pk=expired.pk).update(finished_at=timezone.now() - timedelta(hours=25))
    allowed = {"owner", "admin", "superadmin"}
    for name, key in keys.items():
        status, _, body = web.ask(f"/events/background-task?task_id={task.pk}", headers=bearer(key))
        assert status == (200 if name in allowed else 404), name
        if status == 404:
            assert json.loads(body) == {
                "type": "https://api.backend.ai/probs/object-not-found",
                "title": "No such background task.",
                "data": "No such background task.",
            }
    for missing in (expired.pk, uuid.uuid4()):
        assert web.ask(f"/events/background-task?task_id={missing}", headers=bearer(keys["owner"]))[0] == 404


def test_what_is_wrong_with_the_parameters_is_said(web: Web):
    issued = factories.make_key(factories.make_olga())
    cases = {
        "": {"task_id": "is required"},
        "taskId=7": {"taskId": "cannot convert value to UUID"},
        f"task_id={uuid.uuid4()}&foo=1": {"foo": "foo is not allowed key"},
    }
    for query, data in cases.items():
        status, _, body = web.ask(f"/events/background-task?{query}", headers=bearer(issued))
        assert (status, json.loads(body)["data"]) == (400, data)


def test_an_end_between_the_look_and_the_stream_is_not_lost(web: Web):
    issued = factories.make_key(factories.make_olga())
    for _ in range(10):
        task = begin(issued.key.user)
        finisher = threading.Thread(target=_finish, args=(task.pk,))
        finisher.start()
        with web.listen(f"/events/background-task?task_id={task.pk}", bearer(issued)) as stream:
            stream.read_to_end()
            assert [event["event"] for event in stream.events] == ["task_done", "server_close"]
        finisher.join()


def _finish(task_id: uuid.UUID) -> None:
    try:
        finish_background_task(task_id, status=DONE)
    finally:
        connection.close()


def test_progress_is_told_at_most_four_times_a_second_and_its_last_state_always(web: Web):
    issued = factories.make_key(factories.make_olga())
    task = begin(issued.key.user, total=200)
    with web.listen(f"/events/background-task?task_id={task.pk}", bearer(issued)) as stream:
        began = timezone.now()
        for current in range(1, 201):
            report_progress(task.pk, current=current, message=f"{current} of 200")
        wait_until(
            lambda: tell_untold() or not BackgroundTask.objects.get(pk=task.pk).untold,
            what="the last state to be told",
        )
        told = list(told_of(task))
        assert told[-1].data["current_progress"] == 200
        # Not each gap: between the look at the clock and the commit a busy machine may take its time.
        assert len(told) <= 1 + (timezone.now() - began) / TELL_EVERY
        stream.wait_for(len(told))
        assert data_of(stream.events[-1])["message"] == "200 of 200"
