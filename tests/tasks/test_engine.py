"""Runs with the fake driver: retries, coalescing, ticks, events of others. The test is the worker."""

from __future__ import annotations

import base64
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from accounts_app.models import User
from events_app.models import BackgroundTask, InvalidTransition, LifecycleEvent
from events_app.services import record_event
from tasks_app import engine, firing, pruning, recovery, services
from tasks_app.models import Run, RunLog, StateVersion, Task, TaskEvent, TerraformState, Trigger
from tasks_app.records import end_run
from tasks_app.rendering import backend_of
from tasks_app.schema import check_task_request
from tasks_app.serializers import finalize
from tasks_app.states import CLAIM, GIVE_UP, INTERRUPT_GRACE, RENEW, RunStatus, TaskStatus
from tasks_app.triggers import next_tick
from tasks_app.watch import RunWatch
from tests.factories import make_key
from tests.tasks.conftest import Api, fake_task

pytestmark = pytest.mark.django_db(transaction=True)


def make_task(olga: User, name: str = "task_a", **values: Any) -> Task:
    """A task of the fake driver that exists."""
    document = finalize(check_task_request(fake_task(name, **values))["task"])
    _, run = services.begin_task(document=document, domain=None, actor=olga)
    assert run is not None
    engine.work()
    return Task.objects.get(name=name, status=TaskStatus.ACTIVE)


def tick(task: Task) -> Run:
    """Let its schedule's time come."""
    task.triggers.update(due_at=timezone.now())
    firing.fire_due()
    return Run.objects.filter(task=task).order_by("-pk")[0]


def now_due() -> None:
    """Let the pauses between attempts be over."""
    Run.objects.filter(status=RunStatus.QUEUED).update(due_at=timezone.now())


def test_a_triggered_run_is_tried_three_times_and_one_event_says_it_as_the_original(olga: User):
    task = make_task(olga, fake={"fail": "apply", "error": "no"})
    run = tick(task)
    for attempt in (1, 2, 3):
        assert Run.objects.get(pk=run.pk).attempt == attempt
        now_due()
        engine.work()
    run.refresh_from_db()
    assert run.status == RunStatus.FAILED
    [event] = TaskEvent.objects.all()
    assert event.error == "retry attempt #2 failed 'no': retry attempt #1 failed 'no'"
    assert Task.objects.get().health == "errored"


def test_a_retry_waits_with_back_off(olga: User):
    task = make_task(olga, fake={"fail": "apply", "fail_times": 1})
    run = tick(task)
    engine.work()
    run.refresh_from_db()
    assert run.status == RunStatus.QUEUED
    assert run.due_at is not None
    assert timedelta(0) < run.due_at - timezone.now() < timedelta(seconds=1.6)
    now_due()
    engine.work()
    run.refresh_from_db()
    assert (run.status, run.attempt) == (RunStatus.SUCCEEDED, 2)
    assert TaskEvent.objects.get().success


def test_a_run_by_hand_is_not_tried_again(olga: User):
    task = make_task(olga, fake={"fail": "plan"})
    run = services.request_run(task=task, actor=olga)
    engine.work()
    run.refresh_from_db()
    assert (run.status, run.attempt) == (RunStatus.FAILED, 1)


def test_a_tick_without_changes_is_an_event_and_no_apply(olga: User, task_home: Path):
    task = make_task(olga)
    for _ in range(2):
        tick(task)
        engine.work()
    assert TaskEvent.objects.filter(success=True).count() == 2
    counts = json.loads(next(task_home.rglob("counts.json")).read_text())
    assert counts["apply_done"] == 1
    assert (
        Run.objects.order_by("-pk")[0].log.filter(text="Nothing has changed since the last apply.").exists()
    )


def test_after_a_failed_apply_a_tick_tries_again(olga: User, task_home: Path):
    task = make_task(olga, fake={"fail": "apply", "fail_times": 1}, retries=0)
    for _ in range(2):
        tick(task)
        engine.work()
    assert list(TaskEvent.objects.order_by("pk").values_list("success", flat=True)) == [False, True]


