"""`manage.py watch TASK`: a background task in the terminal."""

from __future__ import annotations

import io
import threading
import uuid

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from rich.console import Console

from events_app.models import BackgroundTask
from events_app.services import finish_background_task, report_progress, start_background_task
from sessions_app import watch_task
from tests.base import wait_until


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is printed where there is no terminal."""
    monkeypatch.setattr(watch_task, "EVERY", 0.01)
    return io.StringIO()


@pytest.mark.django_db(transaction=True)
def test_a_task_is_followed_to_its_end(console: io.StringIO):
    task = start_background_task(kind="publish", subject="web", total=3, message="starting")
    ends: list[bool] = []

    def follow() -> None:
        try:
            ends.append(watch_task.follow(BackgroundTask.objects.get(pk=task.pk), Console(file=console)))
        finally:
            connection.close()

    watcher = threading.Thread(target=follow)
    watcher.start()
    wait_until(lambda: "0/3 starting" in console.getvalue(), what="the first line")
    report_progress(task.pk, current=2, message="two [of] three")
    wait_until(lambda: "2/3 two [of] three" in console.getvalue(), what="the second line")
    finish_background_task(task.pk, status="done", message="all good")
    watcher.join(30)
    assert ends == [True]
    assert console.getvalue().endswith("done: all good\n")


@pytest.mark.django_db(transaction=True)
def test_a_bar_is_drawn_on_a_terminal(console: io.StringIO):
    task = start_background_task(kind="publish", total=0)
    finish_background_task(task.pk, status="failed", message="no room")
    assert watch_task.follow(task, Console(file=console, force_terminal=True, width=100)) is False
    assert "no room" in console.getvalue()


@pytest.mark.django_db(transaction=True)
def test_the_command_tells_how_it_ended_and_knows_no_others():
    task = start_background_task(kind="publish")
    finish_background_task(task.pk, status="cancelled")
    with pytest.raises(SystemExit) as ended:
        call_command("watch", str(task.pk))
    assert ended.value.code == 1
    for name in (str(uuid.uuid4()), "nothing"):
        with pytest.raises(CommandError, match="no session or background task"):
            call_command("watch", name)
