"""Tasks of the documented API, run by the real Terraform."""

from __future__ import annotations

import getpass
import socket
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from django.utils import timezone

from tasks_app import engine, services
from tasks_app.drivers.terraform import own_lock
from tasks_app.models import Run, StateVersion, Task, TerraformState
from tasks_app.schema import check_task_request
from tasks_app.serializers import finalize
from tasks_app.states import RunStatus
from tests.base import wait_until
from tests.tasks.conftest import SLOW_MODULE, Api, make_module, needs_terraform, terraform_task
from tests.tasks.consul import ConsulServer

pytestmark = [needs_terraform, pytest.mark.django_db(transaction=True)]


def test_a_task_that_is_run_now_is_applied_and_has_one_successful_event(api: Api, worker: Any, module: Path):
    answer = api.post("/v1/tasks?run=now", terraform_task(module, variables={"text": '"a $${x} b"'}))
    assert answer.status_code == 201, answer.content
    assert answer.found["task"]["variables"] == {"text": '"a ${x} b"'}
    status = api.get("/v1/status/tasks/tf_task?include=events").found["tf_task"]
    assert status["status"] == "successful"
    [event] = status["events"]
    assert event["success"] is True
    assert event["error"] is None
    assert event["config"] == {"providers": [], "services": [], "source": str(module)}
    run = Run.objects.get()
    assert run.status == RunStatus.SUCCEEDED
    assert [(c["action"], c["address"]) for c in run.changes] == [
        ("create", "module.tf_task.terraform_data.thing")
    ]
    assert run.changes[0]["after"]["input"] == {"count": 0, "text": "a ${x} b"}
    assert run.log.filter(phase="apply", text__contains="Apply complete! Resources: 1 added").exists()
    assert Task.objects.get().resources == 1


def test_inspecting_a_new_task_shows_the_plan_and_keeps_nothing(api: Api, worker: Any, module: Path):
    for _ in range(2):
        answer = api.post("/v1/tasks?run=inspect", terraform_task(module))
        assert answer.status_code == 200, answer.content
        assert answer.found["run"]["changes_present"] is True
        assert "module.tf_task.terraform_data.thing will be created" in answer.found["run"]["plan"]
        assert "Plan: 1 to add, 0 to change, 0 to destroy." in answer.found["run"]["plan"]
    assert api.get("/v1/tasks/tf_task").status_code == 404
    assert api.get("/v1/tasks").found["tasks"] == []


def test_a_module_that_does_not_exist_is_a_clear_400(api: Api, worker: Any, tmp_path: Path):
    answer = api.post("/v1/tasks", terraform_task(tmp_path / "nowhere"))
    assert answer.status_code == 400
    assert "Unreadable module directory" in answer.found["error"]["message"]
    assert api.get("/v1/tasks/tf_task").status_code == 404


def test_a_module_without_services_gets_the_originals_words(api: Api, worker: Any, tmp_path: Path):
    bare = make_module(tmp_path / "bare", 'output "x" { value = 1 }')
    answer = api.post("/v1/tasks", terraform_task(bare))
    assert answer.status_code == 400
    assert 'module for task "tf_task" is missing the "services" variable' in answer.found["error"]["message"]


def test_a_failed_apply_of_run_now_is_a_500_and_the_task_does_not_exist(
    api: Api, worker: Any, tmp_path: Path
):
    failing = make_module(
        tmp_path / "failing",
        'variable "services" { type = any }\nresource "terraform_data" "x" {\n'
        '  provisioner "local-exec" { command = "echo it broke; exit 3" }\n}\n',
    )
    answer = api.post("/v1/tasks?run=now", terraform_task(failing))
    assert answer.status_code == 500
    assert "it broke" in answer.found["error"]["message"]
    assert api.get("/v1/tasks/tf_task").status_code == 404
    run = Run.objects.get()
    assert run.diagnostics[0]["summary"] == "local-exec provisioner error"


