"""Taking over the tasks of a Consul-Terraform-Sync."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from tests.tasks.conftest import Api

pytestmark = pytest.mark.django_db

EVENT = {
    "id": "44137ba2-8fc9-6cbe-0e0e-e9305ee4f7f9",
    "success": False,
    "start_time": "2020-11-24T12:06:51.858292123-05:00",
    "end_time": "2020-11-24T12:06:52.770165456-05:00",
    "task_name": "task_b",
    "error": {"message": "example error: terraform-apply error"},
    "config": {"providers": ["null"], "services": ["web"], "module": "../modules/test_task"},
}
TASKS = {
    "request_id": "bb63cd70-8f45-4f42-b27b-bc2a6f4931e6",
    "tasks": [
        {
            "name": "task_b",
            "module": "../modules/test_task",
            "enabled": True,
            "providers": ["null"],
            "description": "",
            "version": "",
            "terraform_version": "",
            "variables": {"a": '"b"'},
            "buffer_period": {"enabled": True, "max": "20s", "min": "5s"},
            "condition": {"services": {"names": ["web"], "use_as_module_input": True}},
            "module_input": {},
        },
        {"name": "0bad", "module": "m", "condition": {}},
    ],
}
STATUS = {
    "task_b": {
        "task_name": "task_b",
        "status": "errored",
        "enabled": True,
        "providers": ["null"],
        "services": ["web"],
        "events_url": "/v1/status/tasks/task_b?include=events",
        "events": [EVENT],
    },
    "gone": {"status": "unknown"},
}


def run_import(directory: Path, tasks: Any = TASKS, status: Any = STATUS) -> tuple[str, str]:
    (directory / "tasks.json").write_text(json.dumps(tasks))
    (directory / "status.json").write_text(json.dumps(status))
    out, err = io.StringIO(), io.StringIO()
    call_command("import_cts", dir=str(directory), stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_tasks_come_disabled_and_events_keep_their_ids_and_times(api: Api, tmp_path: Path):
    out, err = run_import(tmp_path)
    assert out.startswith("1 tasks (task_b) and 1 events were imported.")
    assert "0bad: a task name must start with a letter" in err
    assert "gone: has a status and no task" in err
    status = api.get("/v1/status/tasks/task_b?include=events").found["task_b"]
    assert (status["status"], status["enabled"], status["services"]) == ("errored", False, ["web"])
    [event] = status["events"]
    assert event["id"] == EVENT["id"]
    assert event["start_time"] == "2020-11-24T17:06:51.858292Z"
    assert event["end_time"] == "2020-11-24T17:06:52.770165Z"
    assert event["error"] == EVENT["error"]
    assert event["config"]["source"] == "../modules/test_task"
    task = api.get("/v1/tasks/task_b").found["task"]
    assert (task["enabled"], task["variables"]) == (False, {"a": '"b"'})
    assert task["condition"]["services"]["names"] == ["web"]


def test_importing_again_adds_only_what_is_missing(api: Api, tmp_path: Path):
    run_import(tmp_path)
    newer = {**EVENT, "id": "ef202675-502f-431f-b133-ed64d15b0e0e", "success": True, "error": None,
             "end_time": "2021-01-01T00:00:00Z"}  # fmt: skip
    status = {"task_b": {**STATUS["task_b"], "events": [newer, EVENT]}}
    out, _ = run_import(tmp_path, status=status)
    assert out.startswith("0 tasks (none) and 1 events were imported.")
    assert api.get("/v1/status/tasks/task_b").found["task_b"]["status"] == "successful"


def test_answers_of_another_shape_are_refused_in_a_sentence(tmp_path: Path):
    with pytest.raises(CommandError, match=r"not what GET /v1/tasks answers"):
        run_import(tmp_path, tasks=[])
    with pytest.raises(CommandError, match=r"tasks.json can't be read"):
        call_command("import_cts", dir=str(tmp_path / "nowhere"))


def test_its_own_answers_can_be_imported(api: Api, tmp_path: Path):
    run_import(tmp_path)
    tasks = api.get("/v1/tasks").found
    status = api.get("/v1/status/tasks?include=events").found
    out, _ = run_import(tmp_path, tasks, status)
    assert out.startswith("0 tasks (none) and 0 events")
