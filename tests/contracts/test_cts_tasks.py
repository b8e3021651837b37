"""/v1/tasks of the documented API: shapes, texts, order of checks (contracts, CTS 2.4, 5)."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from accounts_app.states import Role
from tasks_app.models import Run, Task, TaskEvent
from tests.base import wait_until
from tests.factories import make_key, make_user
from tests.tasks import conftest as cast
from tests.tasks.conftest import Api, fake_task

pytestmark = pytest.mark.django_db(transaction=True)
api, olga, task_home, worker = cast.api, cast.olga, cast.task_home, cast.worker

SCHEMA = "request body has an error: doesn't match schema #/components/schemas/TaskRequest: "
CRON = {"schedule": {"cron": "0 0 1 1 *"}}


def off(**values: Any) -> dict[str, Any]:
    """A task that is disabled from the start: nothing of it runs."""
    return fake_task(**{"enabled": False, **values})


def plain(task: dict[str, Any]) -> dict[str, Any]:
    """Without our own options, which the documented API shows only where they are set."""
    return {key: value for key, value in task.items() if key not in ("driver", "fake")}


def test_a_created_task_is_answered_finalized(api: Api, worker: Any):
    body = fake_task(
        description="<a> & b",
        variables={"one": '"text"', "two": '[1, "x"]', "three": "{a = true}"},
        buffer_period={"enabled": True, "min": "30s", "max": "5m"},
        condition={"services": {"names": ["web", "api"]}},
        module_input={"consul_kv": {"path": "key"}},
        providers=["null"],
        version="1.0.0",
    )
    answer = api.post("/v1/tasks", body)
    assert answer.status_code == 201, answer.content
    assert set(answer.found) == {"request_id", "task"}
    assert uuid.UUID(answer.found["request_id"])
    assert b"\\u003ca\\u003e \\u0026 b" in answer.content  # as Go writes it
    expected = {
        "name": "task_a",
        "description": "<a> & b",
        "enabled": True,
        "module": "./module",
        "version": "1.0.0",
        "providers": ["null"],
        "variables": {"one": '"text"', "two": '[1,"x"]', "three": '{"a":true}'},
        "buffer_period": {"enabled": True, "min": "30s", "max": "5m0s"},
        "condition": {
            "services": {
                "names": ["web", "api"],
                "datacenter": "",
                "namespace": "",
                "filter": "",
                "cts_user_defined_meta": {},
                "use_as_module_input": True,
            }
        },
        "module_input": {"consul_kv": {"path": "key", "recurse": False, "datacenter": "", "namespace": ""}},
    }
    assert plain(answer.found["task"]) == expected
    again = api.get("/v1/tasks/task_a")
    assert plain(again.found["task"]) == expected
    assert again.found["request_id"] != answer.found["request_id"]
    listed = api.get("/v1/tasks").found
    assert [plain(task) for task in listed["tasks"]] == [expected]
    assert api.get("/v1/status/tasks/task_a").found["task_a"]["status"] == "unknown"


def test_a_task_without_run_is_prepared_and_not_applied(api: Api, worker: Any, task_home: Path):
    assert api.post("/v1/tasks", fake_task()).status_code == 201
    assert not list(task_home.rglob("applied.json"))
    assert TaskEvent.objects.count() == 0


def test_run_now_applies_and_stores_one_event(api: Api, worker: Any, task_home: Path):
    assert api.post("/v1/tasks?run=now", fake_task()).status_code == 201
    assert list(task_home.rglob("applied.json"))
    assert api.get("/v1/status/tasks/task_a?include=events").found["task_a"]["events"][0]["success"] is True


def test_inspect_answers_the_plan_and_keeps_nothing(api: Api, worker: Any):
    for _ in range(2):
        answer = api.post("/v1/tasks?run=inspect", fake_task(fake={"changes": 2}))
        assert answer.status_code == 200
        assert set(answer.found) == {"request_id", "task", "run"}
        assert answer.found["run"]["changes_present"] is True
        assert "create fake.thing[0]" in answer.found["run"]["plan"]
    assert api.get("/v1/tasks").found["tasks"] == []
    assert api.get("/v1/status/tasks/task_a").status_code == 404


def test_a_disabled_task_never_plans(api: Api):
    answer = api.post("/v1/tasks?run=inspect", off())
    assert answer.found["run"] == {"changes_present": False, "plan": ""}
    assert api.post("/v1/tasks?run=now", off()).status_code == 201
    assert api.get("/v1/status/tasks/task_a").found["task_a"]["status"] == "unknown"
    assert api.get("/v1/status/tasks/task_a").found["task_a"]["enabled"] is False


def test_failures_of_creation(api: Api, worker: Any):
    failing = fake_task(fake={"fail": "apply", "error": "it broke"})
    answer = api.post("/v1/tasks?run=now", failing)
    assert (answer.status_code, answer.found["error"]["message"]) == (500, "it broke")
    answer = api.post("/v1/tasks", fake_task(fake={"fail": "prepare", "error": "bad module"}))
    assert (answer.status_code, answer.found["error"]["message"]) == (400, "bad module")
    answer = api.post("/v1/tasks?run=inspect", fake_task(fake={"fail": "plan", "error": "bad plan"}))
    assert (answer.status_code, answer.found["error"]["message"]) == (
        400,
        "error inspecting new task: bad plan",
    )
    assert api.get("/v1/tasks").found["tasks"] == []
    assert TaskEvent.objects.count() == 0


def test_an_existing_name_is_refused_before_anything_else_is_looked_at(api: Api):
    assert api.post("/v1/tasks", off()).status_code == 201
    for path in ("/v1/tasks", "/v1/tasks?run=inspect"):
        answer = api.post(path, off(buffer_period={"min": "invalid"}))
        assert answer.status_code == 400
        assert answer.found["error"]["message"] == "task with name task_a already exists"
        assert uuid.UUID(answer.found["request_id"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "request body has an error: value is required but missing"),
        ("[]", SCHEMA + "value must be an object"),
        ("{}", SCHEMA + 'Error at "/task": property "task" is missing'),
        ({"task": 1}, SCHEMA + 'Error at "/task": value must be an object'),
        ({"task": {}, "x": 1}, SCHEMA + 'Error at "/task/name": property "name" is missing'),
        (
            {"task": {"name": "a", "module": "m"}},
            SCHEMA + 'Error at "/task/condition": property "condition" is missing',
        ),
        (
            {"task": {"name": "a", "condition": CRON}},
            SCHEMA + 'Error at "/task/module": property "module" is missing',
        ),
        (off(services=["api"]), SCHEMA + 'Error at "/task": property "services" is unsupported'),
        (off(name=1), SCHEMA + 'Error at "/task/name": value must be a string'),
        (off(enabled="yes"), SCHEMA + 'Error at "/task/enabled": value must be a boolean'),
        (off(providers="x"), SCHEMA + 'Error at "/task/providers": value must be an array'),
        (off(providers=[1]), SCHEMA + 'Error at "/task/providers/0": value must be a string'),
        (off(variables={"a": 1}), SCHEMA + 'Error at "/task/variables/a": value must be a string'),
        (off(description=None), SCHEMA + 'Error at "/task/description": Value is not nullable'),
        (
            off(condition={"unknown": {}}),
            SCHEMA + 'Error at "/task/condition": property "unknown" is unsupported',
        ),
        (
            off(condition={"consul_kv": {}}),
            SCHEMA + 'Error at "/task/condition/consul_kv/path": property "path" is missing',
        ),
        (
            off(condition={"catalog_services": {}}),
            SCHEMA + 'Error at "/task/condition/catalog_services/regexp": property "regexp" is missing',
        ),
    ],
)
def test_bodies_that_do_not_fit_the_schema(api: Api, body: Any, message: str):
    answer = api.post("/v1/tasks", body)
    assert answer.status_code == 400
    assert answer.found["error"]["message"] == message
    assert uuid.UUID(answer.found["request_id"])
    assert not Task.objects.exists()


def test_broken_json_other_content_and_a_wrong_run(api: Api):
    broken = api.post("/v1/tasks", '{"task"')
    assert broken.status_code == 400
    prefix = "request body has an error: failed to decode request body: "
    assert broken.found["error"]["message"].startswith(prefix)
    text = api.post("/v1/tasks", "hello", content_type="text/plain")
    assert text.found["error"]["message"] == (
        'request body has an error: header Content-Type has unexpected value "text/plain"'
    )
    wrong = api.post("/v1/tasks?run=later", off())
    assert wrong.status_code == 400
    assert wrong.found["error"]["message"] == (
        'parameter "run" in query has an error: value is not one of the allowed values ["now","inspect"]'
    )


SERVICES = 'error validating `condition "services"` block: '


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": ""}, "unique name for the task is required"),
        (
            {"name": "1a"},
            "a task name must start with a letter or underscore and may contain only letters, digits, "
            'underscores, and dashes: "1a"',
        ),
        ({"module": ""}, "module for the task is required"),
        ({"providers": ["a", "a.b"]}, "only one provider instance per task"),
        (
            {"buffer_period": {"enabled": True, "min": "invalid"}},
            'error with task configuration: time: invalid duration "invalid"',
        ),
        (
            {"condition": {"services": {"names": ["a"]}}, "buffer_period": {"min": "-1s"}},
            "buffer_period: cannot be negative",
        ),
        (
            {"condition": {"services": {}}},
            SERVICES + "either the regexp or names field must be configured",
        ),
        (
            {"condition": {"services": {"names": ["a", ""]}}},
            SERVICES + "names field includes empty string(s). services names cannot be empty",
        ),
        (
            {"condition": {"services": {"regexp": "["}}},
            SERVICES + "unable to compile services regexp: error parsing regexp: missing ]: [",
        ),
        (
            {"condition": {"catalog_services": {"regexp": ""}}},
            "catalog-services 'regexp' field must be set",
        ),
        ({"condition": {"consul_kv": {"path": ""}}}, "path is required for consul-kv condition"),
        ({"condition": {"schedule": {"cron": ""}}}, "cron config is required for schedule condition"),
        (
            {"condition": {"schedule": {"cron": "* *"}}},
            'unable to parse schedule condition\'s cron config "* *": 2 field(s) found, 5 to 7 are expected',
        ),
        (
            {"variables": {"a": "text"}},
            "variable a: not an HCL literal: 'text' must be quoted; variables and functions can't be used "
            "here at character 1",
        ),
        ({"variables": {"source": '"x"'}}, 'a variable of a module can\'t be called "source"'),
        (
            {"condition": {"consul_kv": {"path": "a"}}, "module_input": {"consul_kv": {"path": "b"}}},
            "task's condition block and module_input 'consul_kv' block both monitor \"consul_kv\" variable "
            "type. only one of these can be configured per task",
        ),
    ],
)
def test_settings_that_cant_be_used_are_a_400(api: Api, values: dict[str, Any], message: str):
    answer = api.post("/v1/tasks", off(**values))
    assert (answer.status_code, answer.found["error"]["message"]) == (400, message)
    assert not Task.objects.exists()


def test_enterprise_settings_are_refused(api: Api):
    answer = api.post("/v1/tasks", off(terraform_version="1.0.0"))
    assert answer.status_code == 400
    prefix = "unsupported configuration 'terraform_version' for task \"task_a\". "
    assert answer.found["error"]["message"].startswith(prefix)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, (True, "5s", "20s")),
        ({"enabled": False, "min": "3s"}, (False, "0s", "0s")),
        ({"enabled": True}, (True, "5s", "20s")),
        ({"min": "2s"}, (True, "2s", "8s")),
        ({"max": "50s"}, (True, "5s", "50s")),
        ({"min": "9s", "max": "3s"}, (True, "9s", "9s")),
    ],
)
def test_buffer_periods_inherit(api: Api, settings: Any, given: Any, shown: tuple[bool, str, str]):
    settings.MUSTER_TASK_BUFFER = (5.0, 20.0)
    values = {"buffer_period": given} if given is not None else {}
    condition = {"services": {"names": ["a"]}}
    task = api.post("/v1/tasks", off(condition=condition, **values)).found["task"]
    buffer = task["buffer_period"]
    assert (buffer["enabled"], buffer["min"], buffer["max"]) == shown


def test_schedules_have_no_buffer_period(api: Api):
    task = api.post("/v1/tasks", off(buffer_period={"enabled": True, "min": "5s"})).found["task"]
    assert task["buffer_period"] == {"enabled": False, "min": "0s", "max": "0s"}


def test_names_beat_the_regexp_and_an_empty_condition_is_none(api: Api):
    both = {"services": {"names": ["a"], "regexp": "b"}}
    task = api.post("/v1/tasks", off(condition=both)).found["task"]
    assert "regexp" not in task["condition"]["services"]
    task = api.post("/v1/tasks", off(name="nothing", condition={})).found["task"]
    assert task["condition"] == {}


def test_an_unknown_task_is_a_404_with_request_id(api: Api):
    for method, body in (("GET", None), ("DELETE", None), ("PATCH", {"enabled": True}), ("PUT", off())):
        answer = api.ask(method, "/v1/tasks/nobody", body)
        assert answer.status_code == 404, method
        assert answer.found["error"]["message"] == (
            "a task with name 'nobody' does not exist or has not been initialized yet"
        )
        assert uuid.UUID(answer.found["request_id"])


# -- PATCH --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (
            "/v1/tasks/",
            {"enabled": True},
            "no task name was included in the api request. Updating a task requires the task name: "
            "'/v1/tasks/:task_name'",
        ),
        (
            "/v1/tasks/a/b",
            {"enabled": True},
            "unsupported path '/v1/tasks/a/b'. request must be format 'path/{task-name}'. task name cannot "
            "have '/ ' and api does not support further resources",
        ),
        (
            "/v1/tasks/nobody?run=Later",
            {},
            "unsupported run parameter value. only supporting run values now and inspect but got later",
        ),
        (
            "/v1/tasks/nobody?run=now&run=now",
            {},
            "cannot support more than one run query parameter, got run values: [now now]",
        ),
        (
            "/v1/tasks/nobody",
            {"enabled": True, "name": "x", "description": "y"},
            "request body's JSON contains unsupported keys: description, name",
        ),
        (
            "/v1/tasks/nobody",
            {},
            "/v1/tasks/:task_name currently only supports the 'enabled' field. Missing 'enabled' from the "
            "request body.",
        ),
        ("/v1/tasks/nobody", "", "unexpected end of JSON input"),
        (
            "/v1/tasks/nobody",
            "[]",
            "json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
    ],
)
def test_bad_updates_in_the_originals_words(api: Api, path: str, body: Any, message: str):
    answer = api.patch(path, body)
    assert answer.status_code == 400
    assert answer.found == {"error": {"message": message}}


@pytest.mark.parametrize(("value", "enabled"), [("true", True), (1, True), ("f", False), (0, False)])
def test_enabled_is_read_weakly(api: Api, worker: Any, value: Any, enabled: bool):
    api.post("/v1/tasks", off())
    assert api.patch("/v1/tasks/task_a", {"enabled": value}).found == {}
    assert api.get("/v1/tasks/task_a").found["task"]["enabled"] is enabled


def test_enabling_without_run_applies_nothing(api: Api, worker: Any, task_home: Path):
    api.post("/v1/tasks", off())
    answer = api.patch("/v1/tasks/task_a", {"enabled": True})
    assert (answer.status_code, answer.found) == (200, {})
    assert not list(task_home.rglob("applied.json"))
    assert TaskEvent.objects.count() == 0
    assert api.get("/v1/tasks/task_a").found["task"]["enabled"] is True


def test_run_now_stores_an_event_in_every_case(api: Api, worker: Any):
    api.post("/v1/tasks", off())
    assert api.patch("/v1/tasks/task_a?run=NOW", {"enabled": True}).found == {}
    assert api.patch("/v1/tasks/task_a?run=now", {"enabled": False}).found == {}
    assert TaskEvent.objects.filter(success=True).count() == 2
    assert api.get("/v1/status/tasks/task_a").found["task_a"]["enabled"] is False


def test_a_failed_run_now_is_a_500_with_an_event(api: Api, worker: Any):
    api.post("/v1/tasks", off(fake={"fail": "apply", "error": "it broke"}))
    answer = api.patch("/v1/tasks/task_a?run=now", {"enabled": True})
    assert (answer.status_code, answer.found["error"]["message"]) == (500, "it broke")
    assert uuid.UUID(answer.found["request_id"])
    [event] = api.get("/v1/status/tasks/task_a?include=events").found["task_a"]["events"]
    assert event["error"] == {"message": "it broke"}


def test_inspecting_an_update_changes_nothing(api: Api, worker: Any):
    api.post("/v1/tasks", off())
    answer = api.patch("/v1/tasks/task_a?run=inspect", {"enabled": True})
    assert answer.found["inspect"]["changes_present"] is True
    assert "fake.thing[0]" in answer.found["inspect"]["plan"]
    answer = api.patch("/v1/tasks/task_a?run=inspect", {"enabled": False})
    assert answer.found == {"inspect": {"changes_present": False, "plan": ""}}
    assert api.get("/v1/tasks/task_a").found["task"]["enabled"] is False
    assert TaskEvent.objects.count() == 0


# -- PUT, DELETE, and what runs meanwhile --------------------------------------------------------------


def test_put_replaces_all_settings_once_they_are_valid(api: Api, worker: Any):
    api.post("/v1/tasks", fake_task(description="old"))
    answer = api.put(
        "/v1/tasks/task_a", fake_task(description="new", condition={"services": {"names": ["a"]}})
    )
    assert answer.status_code == 200
    task = api.get("/v1/tasks/task_a").found["task"]
    assert task["description"] == "new"
    assert set(task["condition"]) == {"services"}
    bad = api.put("/v1/tasks/task_a", fake_task(fake={"fail": "prepare", "error": "bad module"}))
    assert (bad.status_code, bad.found["error"]["message"]) == (400, "bad module")
    assert api.get("/v1/tasks/task_a").found["task"]["description"] == "new"
    other = api.put("/v1/tasks/task_a", fake_task("task_b"))
    assert other.status_code == 400


def _busy(api: Api) -> int:
    api.post("/v1/tasks", fake_task(fake={"seconds": 300}))
    run = api.post("/api/v1/tasks/task_a/runs/").found["id"]
    wait_until(lambda: Run.objects.get(pk=run).status == "applying", what="the run to apply")
    return run


def test_a_task_at_work_is_a_409_and_blocks_no_other_request(api: Api, worker: Any):
    run = _busy(api)
    for method, body in (("PATCH", {"enabled": False}), ("PUT", fake_task())):
        answer = api.ask(method, "/v1/tasks/task_a", body)
        assert answer.status_code == 409
        assert answer.found["error"]["message"] == (
            "task 'task_a' is active and cannot be updated at this time"
        )
    assert api.get("/v1/tasks").status_code == 200
    assert api.post("/v1/tasks?run=now", fake_task("task_b")).status_code == 201
    assert api.post(f"/api/v1/task-runs/{run}/cancel/").status_code == 202


def test_deleting_waits_for_the_run_and_takes_the_events_along(api: Api, worker: Any):
    run = _busy(api)
    for _ in range(2):
        answer = api.delete("/v1/tasks/task_a")
        assert answer.status_code == 202
        assert set(answer.found) == {"request_id"}
    assert api.get("/v1/tasks/task_a").status_code == 200  # marked, not gone
    api.post(f"/api/v1/task-runs/{run}/cancel/")
    wait_until(lambda: api.get("/v1/tasks/task_a").status_code == 404, what="the task to be gone")
    assert TaskEvent.objects.count() == 0
    assert Run.objects.filter(pk=run).exists()  # our own history stays
    assert api.post("/v1/tasks", fake_task()).status_code == 201


def test_a_destroy_that_fails_keeps_the_task_disabled(api: Api, worker: Any):
    api.post("/v1/tasks", fake_task(fake={"fail": "apply", "error": "still in use"}))
    assert api.delete("/v1/tasks/task_a?destroy=true").status_code == 202
    wait_until(
        lambda: Run.objects.filter(operation="destroy", status="failed").exists(), what="the failed destroy"
    )
    task = api.get("/v1/tasks/task_a")
    assert task.status_code == 200
    assert task.found["task"]["enabled"] is False


def test_two_posts_of_one_name_make_one_task(api: Api, worker: Any):
    codes: list[int] = []

    def post() -> None:
        try:
            codes.append(api.post("/v1/tasks?run=now", fake_task(fake={"seconds": 0.3})).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=post) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [201, 400, 400, 400]


def test_the_command_driver_is_for_administrators(api: Api, worker: Any, task_home: Path):
    command = {"argv": ["/bin/sh", "-c", f"cat $MUSTER_INPUTS > {task_home}/said; echo done"]}
    body = fake_task(driver="command", command=command, variables={"a": "5"})
    user = Api(make_key(make_user("ursula", Role.USER)).token)
    assert user.post("/v1/tasks?run=now", body).status_code == 403
    assert api.post("/v1/tasks?run=now", body).status_code == 201
    assert '"a": 5' in (task_home / "said").read_text()
    assert Run.objects.get().log.filter(text="done").exists()


def test_changing_a_task_discards_the_plan_that_waits(api: Api, worker: Any):
    assert api.post("/v1/tasks?run=now", fake_task(auto_apply=False)).status_code == 201
    waiting = Run.objects.get()
    assert waiting.status == "unconfirmed"
    assert api.patch("/v1/tasks/task_a?run=inspect", {"enabled": True}).status_code == 200
    waiting.refresh_from_db()
    assert waiting.status == "unconfirmed"
    assert api.patch("/v1/tasks/task_a", {"enabled": False}).status_code == 200
    waiting.refresh_from_db()
    assert (waiting.status, waiting.error) == ("discarded", "The task was changed.")
