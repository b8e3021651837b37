"""Services come and go while workers are killed: every change ends in an applied state."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tasks_app.models import Run, TaskEvent
from tasks_app.states import RunStatus
from tests.base import wait_until
from tests.tasks.conftest import Api, WorkerProcess, make_module, needs_terraform, terraform_task
from tests.tasks.consul import ConsulServer

pytestmark = [pytest.mark.consul, needs_terraform, pytest.mark.django_db(transaction=True)]

# Each apply notes its begin and its end in one file: another one between them would be seen.
MODULE = """
variable "services" { type = any }
variable "directory" {}
resource "terraform_data" "all" {
  input            = join(" ", sort([for entry in values(var.services) : entry.id]))
  triggers_replace = sha256(join(" ", sort(keys(var.services))))
  provisioner "local-exec" {
    command     = "echo begin >> $DIR/log; echo $IDS > $DIR/now; echo end >> $DIR/log"
    environment = { DIR = var.directory, IDS = self.input }
  }
}
"""
CHANGES, KILLS = 40, 4


def test_every_change_ends_in_an_applied_state(
    api: Api, consul: ConsulServer, watcher: Any, worker_process: WorkerProcess, tmp_path: Path
):
    chance = random.Random(8558)
    marks = tmp_path / "marks"
    marks.mkdir()
    module = make_module(tmp_path / "followed", MODULE)
    worker_process.start()
    body = terraform_task(
        module,
        condition={"services": {"regexp": "^coming-"}},
        variables={"directory": f'"{marks}"'},
    )
    assert api.post("/v1/tasks?run=now", body).status_code == 201
    alive: set[str] = set()
    for change in range(CHANGES):
        name = f"coming-{chance.randrange(12)}"
        if name in alive:
            alive.discard(name)
            consul.deregister(name)
        else:
            alive.add(name)
            consul.register(name)
        if change % (CHANGES // KILLS) == KILLS:
            # Wait for a run to be at work, so that the kill hits one.
            wait_until(lambda: Run.objects.at_work().exists(), 120, "a run to be at work")
            worker_process.kill()
            worker_process.start()

    def applied() -> bool:
        return set((marks / "now").read_text().split()) == alive

    wait_until(applied, 180, "the last change to be applied")
    wait_until(lambda: not Run.objects.open().exists(), 180, "all runs to end")
    assert applied()
    assert set(Run.objects.values_list("status", flat=True)) == {RunStatus.SUCCEEDED}
    # Every run that applied is an event: none was lost with a worker.
    assert TaskEvent.objects.filter(success=True).count() == Run.objects.filter(keeps_event=True).count()
    words = (marks / "log").read_text().split()
    assert all(pair != ("end", "end") for pair in pairwise(words))
    assert words[-1] == "end"
