"""The shapes of tasks: a request's task to a checked document, and a document to the documented JSON.

A document is the task's settings as they are stored: all defaults filled in, durations in nanoseconds,
variables as values. Rules and texts: contracts, CTS 5.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import re2
from django.conf import settings

from tasks_app import drivers
from tasks_app.cron import Cron, CronError
from tasks_app.drivers.terraform_files import RESERVED, is_identifier
from tasks_app.durations import DurationError, format_duration, parse_duration
from tasks_app.literals import LiteralError, parse_literal

SECOND = 1_000_000_000
LONGEST_NAME = 200
# Ours, and what holds where a task does not say: never shown in the documented JSON unless they differ.
OPTIONS: dict[str, Any] = {
    "auto_apply": True,
    "guard_destroy": False,
    "timeout": 0,  # nanoseconds; 0: the setting MUSTER_TASK_TIMEOUT
    "retries": None,  # None: the setting MUSTER_TASK_RETRIES
    "driver": "terraform",
    "command": None,
    "fake": None,
    "backend": "",
    "drift_schedule": "",
}
SESSION_STATES = ("started", "succeeded", "failed", "ended")
WORKFLOW_STATES = ("published", "failed", "unpublished", "changed", "green", "yellow", "orange", "red")
_QUIET = re2.Options()
_QUIET.log_errors = False


class TaskError(ValueError):
    """The settings of a task can't be used; the sentence says which and why."""


