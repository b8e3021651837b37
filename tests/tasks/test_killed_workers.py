"""kill -9 of a worker: the run is found, the truth is said, the task goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks_app.models import Run, TaskEvent, TerraformState
from tasks_app.states import RunStatus
from tests.base import wait_until
from tests.tasks.conftest import SLOW_MODULE, Api, WorkerProcess, make_module, needs_terraform, terraform_task

pytestmark = [needs_terraform, pytest.mark.django_db(transaction=True)]

# Slow at its first try only, so that the run that goes on after the kill comes to its end.
SLOW_ONCE = """
variable "services" { type = any }
variable "directory" {}
resource "terraform_data" "slow" {
  provisioner "local-exec" {
    command = <<-EOT
      echo begin >> $DIRECTORY/log
      if [ ! -e $DIRECTORY/begun ]; then touch $DIRECTORY/begun; sleep 300; fi
      echo end >> $DIRECTORY/log
    EOT
    environment = { DIRECTORY = var.directory }
  }
}
"""


def _begin(api: Api, process: WorkerProcess, tmp_path: Path, **values: Any) -> Path:
    """A task in the middle of its apply; answers the directory of its marks."""
    marks = tmp_path / "marks"
    marks.mkdir()
    module = make_module(tmp_path / "slow_once", SLOW_ONCE)
    process.start()
    answer = api.post("/v1/tasks", terraform_task(module, variables={"directory": f'"{marks}"'}, **values))
    assert answer.status_code == 201, answer.content
    assert api.post("/api/v1/tasks/tf_task/runs/").status_code == 202
    wait_until((marks / "begun").exists, what="the apply to begin")
    return marks


def _check_end(marks: Path) -> Run:
    wait_until(lambda: Run.objects.order_by("-pk")[0].status == RunStatus.SUCCEEDED, 120, "the run's end")
    run = Run.objects.order_by("-pk")[0]
    assert run.interruptions == 1
    assert run.log.filter(text="The worker died while applying.").exists()
    # The provisioner of the killed apply came to no end; the next one did. Never two at once.
    assert (marks / "log").read_text().split() == ["begin", "begin", "end"]
    assert TaskEvent.objects.get().success
    return run


def test_a_worker_that_is_killed_in_mid_apply_is_replaced(
    api: Api, worker_process: WorkerProcess, tmp_path: Path
):
    marks = _begin(api, worker_process, tmp_path)
    worker_process.kill()
    worker_process.start()
    run = _check_end(marks)
    # Terraform was interrupted, not killed: what it said then is in the log.
    assert run.log.filter(text__contains="Interrupt received").exists()


def test_terraform_that_is_killed_too_leaves_no_lock(
    api: Api, worker_process: WorkerProcess, tmp_path: Path, live_server: Any, settings: Any
):
    settings.MUSTER_URL = live_server.url
    marks = _begin(api, worker_process, tmp_path, backend="http")
    assert TerraformState.objects.get().lock_id
    assert worker_process.process is not None
    family = psutil.Process(worker_process.process.pid).children(recursive=True)
    worker_process.kill()
    for member in family:
        with_it = psutil.pid_exists(member.pid)
        if with_it:
            os.kill(member.pid, signal.SIGKILL)
    worker_process.start()
    # What the killed apply had made is not in the state, as nobody was left to write it.
    _check_end(marks)
    assert TerraformState.objects.get().lock_id == ""


def test_a_cancelled_run_whose_worker_is_dead_is_cancelled(
    api: Api, worker_process: WorkerProcess, tmp_path: Path
):
    begun = tmp_path / "begun"
    module = make_module(tmp_path / "slow", SLOW_MODULE)
    worker_process.start()
    body = terraform_task(module, variables={"begun": f'"{begun}"', "seconds": "300"})
    assert api.post("/v1/tasks", body).status_code == 201
    run = api.post("/api/v1/tasks/tf_task/runs/").found["id"]
    wait_until(begun.exists, what="the apply to begin")
    worker_process.kill()
    assert api.post(f"/api/v1/task-runs/{run}/cancel/").status_code == 202
    worker_process.start()
    wait_until(lambda: Run.objects.get(pk=run).status == RunStatus.CANCELLED, 120, "the run to be cancelled")
    assert "the worker had died in the middle of the apply" in Run.objects.get(pk=run).error
