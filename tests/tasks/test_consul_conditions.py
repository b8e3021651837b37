"""Conditions and inputs from a real Consul, the fake driver applying them."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from tasks_app.models import Run, Trigger
from tasks_app.states import RunStatus
from tests.base import wait_until
from tests.tasks.conftest import Api, fake_task, make_module, needs_terraform, terraform_task
from tests.tasks.consul import ConsulServer

pytestmark = [pytest.mark.consul, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def name() -> str:
    """A service of this test alone."""
    return f"svc-{uuid.uuid4().hex[:8]}"


def applied(home: Path, task: str = "task_a") -> Any:
    """The inputs that the fake driver applied last."""
    path = home / "tasks" / "untenanted" / task / "applied.json"
    return json.loads(path.read_text())["inputs"] if path.exists() else None


def ids(home: Path, task: str = "task_a") -> set[str]:
    return {entry["id"] for entry in ((applied(home, task) or {}).get("services") or {}).values()}


def test_a_task_runs_when_its_service_changes_and_gets_all_fields(
    api: Api, consul: ConsulServer, watcher: Any, worker: Any, task_home: Path, name: str
):
    consul.register(name, f"{name}-1", Address="10.0.0.1", Tags=["b", "a"], Meta={"k": "v"})
    condition = {"services": {"names": [name], "cts_user_defined_meta": {"x": "y"}}}
    assert api.post("/v1/tasks", fake_task(condition=condition)).status_code == 201
    assert applied(task_home) is None  # what is there already waits for the first change
    consul.register(name, f"{name}-2", Address="10.0.0.2")
    wait_until(lambda: ids(task_home) == {f"{name}-1", f"{name}-2"}, what="both instances to be applied")
    [entry] = [e for e in applied(task_home)["services"].values() if e["id"] == f"{name}-1"]
    assert entry["tags"] == ["a", "b"]
    assert (entry["address"], entry["port"], entry["status"]) == ("10.0.0.1", 80, "passing")
    assert (entry["meta"], entry["cts_user_defined_meta"]) == ({"k": "v"}, {"x": "y"})
    assert set(entry) == {
        "id", "name", "kind", "address", "port", "meta", "tags", "namespace", "status", "node", "node_id",
        "node_address", "node_datacenter", "node_tagged_addresses", "node_meta", "cts_user_defined_meta",
    }  # fmt: skip
    key = next(key for key in applied(task_home)["services"] if key.startswith(f"{name}-1."))
    assert key == f"{name}-1.{entry['node']}.dc1"
    consul.deregister(f"{name}-1")
    wait_until(lambda: ids(task_home) == {f"{name}-2"}, what="the instance to be gone")
    status = api.get("/v1/status/tasks/task_a?include=events").found["task_a"]
    assert status["status"] == "successful"


def test_a_regexp_follows_services_that_come_and_go(
    api: Api, consul: ConsulServer, watcher: Any, worker: Any, task_home: Path, name: str
):
    condition = {"services": {"regexp": f"^{name}-.*"}}
    assert api.post("/v1/tasks?run=now", fake_task(condition=condition)).status_code == 201
    assert applied(task_home) == {"services": {}}
    consul.register(f"{name}-a")
    consul.register(f"{name}-b")
    wait_until(lambda: ids(task_home) == {f"{name}-a", f"{name}-b"}, what="both services")
    consul.deregister(f"{name}-a")
    wait_until(lambda: ids(task_home) == {f"{name}-b"}, what="the service to be gone")


def test_only_passing_instances_count_unless_the_filter_asks_for_others(
    api: Api, consul: ConsulServer, watcher: Any, worker: Any, task_home: Path, name: str
):
    bad = {"Name": "always bad", "TTL": "10m", "Status": "critical"}
    consul.register(name, f"{name}-good")
    consul.register(name, f"{name}-bad", Check=bad)
    api.post("/v1/tasks?run=now", fake_task(condition={"services": {"names": [name]}}))
    filtered = {"services": {"names": [name], "filter": 'Checks.Status != ""'}}
    api.post("/v1/tasks?run=now", fake_task("task_b", condition=filtered))
    assert ids(task_home) == {f"{name}-good"}
    found = {entry["id"]: entry["status"] for entry in applied(task_home, "task_b")["services"].values()}
    assert found == {f"{name}-good": "passing", f"{name}-bad": "critical"}


def test_catalog_services_fire_on_names_and_not_on_instances(
    api: Api, consul: ConsulServer, watcher: Any, worker: Any, task_home: Path, name: str
):
    consul.register(f"{name}-a", Tags=["one"])
    condition = {"catalog_services": {"regexp": f"^{name}-"}}
    assert api.post("/v1/tasks?run=now", fake_task(condition=condition)).status_code == 201
    assert applied(task_home) == {"catalog_services": {f"{name}-a": ["one"]}}
    consul.register(f"{name}-a", f"{name}-a-2", Tags=["two"])
    wait_until(
        lambda: Trigger.objects.get().value == {f"{name}-a": ["one", "two"]}, what="the tags to be seen"
    )
    consul.register(f"{name}-b")
    wait_until(lambda: len(applied(task_home)["catalog_services"]) == 2, what="the second name")
    assert applied(task_home)["catalog_services"] == {f"{name}-a": ["one", "two"], f"{name}-b": []}
    # One run at creation, one for the new name, none for the tags.
    assert Run.objects.count() == 2


def test_keys_fire_on_creation_change_and_deletion(
    api: Api, consul: ConsulServer, watcher: Any, worker: Any, task_home: Path, name: str
):
    single = {"consul_kv": {"path": f"{name}/one"}}
    below = {"consul_kv": {"path": f"{name}/", "recurse": True}}
    assert api.post("/v1/tasks?run=now", fake_task(condition=single)).status_code == 201
    assert api.post("/v1/tasks?run=now", fake_task("task_b", condition=below)).status_code == 201
    assert applied(task_home) == {"consul_kv": {}}
    nasty = 'a "quoted" ${value}\nof two lines'
    consul.put(f"kv/{name}/one", nasty)
    wait_until(lambda: applied(task_home) == {"consul_kv": {f"{name}/one": nasty}}, what="the key")
    consul.put(f"kv/{name}/two", "2")
    both = {"consul_kv": {f"{name}/one": nasty, f"{name}/two": "2"}}
    wait_until(lambda: applied(task_home, "task_b") == both, what="both keys")
    assert applied(task_home) == {"consul_kv": {f"{name}/one": nasty}}


def test_an_input_that_is_no_condition_never_fires_but_is_taken_newest(
    api: Api, consul: ConsulServer, watcher: Any, worker: Any, task_home: Path, name: str
):
    body = fake_task(
        condition={"services": {"names": [name], "use_as_module_input": False}},
        module_input={"consul_kv": {"path": f"{name}/key"}},
    )
    assert api.post("/v1/tasks?run=now", body).status_code == 201
    consul.put(f"kv/{name}/key", "new")
    wait_until(lambda: Trigger.objects.get(kind="consul_kv").value == {f"{name}/key": "new"})
    assert applied(task_home) == {"consul_kv": {}}
    consul.register(name)
    wait_until(lambda: applied(task_home) == {"consul_kv": {f"{name}/key": "new"}}, what="the run")
    assert Run.objects.count() == 2


def test_many_changes_in_a_row_end_in_one_run_after_the_buffer_period(
    api: Api, consul: ConsulServer, watcher: Any, worker: Any, task_home: Path, name: str
):
    buffer = {"enabled": True, "min": "3s", "max": "30s"}
    condition = {"services": {"names": [name]}}
    assert api.post("/v1/tasks", fake_task(condition=condition, buffer_period=buffer)).status_code == 201
    for number in range(10):
        consul.register(name, f"{name}-{number}")
    wait_until(lambda: len(ids(task_home)) == 10, what="all instances")
    assert Run.objects.filter(operation="apply").count() <= 2


def test_a_filter_that_consul_refuses_is_refused_with_its_words(
    api: Api, consul: ConsulServer, watcher: Any, worker: Any, name: str
):
    body = fake_task(condition={"services": {"names": [name], "filter": "no filter at all"}})
    answer = api.post("/v1/tasks", body)
    assert answer.status_code == 400
    assert "boolean expression" in answer.found["error"]["message"]
    assert api.get("/v1/health").status_code == 200


def test_a_condition_that_cant_be_watched_shows_in_health_and_stops_no_other(
    api: Api, consul: ConsulServer, watcher: Any, worker: Any, task_home: Path, name: str
):
    condition = {"services": {"names": [name]}}
    assert api.post("/v1/tasks", fake_task(condition=condition)).status_code == 201
    elsewhere = {"services": {"names": [name], "datacenter": "nowhere"}}
    api.post("/v1/tasks", fake_task("task_b", enabled=False, condition=elsewhere))
    wait_until(lambda: Trigger.objects.exclude(error="").exists(), what="the error to be seen")
    assert api.get("/v1/health").status_code == 200  # a disabled task harms nobody
    Trigger.objects.get(task__name="task_b").task.__class__.objects.filter(name="task_b").update(enabled=True)
    sick = api.get("/v1/health")
    assert sick.status_code == 503
    assert sick.found["error"]["message"].startswith("CTS is not healthy: task 'task_b': services: Consul")
    consul.register(name)
    wait_until(lambda: ids(task_home) == {name}, what="the other task")


FILES = """
variable "services" { type = any }
resource "terraform_data" "file" {
  for_each = var.services
  input    = each.value.id
  provisioner "local-exec" {
    command     = "touch DIRECTORY/$ID"
    environment = { ID = self.input }
  }
  provisioner "local-exec" {
    when        = destroy
    command     = "rm -f DIRECTORY/$ID"
    environment = { ID = self.input }
  }
}
"""


@needs_terraform
def test_terraform_follows_services(
    api: Api, consul: ConsulServer, watcher: Any, worker: Any, task_home: Path, module: Path, name: str
):
    make_module(module, FILES.replace("DIRECTORY", str(task_home)))
    body = terraform_task(module, condition={"services": {"names": [name]}})
    assert api.post("/v1/tasks", body).status_code == 201
    consul.register(name, f"{name}-1")
    wait_until((task_home / f"{name}-1").exists, what="the first instance's file")
    consul.register(name, f"{name}-2")
    wait_until((task_home / f"{name}-2").exists, what="the second instance's file")
    consul.deregister(f"{name}-1")
    wait_until(lambda: not (task_home / f"{name}-1").exists(), what="the first file to be gone")
    wait_until(lambda: not Run.objects.open().exists(), what="the last run's end")
    assert set(Run.objects.values_list("status", flat=True)) == {RunStatus.SUCCEEDED}