def test_a_plan_waits_for_approval_and_exactly_it_is_applied(api: Api, worker: Any, module: Path):
    answer = api.post("/v1/tasks?run=now", terraform_task(module, auto_apply=False))
    assert answer.status_code == 201, answer.content
    assert answer.found["task"]["auto_apply"] is False
    run = Run.objects.get()
    assert run.status == RunStatus.UNCONFIRMED
    assert run.readable_plan()[0][:2] == ("create", "module.tf_task.terraform_data.thing")
    # What the module says meanwhile does not matter: the saved plan is what is applied.
    make_module(module, module.joinpath("main.tf").read_text().replace('"hello"', '"changed"'))
    assert api.post(f"/api/v1/task-runs/{run.pk}/approve/").status_code == 202
    wait_until(lambda: Run.objects.get().status == RunStatus.SUCCEEDED, what="the approved run")
    state = next(Path(str(module.parent)).rglob("terraform.tfstate.d/*/terraform.tfstate"), None)
    state = state or next(module.parent.rglob("states/*/terraform.tfstate"))
    assert '"hello"' in state.read_text()
    assert '"changed"' not in state.read_text()
    assert api.post(f"/api/v1/task-runs/{run.pk}/approve/").status_code == 409
    assert api.get("/v1/status/tasks/tf_task").found["tf_task"]["status"] == "successful"


def test_a_discarded_plan_changes_nothing(api: Api, worker: Any, module: Path):
    api.post("/v1/tasks?run=now", terraform_task(module, auto_apply=False))
    run = Run.objects.get()
    assert api.post(f"/api/v1/task-runs/{run.pk}/discard/").status_code == 202
    run.refresh_from_db()
    assert run.status == RunStatus.DISCARDED
    assert api.get("/v1/status/tasks/tf_task").found["tf_task"]["status"] == "unknown"


def test_a_newer_run_takes_the_place_of_a_plan_that_waits(api: Api, worker: Any, module: Path):
    api.post("/v1/tasks?run=now", terraform_task(module, auto_apply=False))
    assert api.patch("/v1/tasks/tf_task?run=now", {"enabled": True}).status_code == 200
    first, second = Run.objects.order_by("pk")
    assert (first.status, second.status) == (RunStatus.DISCARDED, RunStatus.UNCONFIRMED)


def test_a_guard_against_destroying_asks_before_something_is_removed(api: Api, worker: Any, tmp_path: Path):
    module = make_module(
        tmp_path / "guarded",
        'variable "services" { type = any }\nvariable "n" {}\n'
        'resource "terraform_data" "x" { count = var.n }\n',
    )
    body = terraform_task(module, variables={"n": "2"}, guard_destroy=True)
    assert api.post("/v1/tasks?run=now", body).status_code == 201
    assert Task.objects.get().resources == 2
    body["task"]["variables"] = {"n": "1"}
    assert api.put("/v1/tasks/tf_task?run=now", body).status_code == 200
    newest = Run.objects.order_by("-pk")[0]
    assert newest.status == RunStatus.UNCONFIRMED
    assert newest.counts["remove"] == 1


