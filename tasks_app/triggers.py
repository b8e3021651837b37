"""What a document watches, and the rows of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.utils import timezone

from events_app.models import LifecycleEvent
from events_app.services import seen_within
from tasks_app.cron import Cron, CronError
from tasks_app.models import Task, Trigger
from tasks_app.states import HEARD, WATCHED, TriggerKind

WATCHER = "watcher"  # as whom the watching process is seen at work
WATCHER_SEEN = 30.0  # seconds


@dataclass(frozen=True)
class Watched:
    """One thing that a document names: it fires runs, feeds the module, or both."""

    kind: str
    spec: dict[str, Any]
    fires: bool
    feeds: bool


def watched_by(document: Mapping[str, Any]) -> list[Watched]:
    """All that a document watches: its condition and the inputs of its module."""
    found = []
    for kind, spec in (document.get("condition") or {}).items():
        plain = {key: value for key, value in spec.items() if key != "use_as_module_input"}
        feeds = kind in WATCHED and spec.get("use_as_module_input", True)
        found.append(Watched(kind, plain, fires=True, feeds=feeds))
    for kind, spec in (document.get("module_input") or {}).items():
        found.append(Watched(kind, dict(spec), fires=False, feeds=True))
    if document.get("services"):  # the deprecated list: a condition where there is no other
        fires = not document.get("condition")
        spec = {
            "names": list(document["services"]),
            "datacenter": "",
            "namespace": "",
            "filter": "",
            "cts_user_defined_meta": {},
        }
        found.append(Watched(TriggerKind.SERVICES, spec, fires=fires, feeds=True))
    return found


def digest_of(value: Any) -> str:
    """SHA-256 of a value's JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def trigger_digest(kind: str, value: Any) -> str:
    """Digest of what counts as a change: of the catalog only the names (contract, CTS 5.1)."""
    if kind == TriggerKind.CATALOG_SERVICES:
        return digest_of(sorted(value))
    return digest_of(value)


def next_tick(cron: str, after: datetime) -> datetime | None:
    """When a cron expression fires next; None where it never does again."""
    try:
        return Cron(cron).next_after(after, ZoneInfo(settings.MUSTER_SCHEDULE_TIME_ZONE))
    except CronError:
        return None


def sync_triggers(task: Task) -> None:
    """Make the rows of a task's triggers what its document says; equal ones keep what they have seen."""
    wanted = watched_by(task.document)
    kept: list[int] = []
    existing = list(task.triggers.all())
    newest = LifecycleEvent.objects.order_by("-number").values_list("number", flat=True).first() or 0
    for item in wanted:
        key = (item.kind, item.spec, item.fires)
        free = [row for row in existing if row.pk not in kept and (row.kind, row.spec, row.fires) == key]
        same = free[0] if free else None
        if same is None:
            same = Trigger(task=task, kind=item.kind, spec=item.spec, fires=item.fires)
            if item.kind in HEARD:
                same.cursor = newest
        same.feeds = item.feeds
        if item.kind == TriggerKind.SCHEDULE:
            same.due_at = next_tick(item.spec["cron"], timezone.now())
            same.error = "" if same.due_at else "This schedule has no future time."
        same.save()
        kept.append(same.pk)
    task.triggers.exclude(pk__in=kept).delete()
    cron = task.document.get("drift_schedule")
    task.drift_due_at = next_tick(cron, timezone.now()) if cron else None
    task.save(update_fields=["drift_due_at"])


def watching_fault() -> list[str]:
    """Why nothing is watched at all, where something should be."""
    wanted = (
        settings.MUSTER_CONSUL["address"] and Trigger.objects.watched().filter(task__enabled=True).exists()
    )
    if wanted and not seen_within(WATCHER, WATCHER_SEEN):
        return ["nobody watches Consul: the process watch_conditions does not run"]
    return []