def test_a_tick_while_the_task_is_at_work_is_skipped(olga: User):
    task = make_task(olga)
    services.request_run(task=task, actor=olga)
    before = Run.objects.count()
    tick(task)
    assert Run.objects.count() == before
    assert LifecycleEvent.objects.filter(name="task_tick_skipped").exists()
    assert Trigger.objects.get().due_at > timezone.now()


def test_a_disabled_task_does_not_tick(olga: User):
    task = make_task(olga)
    services.update_enabled(task=task, enabled=False, actor=olga)
    before = Run.objects.count()
    tick(task)
    assert Run.objects.count() == before


def test_a_schedule_of_a_past_year_says_that_it_never_fires(olga: User):
    make_task(olga, condition={"schedule": {"cron": "0 0 1 1 * 2020"}})
    row = Trigger.objects.get()
    assert (row.due_at, row.error) == (None, "This schedule has no future time.")
    assert next_tick("no cron", timezone.now()) is None


def test_what_is_asked_twice_runs_once(olga: User):
    task = make_task(olga)
    first = services.request_run(task=task, actor=olga)
    assert services.request_run(task=task, actor=olga).pk == first.pk


def test_one_task_is_never_worked_on_twice_at_the_same_time(olga: User):
    task = make_task(olga)
    services.request_run(task=task, actor=olga)
    assert engine.claim_next() is not None
    services.request_run(task=task, actor=olga)
    assert engine.claim_next() is None


def test_a_worker_whose_claim_was_taken_writes_nothing(olga: User):
    task = make_task(olga)
    services.request_run(task=task, actor=olga)
    run = engine.claim_next()
    assert run is not None
    Run.objects.filter(pk=run.pk).update(claim=run.claim + 1)
    engine.execute(run)
    run.refresh_from_db()
    assert run.status == RunStatus.PLANNING
    assert TaskEvent.objects.count() == 0


def test_a_claim_that_runs_out_is_taken_over(olga: User):
    task = make_task(olga)
    services.request_run(task=task, actor=olga)
    run = engine.claim_next()
    assert run is not None
    recovery.sweep()
    assert Run.objects.get(pk=run.pk).status == RunStatus.PLANNING  # it lives: this is its process
    Run.objects.filter(pk=run.pk).update(claimed_until=timezone.now())
    recovery.sweep()
    engine.work()
    run.refresh_from_db()
    assert (run.status, run.interruptions) == (RunStatus.SUCCEEDED, 1)


def test_a_run_whose_worker_dies_again_and_again_is_given_up(olga: User):
    task = make_task(olga)
    services.request_run(task=task, actor=olga)
    for _ in range(20):
        run = engine.claim_next()
        if run is None:
            break
        Run.objects.filter(pk=run.pk).update(claimed_until=timezone.now())
        recovery.sweep()
    last = Run.objects.order_by("-pk")[0]
    assert last.status == RunStatus.FAILED
    assert last.error == "The worker died while planning, 11 times in all; given up."


def test_a_session_that_succeeds_starts_the_task(olga: User):
    condition = {"session": {"states": ["succeeded"], "name": "nightly-.*"}}
    task = make_task(olga, condition=condition)
    before = Run.objects.count()

    def ended(name: str, result: str) -> int:
        record_event(
            name="session_terminated",
            area="session",
            subject_id="1",
            subject_name=name,
            data={"result": result, "reason": ""},
        )
        firing.fire_due()
        return Run.objects.count() - before

    assert ended("other", "SUCCESS") == 0
    assert ended("nightly-1", "FAILURE") == 0
    assert ended("nightly-2", "SUCCESS") == 1
    firing.fire_due()
    assert Run.objects.filter(task=task).count() - before == 1  # an event counts once
    assert Run.objects.order_by("-pk")[0].trigger["detail"] == "session_terminated nightly-2"


def test_a_workflow_that_turns_red_starts_the_task(olga: User):
    task = make_task(olga, condition={"workflow": {"states": ["red"], "id": "w1"}})
    for workflow, colour in (("w1", "GREEN"), ("w2", "RED"), ("w1", "RED")):
        record_event(
            name="workflow_colour",
            area="workflow",
            subject_id=workflow,
            data={"workflowId": workflow, "actualStatus": colour},
        )
    firing.fire_due()
    assert Run.objects.filter(task=task, operation="apply").count() == 1


