"""Takes over the tasks of a running Consul-Terraform-Sync, disabled, with their past events."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from events_app.services import followed, record_event, recording, report_progress
from tasks_app.models import Task, TaskEvent
from tasks_app.records import refresh_health
from tasks_app.schema import SchemaError, check_task_request
from tasks_app.serializers import TaskError, finalize
from tasks_app.states import NAMED, TaskStatus
from tasks_app.triggers import sync_triggers

_ENTERPRISE = ("terraform_version", "terraform_cloud_workspace")
_NANOSECONDS = re.compile(r"(\.\d{6})\d+")


@dataclass
class Imported:
    """What came of it: names of new tasks, how many events, sentences about what was left out."""

    tasks: list[str] = field(default_factory=list)
    events: int = 0
    skipped: list[str] = field(default_factory=list)


def import_tasks(
    *,
    tasks: Any,
    statuses: Any,
    domain: Any = None,
    actor: Any = None,
    each: Callable[[list[Any]], Iterable[Any]] = iter,
) -> Imported:
    """Create the tasks of `GET /v1/tasks`, with the events of `GET /v1/status/tasks?include=events`.

    Ids and times of events are kept. A task whose name exists already gets the events it lacks and is
    otherwise left alone, so that the import can be repeated; one that can't be used here is left out with a
    sentence. It is a background task of `actor`; `each` may watch the tasks go by. Raises ValueError for
    documents of another shape.
    """
    if not isinstance(tasks, Mapping) or not isinstance(tasks.get("tasks"), list):
        raise ValueError('The tasks are not what GET /v1/tasks answers: {"tasks": [...]}.')
    if not isinstance(statuses, Mapping) or not all(isinstance(one, Mapping) for one in statuses.values()):
        raise ValueError("The status is not what GET /v1/status/tasks?include=events answers.")
    result = Imported()
    count = len(tasks["tasks"])
    with followed(kind="import_cts", owner=actor, subject=f"{count} tasks", total=count) as bar:
        for place, given in enumerate(each(tasks["tasks"])):
            name = given.get("name") if isinstance(given, Mapping) else None
            if not isinstance(name, str):
                raise ValueError("A task without a name was found.")
            try:
                with transaction.atomic():
                    _import_task(dict(given), statuses.get(name) or {}, domain, actor, result)
            except (SchemaError, TaskError) as error:
                result.skipped.append(f"{name}: {error}")
            report_progress(bar.pk, current=place + 1)
        bar.message = f"{len(result.tasks)} tasks and {result.events} events were imported."
        bar.result = {"tasks": result.tasks, "skipped": result.skipped[:100]}
    known = {given["name"] for given in tasks["tasks"]}
    result.skipped += [f"{name}: has a status and no task" for name in statuses if name not in known]
    return result


def _import_task(
    given: dict[str, Any], status: Mapping[str, Any], domain: Any, actor: Any, result: Imported
) -> None:
    name = given["name"]
    with recording():
        task = Task.objects.filter(name=name, domain=domain, status__in=NAMED).first()
        if task is None:
            task = _create(given, status, domain, actor)
            result.tasks.append(name)
        else:
            result.skipped.append(f"{name}: exists already, only missing events were added")
        result.events += _import_events(task, status.get("events") or [], result)
        refresh_health(task)


def _create(given: dict[str, Any], status: Mapping[str, Any], domain: Any, actor: Any) -> Task:
    cleaned = {key: value for key, value in given.items() if key not in _ENTERPRISE and value is not None}
    cleaned["enabled"] = False
    cleaned.setdefault("condition", {})
    checked = check_task_request({"task": cleaned})["task"]
    document = finalize({**checked, "enabled": False})
    document["services"] = _old_services(document, status)
    task = Task.objects.create(
        name=document["name"],
        domain=domain,
        owner=actor,
        status=TaskStatus.ACTIVE,
        enabled=False,
        document=document,
    )
    sync_triggers(task)
    record_event(**task.event("task_imported"))
    return task


def _old_services(document: Mapping[str, Any], status: Mapping[str, Any]) -> list[str]:
    """The deprecated list shows as a condition or an input (contract, CTS 2.4), which is used instead."""
    shown = [word for word in status.get("services") or [] if isinstance(word, str)]
    taken = "services" in document["condition"] or "services" in document["module_input"]
    return [] if taken else shown


def _import_events(task: Task, events: list[Any], result: Imported) -> int:
    count = 0
    for given in events:
        try:
            values = _event_values(given)
        except (KeyError, TypeError, ValueError) as error:
            result.skipped.append(f"{task.name}: an event could not be read ({error})")
            continue
        _, created = TaskEvent.objects.get_or_create(task=task, uuid=values.pop("uuid"), defaults=values)
        count += created
    return count


def _event_values(given: Mapping[str, Any]) -> dict[str, Any]:
    config = given.get("config")
    if isinstance(config, Mapping):
        config = {
            "providers": list(config.get("providers") or []),
            "services": list(config.get("services") or []),
            # Older versions called it `module`, as seed 002 still does.
            "source": str(config.get("source") or config.get("module") or ""),
        }
    error = given.get("error") or {}
    return {
        "uuid": uuid.UUID(given["id"]),
        "success": bool(given["success"]),
        "start_time": _time(given["start_time"]),
        "end_time": _time(given["end_time"]),
        "error": str(error.get("message", "")),
        "config": config if isinstance(config, dict) else None,
    }


def _time(text: str) -> datetime:
    """RFC 3339 with up to nine decimals, of which six can be kept."""
    found = parse_datetime(_NANOSECONDS.sub(r"\1", text))
    if found is None or timezone.is_naive(found):
        raise ValueError(f"{text!r} is no time with an offset")
    return found