def finalize(task: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a task that fits the schema. Raises TaskError.

    Durations are read first: a bad one has the original's own prefix (contract, CTS 2.4).
    """
    buffer = _durations(task.get("buffer_period"))
    document: dict[str, Any] = {
        "name": task["name"],
        "description": task.get("description", ""),
        "enabled": task.get("enabled", True),
        "module": task["module"],
        "version": task.get("version", ""),
        "providers": list(task.get("providers") or []),
        "condition": _condition(task["condition"]),
        "module_input": _module_input(task.get("module_input") or {}),
        "services": list(task.get("services") or []),  # the deprecated list, only ever imported
    }
    _check_name(document["name"])
    _check_condition(document["condition"])
    _check_rest(document, task)
    scheduled = "schedule" in document["condition"]
    document["buffer_period"] = _buffer_period(buffer, scheduled=scheduled)
    document["variables"] = _variables(task.get("variables") or {}, document)
    document.update(_options(task))
    return document


def _durations(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    found: dict[str, Any] = {"enabled": given.get("enabled")}
    for key in ("max", "min"):
        if key in given:
            try:
                found[key] = parse_duration(given[key])
            except DurationError as error:
                raise TaskError(f"error with task configuration: {error}") from None
    return found


def _buffer_period(given: Mapping[str, Any] | None, *, scheduled: bool) -> dict[str, Any]:
    """The buffer period with its inheritance (contract, CTS 6), nanoseconds."""
    low, high = settings.MUSTER_TASK_BUFFER
    parent = {"enabled": high > 0, "min": int(low * SECOND), "max": int(high * SECOND)}
    if scheduled or (given is not None and given["enabled"] is False):
        if given is not None and (given.get("min", 0) < 0 or given.get("max", 0) < 0):
            raise TaskError("buffer_period: cannot be negative")
        return {"enabled": False, "min": 0, "max": 0}
    if given is None or not ({"min", "max"} & set(given)):
        return {**parent, "enabled": parent["enabled"] if given is None else bool(parent["max"])}
    if given.get("min", 0) < 0 or given.get("max", 0) < 0:
        raise TaskError("buffer_period: cannot be negative")
    smallest = given.get("min", parent["min"] if parent["enabled"] else 5 * SECOND)
    largest = max(smallest, given.get("max", 4 * smallest))
    if "min" not in given:
        largest, smallest = given["max"], min(smallest, given["max"])
    return {"enabled": True, "min": smallest, "max": largest}


def _condition(given: Mapping[str, Any]) -> dict[str, Any]:
    if len(given) > 1:
        raise TaskError(f"only one condition is supported per task, got: {', '.join(sorted(given))}")
    return {kind: _FILL[kind](dict(spec)) for kind, spec in given.items()}


def _module_input(given: Mapping[str, Any]) -> dict[str, Any]:
    return {kind: _FILL[kind](dict(spec)) for kind, spec in given.items()}


def _fill_services(spec: dict[str, Any]) -> dict[str, Any]:
    filled = {
        "datacenter": "",
        "namespace": "",
        "filter": "",
        **spec,
        "cts_user_defined_meta": {k: v or "" for k, v in (spec.get("cts_user_defined_meta") or {}).items()},
    }
    # `names` beats `regexp` silently (contract, CTS 2.4).
    if filled.get("names"):
        filled.pop("regexp", None)
    else:
        filled.pop("names", None)
    return filled


def _fill_catalog(spec: dict[str, Any]) -> dict[str, Any]:
    return {"datacenter": "", "namespace": "", "node_meta": {}, **spec}


def _fill_kv(spec: dict[str, Any]) -> dict[str, Any]:
    return {"datacenter": "", "namespace": "", "recurse": False, **spec}


_FILL = {
    "services": _fill_services,
    "catalog_services": _fill_catalog,
    "consul_kv": _fill_kv,
    "schedule": lambda spec: spec,
    "session": lambda spec: {"states": ["succeeded"], **spec},
    "workflow": lambda spec: {"states": ["published"], **spec},
}


def _check_name(name: str) -> None:
    if not name:
        raise TaskError("unique name for the task is required")
    if not is_identifier(name):
        raise TaskError(
            "a task name must start with a letter or underscore and may contain only letters, digits, "
            f"underscores, and dashes: {json.dumps(name, ensure_ascii=False)}"
        )
    if len(name) > LONGEST_NAME or len(name.encode()) > 240:
        raise TaskError(f"a task name can have at most {LONGEST_NAME} characters")


def _check_condition(condition: Mapping[str, Any]) -> None:
    for kind, spec in condition.items():
        try:
            _CHECK[kind](spec)
        except TaskError as error:
            if kind == "services":
                raise TaskError(f'error validating `condition "services"` block: {error}') from None
            raise


def _check_services(spec: Mapping[str, Any]) -> None:
    if spec.get("names"):
        if "" in spec["names"]:
            raise TaskError("names field includes empty string(s). services names cannot be empty")
    elif "regexp" not in spec:
        raise TaskError("either the regexp or names field must be configured")
    else:
        _compile(spec["regexp"], "unable to compile services regexp")


def _check_catalog(spec: Mapping[str, Any]) -> None:
    if not spec.get("regexp"):
        raise TaskError("catalog-services 'regexp' field must be set")
    _compile(spec["regexp"], "unable to compile catalog-services regexp")


def _check_kv(spec: Mapping[str, Any]) -> None:
    if not spec.get("path"):
        raise TaskError("path is required for consul-kv condition")


def _check_schedule(spec: Mapping[str, Any]) -> None:
    if not spec.get("cron"):
        raise TaskError("cron config is required for schedule condition")
    try:
        Cron(spec["cron"])
    except CronError as error:
        raise TaskError(
            f'unable to parse schedule condition\'s cron config "{spec["cron"]}": {error}'
        ) from None


def _check_heard(known: tuple[str, ...]) -> Any:
    def check(spec: Mapping[str, Any]) -> None:
        unknown = sorted(set(spec["states"]) - set(known))
        if unknown or not spec["states"]:
            raise TaskError(f"states must be some of {', '.join(known)}; got: {', '.join(unknown) or 'none'}")
        if spec.get("name"):
            _compile(spec["name"], "unable to compile name regexp")

    return check


def _compile(pattern: str, prefix: str) -> None:
    try:
        re2.compile(pattern, _QUIET)
    except re2.error as error:
        why = error.args[0] if error.args else "error"
        text = why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)
        raise TaskError(f"{prefix}: error parsing regexp: {text}") from None


_CHECK = {
    "services": _check_services,
    "catalog_services": _check_catalog,
    "consul_kv": _check_kv,
    "schedule": _check_schedule,
    "session": _check_heard(SESSION_STATES),
    "workflow": _check_heard(WORKFLOW_STATES),
}


def _check_rest(document: Mapping[str, Any], task: Mapping[str, Any]) -> None:
    name = document["name"]
    if not document["module"]:
        raise TaskError("module for the task is required")
    for key in ("terraform_version", "terraform_cloud_workspace"):
        if task.get(key):
            raise TaskError(
                f"unsupported configuration '{key}' for task \"{name}\". "
                "This option is only known to the enterprise edition with the Terraform Cloud driver"
            )
    providers = [word.partition(".")[0] for word in document["providers"]]
    if len(set(providers)) != len(providers):
        raise TaskError("only one provider instance per task")
    for word in document["providers"]:
        if not all(is_identifier(part) for part in word.split(".")) or word.count(".") > 1:
            raise TaskError(f"a provider is written NAME or NAME.ALIAS, not {json.dumps(word)}")
    for kind in document["module_input"]:
        if kind in document["condition"]:
            raise TaskError(
                f"task's condition block and module_input '{kind}' block both monitor \"{kind}\" variable "
                "type. only one of these can be configured per task"
            )


def _variables(given: Mapping[str, str], document: Mapping[str, Any]) -> dict[str, Any]:
    taken = {"services", *document["condition"], *document["module_input"]}
    values = {}
    for name, text in given.items():
        if not is_identifier(name) or name in RESERVED or name in taken:
            raise TaskError(f"a variable of a module can't be called {json.dumps(name, ensure_ascii=False)}")
        try:
            values[name] = parse_literal(text)
        except LiteralError as error:
            raise TaskError(f"variable {name}: {error}") from None
    return values


def _options(task: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: task.get(key, default) for key, default in OPTIONS.items()}
    if isinstance(found["timeout"], str):
        try:
            found["timeout"] = parse_duration(found["timeout"])
        except DurationError as error:
            raise TaskError(f"error with task configuration: {error}") from None
    if found["timeout"] < 0:
        raise TaskError("timeout: cannot be negative")
    retries = found["retries"]
    if retries is not None and (retries != int(retries) or not 0 <= retries <= 20):
        raise TaskError("retries must be a whole number from 0 to 20")
    found["retries"] = None if retries is None else int(retries)
    try:
        drivers.driver(found["driver"])
    except ValueError as error:
        raise TaskError(str(error)) from None
    _check_command(found)
    if found["backend"] and found["backend"] not in settings.MUSTER_TASK_BACKENDS:
        known = ", ".join(sorted(settings.MUSTER_TASK_BACKENDS))
        raise TaskError(f"backend must be one of {known}, not {json.dumps(found['backend'])}")
    if found["drift_schedule"]:
        try:
            Cron(found["drift_schedule"])
        except CronError as error:
            raise TaskError(f"unable to parse drift_schedule: {error}") from None
    return found


def _check_command(found: Mapping[str, Any]) -> None:
    if (found["driver"] == "command") != (found["command"] is not None):
        raise TaskError('`command` belongs to the driver "command", which can\'t do without it')
    for key in ("argv", "plan_argv", "destroy_argv"):
        argv = (found["command"] or {}).get(key)
        if argv is not None and (not argv or not argv[0] or any("\0" in word for word in argv)):
            raise TaskError(f"command.{key} must be a list of texts, the first one being the program")
    if found["fake"] is not None and found["driver"] != "fake":
        raise TaskError('`fake` belongs to the driver "fake"')
    for key in ("changes", "remove", "fail_times", "seconds"):
        value = (found["fake"] or {}).get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1_000_000:
            raise TaskError(f"fake.{key} must be a number from 0 to 1000000")


def task_json(document: Mapping[str, Any], *, enabled: bool) -> dict[str, Any]:
    """The documented JSON of a task; our own options only where they differ from their defaults."""
    buffer = document["buffer_period"]
    shown: dict[str, Any] = {
        "buffer_period": {
            "enabled": buffer["enabled"],
            "max": format_duration(buffer["max"]),
            "min": format_duration(buffer["min"]),
        },
        "condition": _shown_condition(document),
        "description": document["description"],
        "enabled": enabled,
        "module": document["module"],
        "module_input": _shown_inputs(document),
        "name": document["name"],
        "providers": document["providers"],
        "variables": {
            name: json.dumps(value, separators=(",", ":"), ensure_ascii=False)
            for name, value in document["variables"].items()
        },
        "version": document["version"],
    }
    for key, default in OPTIONS.items():
        value = document.get(key, default)
        if value != default:
            shown[key] = format_duration(value) if key == "timeout" else value
    return shown


def _shown_condition(document: Mapping[str, Any]) -> dict[str, Any]:
    """The deprecated list of services is shown as a condition where there is no other (contract, 2.4)."""
    if document["services"] and not document["condition"]:
        return {"services": _old_services(document)}
    return dict(document["condition"])


def _shown_inputs(document: Mapping[str, Any]) -> dict[str, Any]:
    inputs = dict(document["module_input"])
    if document["services"] and document["condition"]:
        old = _old_services(document)
        del old["use_as_module_input"]
        inputs.setdefault("services", old)
    return inputs


def _old_services(document: Mapping[str, Any]) -> dict[str, Any]:
    return {**_fill_services({"names": document["services"]}), "use_as_module_input": True}