def test_an_event_of_another_domain_starts_nothing(olga: User):
    make_task(olga, condition={"session": {"states": ["ended"]}})
    record_event(name="session_terminated", area="session", data={"result": "SUCCESS"}, domain="tenant-a")
    firing.fire_due()
    assert not Run.objects.filter(operation="apply").exists()


def test_a_run_is_told_as_events_and_as_a_background_task(olga: User):
    task = make_task(olga)
    run = services.request_run(task=task, actor=olga)
    engine.work()
    run.refresh_from_db()
    names = LifecycleEvent.objects.filter(area="task", data__run=run.pk).values_list("name", flat=True)
    assert [name for name in names if name != "task_run_output"] == [
        "task_run_queued",
        "task_run_planning",
        "task_run_applying",
        "task_run_succeeded",
    ]
    assert "task_run_output" in names
    bar = BackgroundTask.objects.get(pk=run.background_task_id)
    assert (bar.owner, bar.status, bar.subject) == (olga, "done", "task_a")
    assert list(run.log.values_list("number", flat=True)) == list(range(1, run.lines + 1))


def test_what_could_not_be_written_is_written_when_the_database_is_back(olga: User):
    task = make_task(olga)
    services.request_run(task=task, actor=olga)
    run = engine.claim_next()
    assert run is not None
    tries = []

    def write() -> None:
        end_run(run, RunStatus.SUCCEEDED)
        tries.append(run.status)
        if len(tries) < 3:
            raise OperationalError("the server closed the connection unexpectedly")

    RunWatch(run).persist(write)
    assert len(tries) == 3
    assert Run.objects.get(pk=run.pk).status == RunStatus.SUCCEEDED
    assert TaskEvent.objects.count() == 1


def test_a_worker_that_cant_renew_its_claim_stops_before_it_runs_out(olga: User, monkeypatch: Any):
    task = make_task(olga)
    services.request_run(task=task, actor=olga)
    run = engine.claim_next()
    assert run is not None
    watch = RunWatch(run)
    assert watch.stop() == ""
    monkeypatch.setattr(watch, "_renewed", time.monotonic() - GIVE_UP - 1)
    monkeypatch.setattr(watch, "_renew", lambda: None)  # the database is away
    assert watch.stop() == "lost"
    assert GIVE_UP + INTERRUPT_GRACE + RENEW <= CLAIM
    # And one whose run was given to another worker stops at its next look.
    monkeypatch.undo()
    Run.objects.filter(pk=run.pk).update(claim=run.claim + 1)
    monkeypatch.setattr(watch, "_renewed", time.monotonic() - RENEW - 1)
    assert watch.stop() == "lost"


def test_what_cant_be_moved_is_refused(olga: User):
    task = make_task(olga)
    run = services.request_run(task=task, actor=olga)
    engine.work()
    run.refresh_from_db()
    for act in (services.approve_run, services.discard_run, services.cancel_run):
        with pytest.raises(InvalidTransition):
            act(run=run, actor=olga)
    services.update_enabled(task=task, enabled=False, actor=olga)
    task.refresh_from_db()
    with pytest.raises(InvalidTransition):
        services.request_run(task=task, actor=olga)


def test_a_waiting_run_is_cancelled_at_once_and_is_no_event(olga: User):
    task = make_task(olga)
    run = services.request_run(task=task, actor=olga)
    assert services.cancel_run(run=run, actor=olga).status == RunStatus.CANCELLED
    assert TaskEvent.objects.count() == 0


def test_old_history_is_pruned_and_the_newest_five_events_stay(olga: User, settings: Any):
    task = make_task(olga)
    for _ in range(8):
        tick(task)
        engine.work()
    old = timezone.now() - timedelta(days=1000)
    TaskEvent.objects.update(end_time=old)
    Run.objects.update(ended_at=old)
    newest = list(TaskEvent.objects.order_by("-pk").values_list("pk", flat=True)[:5])
    pruning.prune()
    assert sorted(TaskEvent.objects.values_list("pk", flat=True)) == sorted(newest)
    assert Run.objects.count() == 5
    assert not RunLog.objects.exclude(run__in=Run.objects.all()).exists()