def test_a_run_at_work_is_cancelled_by_an_interrupt_and_its_task_goes_on(
    api: Api, worker: Any, tmp_path: Path
):
    begun = tmp_path / "begun"
    slow = make_module(tmp_path / "slow", SLOW_MODULE)
    body = terraform_task(slow, variables={"begun": f'"{begun}"', "seconds": "300"})
    assert api.post("/v1/tasks", body).status_code == 201
    started = api.post("/api/v1/tasks/tf_task/runs/")
    assert started.status_code == 202
    wait_until(begun.exists, what="the provisioner to begin")
    assert api.patch("/v1/tasks/tf_task", {"enabled": False}).status_code == 409
    assert (
        "is active and cannot be updated"
        in api.patch("/v1/tasks/tf_task", {"enabled": False}).content.decode()
    )
    path = f"/api/v1/task-runs/{started.found['id']}"
    assert api.post(f"{path}/cancel/").status_code == 202
    wait_until(lambda: api.get(f"{path}/").found["status"] == "cancelled", what="the cancelled run")
    texts = [line["text"] for line in api.get(f"{path}/log/?limit=1000").found["results"]]
    assert any("working" in text for text in texts)
    assert any("Interrupt received" in text for text in texts)
    event = api.get("/v1/status/tasks/tf_task?include=events").found["tf_task"]["events"][0]
    assert event["success"] is False
    assert event["error"]["message"] == "Cancelled by olga while applying."
    # The state was written and is not locked: what was begun is replaced by the next run.
    body["task"]["variables"]["seconds"] = "0"
    assert api.put("/v1/tasks/tf_task?run=now", body).status_code == 200
    assert api.get("/v1/status/tasks/tf_task").found["tf_task"]["status"] == "successful"
    assert api.post(f"{path}/cancel/").status_code == 409


def test_a_run_that_takes_too_long_is_interrupted(api: Api, worker: Any, tmp_path: Path):
    begun = tmp_path / "begun"
    slow = make_module(tmp_path / "slow", SLOW_MODULE)
    body = terraform_task(slow, variables={"begun": f'"{begun}"', "seconds": "300"}, timeout="4s", retries=0)
    assert api.post("/v1/tasks", body).status_code == 201
    answer = api.patch("/v1/tasks/tf_task?run=now", {"enabled": True})
    assert answer.status_code == 500
    assert answer.found["error"]["message"] == "The run was interrupted after its time-out of 4 s."


def test_deleting_says_what_stays_and_destroying_leaves_nothing(api: Api, worker: Any, module: Path):
    api.post("/v1/tasks?run=now", terraform_task(module))
    answer = api.delete("/v1/tasks/tf_task")
    assert (answer.status_code, set(answer.found)) == (202, {"request_id"})
    assert answer["Muster-Left-Behind"] == '{"resources": 1, "state": "default"}'
    assert api.get("/v1/tasks/tf_task").status_code == 404
    # Made again it finds its state again, and has nothing to do.
    api.post("/v1/tasks?run=now", terraform_task(module))
    assert Run.objects.order_by("-pk")[0].has_changes is False
    assert api.delete("/v1/tasks/tf_task?destroy=true").status_code == 202
    wait_until(lambda: api.get("/v1/tasks/tf_task").status_code == 404, what="the task to be gone")
    destroyed = Run.objects.order_by("-pk")[0]
    assert (destroyed.operation, destroyed.status) == ("destroy", RunStatus.SUCCEEDED)
    assert destroyed.counts["remove"] == 1


def test_drift_is_shown_and_not_applied(api: Api, worker: Any, module: Path):
    api.post("/v1/tasks?run=now", terraform_task(module))
    run = api.post("/api/v1/tasks/tf_task/runs/", {"operation": "drift"})
    assert run.status_code == 202
    wait_until(lambda: api.get(f"/api/v1/task-runs/{run.found['id']}/").found["status"] == "succeeded")
    assert api.get("/api/v1/tasks/tf_task/").found["drift"]["changes"] == []
    assert len(api.get("/v1/status/tasks/tf_task?include=events").found["tf_task"]["events"]) == 1


def test_state_can_live_in_the_database(api: Api, worker: Any, module: Path, live_server: Any, settings: Any):
    settings.MUSTER_URL = live_server.url
    answer = api.post("/v1/tasks?run=now", terraform_task(module, backend="http"))
    assert answer.status_code == 201, answer.content
    [version] = StateVersion.objects.all()
    assert "hello" not in version.encrypted
    state = TerraformState.objects.get()
    assert (state.name, state.lock_id) == ("tf_task", "")
    assert not list(module.parent.rglob("*.tfstate"))[1:]  # only Terraform's note of the backend
    changed = terraform_task(module, backend="http", variables={"text": '"other"'})
    assert api.put("/v1/tasks/tf_task?run=now", changed).status_code == 200
    assert StateVersion.objects.count() == 2
    assert api.delete("/v1/tasks/tf_task?destroy=true").status_code == 202
    wait_until(lambda: api.get("/v1/tasks/tf_task").status_code == 404, what="the task to be gone")