def test_our_own_api_pages_through_all_history(olga: User, api: Api):
    task = make_task(olga)
    for _ in range(7):
        tick(task)
        engine.work()
    assert len(api.get("/v1/status/tasks/task_a?include=events").found["task_a"]["events"]) == 5
    page = api.get("/api/v1/tasks/task_a/events/?limit=4&offset=4").found
    assert (page["count"], len(page["results"])) == (7, 3)
    runs = api.get("/api/v1/tasks/task_a/runs/?limit=3").found
    assert (runs["count"], len(runs["results"])) == (8, 3)
    shown = api.get("/api/v1/tasks/").found["results"][0]
    assert shown["latest_run"]["number"] == 8
    assert shown["triggers"][0]["spec"] == {"cron": "0 0 1 1 *"}
    assert api.get("/api/v1/task-runs/?task=task_a&status=succeeded").found["count"] == 8
    assert api.get("/api/v1/task-runs/?nonsense=1").status_code == 400
    assert api.post("/api/v1/tasks/task_a/runs/", {"operation": "explode"}).status_code == 400
    assert api.get("/api/v1/tasks/nobody/runs/").status_code == 404
    assert api.get(f"/api/v1/task-runs/{runs['results'][0]['id']}/log/?after=x").status_code == 400


# -- state ---------------------------------------------------------------------------------------------


def _login(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"any:{password}".encode()).decode()}


def test_the_state_is_open_to_the_run_at_work_and_to_administrators(olga: User):
    task = make_task(olga, backend="http")
    services.request_run(task=task, actor=olga)
    run = engine.claim_next()
    assert run is not None
    password = backend_of(run)[1]["TF_HTTP_PASSWORD"]
    client, path = Client(), "/api/v1/tasks/task_a/state"
    assert client.get(path).status_code == 401
    assert client.get(path, headers=_login("guess")).status_code == 401
    assert client.get(path, headers=_login(password)).status_code == 404
    assert client.get(path, headers=_login(make_key(olga).token)).status_code == 404
    assert client.get("/api/v1/tasks/other/state", headers=_login(password)).status_code == 401
    # Given up for dead, it can't write any more.
    Run.objects.filter(pk=run.pk).update(claim=run.claim + 1)
    assert client.get(path, headers=_login(password)).status_code == 401


def test_the_state_is_locked_versioned_and_checked(olga: User):
    make_task(olga)
    client, path, login = Client(), "/api/v1/tasks/task_a/state", _login(make_key(olga).token)

    def ask(method: str, body: str = "", query: str = "", **headers: str) -> Any:
        return client.generic(
            method, path + query, body, content_type="application/json", headers={**login, **headers}
        )

    mine = json.dumps({"ID": "mine", "Who": "olga"})
    assert ask("LOCK", mine).status_code == 200
    held = ask("LOCK", json.dumps({"ID": "other"}))
    assert (held.status_code, held.json()) == (423, {"ID": "mine", "Who": "olga"})
    assert ask("POST", "{}", "?ID=other").status_code == 423
    assert ask("POST", '{"serial": 1}', "?ID=mine").status_code == 200
    assert ask("POST", "no json", "?ID=mine").status_code == 400
    assert ask("POST", "{}", "?ID=mine", **{"Content-MD5": "xxxx"}).status_code == 400
    assert ask("UNLOCK", json.dumps({"ID": "other"})).status_code == 409
    assert ask("UNLOCK", mine).status_code == 200
    assert ask("POST", '{"serial": 2}', "?ID=mine").status_code == 409  # the lock is gone
    assert ask("POST", '{"serial": 2}').status_code == 200
    assert ask("GET").json() == {"serial": 2}
    assert StateVersion.objects.count() == 2
    assert "serial" not in StateVersion.objects.all()[0].encrypted
    assert ask("DELETE").status_code == 200
    assert ask("GET").status_code == 404
    assert ask("PATCH").status_code == 405
    assert TerraformState.objects.get().lock_id == ""