def _hold_lock(who: str) -> None:
    info = {
        "ID": "5c2b1c52-0e6f-4f43-a1a5-3c1f2a0f7a11",
        "Operation": "OperationTypeApply",
        "Who": who,
        "Version": "1.11.4",
        "Created": timezone.now().isoformat().replace("+00:00", "Z"),
    }
    TerraformState.of("tf_task", None)
    TerraformState.objects.update(lock_id=info["ID"], lock_info=info, locked_at=timezone.now())


def test_a_lock_that_somebody_else_holds_is_respected(
    api: Api, olga: Any, module: Path, live_server: Any, settings: Any
):
    settings.MUSTER_URL = live_server.url
    document = finalize(check_task_request(terraform_task(module, backend="http"))["task"])
    task, _ = services.begin_task(document=document, domain=None, actor=olga)
    engine.work()
    run = services.request_run(task=Task.objects.get(pk=task.pk), actor=olga)
    Run.objects.filter(pk=run.pk).update(interruptions=1, started_at=timezone.now())
    _hold_lock("paula@workstation")
    engine.work()
    run.refresh_from_db()
    assert run.status == RunStatus.FAILED
    assert "Error acquiring the state lock" in run.error
    assert TerraformState.objects.get().lock_info["Who"] == "paula@workstation"


LOCKED = """Error acquiring the state lock
Lock Info:
  ID:        5c2b1c52-0e6f-4f43-a1a5-3c1f2a0f7a11
  Path:      muster/state
  Operation: OperationTypeApply
  Who:       {who}
  Version:   1.11.4
  Created:   2026-11-22 12:00:00.797669943 +0000 UTC
"""


def test_only_the_lock_of_an_interrupted_attempt_of_this_machine_is_broken():
    me = f"{getpass.getuser()}@{socket.gethostname()}"
    noon = datetime(2026, 11, 22, 12, 0, 0, 500_000, tzinfo=UTC)
    own = "5c2b1c52-0e6f-4f43-a1a5-3c1f2a0f7a11"
    assert own_lock(LOCKED.format(who=me), noon) == own
    assert own_lock(LOCKED.format(who=me), None) == ""  # nothing was interrupted
    assert own_lock(LOCKED.format(who=me), noon + timedelta(hours=1)) == ""  # an older lock
    assert own_lock(LOCKED.format(who="paula@workstation"), noon) == ""
    assert own_lock("some other error", noon) == ""


@pytest.mark.consul
def test_any_other_backend_by_configuration(
    api: Api, consul: ConsulServer, worker: Any, module: Path, settings: Any
):
    path = f"muster/{uuid.uuid4().hex}"
    site = {"consul": {"address": consul.url.removeprefix("http://"), "scheme": "http", "path": path}}
    settings.MUSTER_TASK_BACKENDS = {**settings.MUSTER_TASK_BACKENDS, "site": site}
    answer = api.post("/v1/tasks?run=now", terraform_task(module, backend="site"))
    assert answer.status_code == 201, answer.content
    keys = requests.get(f"{consul.url}/v1/kv/{path}?keys&recurse", timeout=30).json()
    assert f"{path}-env:tf_task" in keys  # the workspace is the task's name, as in the original
    refused = api.post("/v1/tasks", terraform_task(module, "other", backend="unknown"))
    assert refused.status_code == 400
    assert refused.found["error"]["message"] == 'backend must be one of http, local, site, not "unknown"'
