"""What pages ask about tasks and runs: read only, a fixed number of queries each."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db.models import F, QuerySet, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from tasks_app.durations import format_duration
from tasks_app.models import Run, Task, Trigger
from tasks_app.states import OPEN, TOKENS, Health, Operation, RunStatus, TriggerKind

STRIP = 14  # newest runs of a task in its health strip
NAMES_SHOWN = 4
ALONE = 3  # ill tasks get a line each up to so many

# A token's glyph and tone, as everywhere on the pages.
LOOKS: dict[str, tuple[str, str]] = {
    "not-started": ("○", "slate"),
    "in-progress": ("◐", "blue"),
    "succeeded": ("●", "green"),
    "failed": ("✕", "red"),
    "excluded": ("–", "grey"),
    "attention": ("▲", "amber"),
}
# Of a planned change: sign and tone.
SIGNS: dict[str, tuple[str, str]] = {
    "create": ("+", "green"),
    "update": ("~", "amber"),
    "delete": ("−", "red"),
    "replace": ("±", "red"),
    "read": ("<", "slate"),
    "import": ("+", "blue"),
    "move": (">", "blue"),
}


def look_of(status: str) -> tuple[str, str]:
    """Glyph and tone of a run's status or a task's health."""
    return LOOKS[TOKENS[status]]


@dataclass
class RunRow:
    """A run as lists show it."""

    run: Run

    @property
    def look(self) -> tuple[str, str]:
        """Glyph and tone."""
        return look_of(self.run.status)

    @property
    def word(self) -> str:
        """Its status in words."""
        return RunStatus(self.run.status).label

    @property
    def started_by(self) -> str:
        """`schedule`, `olga (manual)`."""
        kind = str(self.run.trigger.get("kind", "")).replace("_", " ")
        by = self.run.trigger.get("by") or ""
        return f"{by} ({kind})" if by else kind or "–"

    @property
    def changes(self) -> str:
        """`+3 ~1 −0`; a dash where nothing was planned."""
        counts = self.run.counts
        if not counts:
            return "no changes" if self.run.has_changes is False else "–"
        return f"+{counts.get('add', 0)} ~{counts.get('change', 0)} −{counts.get('remove', 0)}"


@dataclass
class TaskRow:
    """A task as lists show it."""

    task: Task
    condition: str
    strip: list[RunRow] = field(default_factory=list)

    @property
    def look(self) -> tuple[str, str]:
        """Of its health; grey where it is switched off."""
        return look_of(self.task.health) if self.task.enabled else LOOKS["excluded"]

    @property
    def word(self) -> str:
        """Its health in a word."""
        return Health(self.task.health).label if self.task.enabled else "disabled"

    @property
    def newest(self) -> RunRow | None:
        """The newest run."""
        return self.strip[-1] if self.strip else None


def tasks_of(user: Any) -> QuerySet[Task]:
    """Tasks that exist and `user` may see."""
    visible: Any = Task.objects.visible_to(user)  # OwnedQuerySet does not say that it stays a TaskQuerySet
    existing: QuerySet[Task] = visible.existing()
    return existing


def task_rows(tasks: list[Task]) -> list[TaskRow]:
    """With the newest runs of each, oldest first, by two queries."""
    ids = [task.pk for task in tasks]
    rank = Window(RowNumber(), partition_by=F("task_id"), order_by=F("number").desc())
    newest = (
        Run.objects.filter(task__in=ids)
        .annotate(rank=rank)
        .filter(rank__lte=STRIP)
        .defer("document", "change", "changes", "diagnostics", "plan_text")
        .order_by("number")
    )
    runs: dict[int, list[RunRow]] = defaultdict(list)
    for run in newest:
        runs[run.task_id].append(RunRow(run))
    triggers: dict[int, list[Trigger]] = defaultdict(list)
    for trigger in Trigger.objects.filter(task__in=ids, fires=True).defer("value"):
        triggers[trigger.task_id].append(trigger)
    return [TaskRow(task, condition_words(task, triggers[task.pk]), runs[task.pk]) for task in tasks]


def condition_words(task: Task, triggers: list[Trigger]) -> str:
    """When a task runs, in a sentence: `when service api changes, after 5s of quiet`."""
    said = [_trigger_words(trigger) for trigger in triggers]
    if not said:
        return "only by hand"
    buffer = task.document.get("buffer_period") or {}
    text = " or ".join(said)
    watched = any(trigger.kind != TriggerKind.SCHEDULE for trigger in triggers)
    if watched and buffer.get("enabled") and buffer.get("min"):
        text += f", after {format_duration(buffer['min'])} of quiet"
        if buffer.get("max"):
            text += f" (at most {format_duration(buffer['max'])})"
    return text


def _trigger_words(trigger: Trigger) -> str:
    spec = trigger.spec
    names = _listed(spec.get("names") or [])
    pattern = spec.get("regexp") or ""
    if trigger.kind == TriggerKind.SCHEDULE:
        at = f", next {trigger.due_at:%Y-%m-%d %H:%M} UTC" if trigger.due_at else ""
        return f"on the schedule {spec.get('cron', '')}{at}"
    if trigger.kind == TriggerKind.SERVICES:
        return f"when {names or f'a service like {pattern}'} changes"
    if trigger.kind == TriggerKind.CATALOG_SERVICES:
        return f"when a service like {pattern or 'any'} comes or goes"
    if trigger.kind == TriggerKind.CONSUL_KV:
        return (
            f"when {'anything below ' if spec.get('recurse') else 'the key '}{spec.get('path', '')} changes"
        )
    kind = "boot session" if trigger.kind == TriggerKind.SESSION else "workflow"
    which = f" like {spec['name']}" if spec.get("name") else ""
    return f"when a {kind}{which} has {' or '.join(spec.get('states') or [])}"


def _listed(names: list[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:NAMES_SHOWN])
    more = len(names) - NAMES_SHOWN
    word = "service" if len(names) == 1 else "one of the services"
    return f"{word} {shown}{f' and {more} more' if more > 0 else ''}"


@dataclass
class PlanRow:
    """One planned change of a resource."""

    sign: str
    tone: str
    action: str
    address: str
    differences: list[tuple[str, str, str]]
    reason: str


def plan_rows(run: Run) -> list[PlanRow]:
    """The plan as rows: what is added, changed, removed, and which attributes differ."""
    rows = []
    for change in run.changes:
        action = str(change.get("action", ""))
        sign, tone = SIGNS.get(action, ("~", "amber"))
        before, after = change.get("before"), change.get("after")
        rows.append(
            PlanRow(
                sign,
                tone,
                action,
                str(change.get("address", "")),
                _differences(before, after),
                str(change.get("reason") or ""),
            )
        )
    return rows


def _differences(before: Any, after: Any) -> list[tuple[str, str, str]]:
    """(attribute, before, after) of those that differ; whole values where they are no objects."""
    if not isinstance(before, dict) and not isinstance(after, dict):
        return [] if before == after else [("", _short(before), _short(after))]
    old = before if isinstance(before, dict) else {}
    new = after if isinstance(after, dict) else {}
    names = sorted({*old, *new})
    return [
        (name, _short(old.get(name)), _short(new.get(name)))
        for name in names
        if old.get(name) != new.get(name)
    ]


def _short(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= 300 else f"{text[:300]}…"


@dataclass
class Attention:
    """One line of the attention list."""

    look: tuple[str, str]
    what: str
    names: str
    url: str
    verb: str = "Open"
    mono: bool = False  # `names` are names of nodes


def attention(user: Any) -> list[Attention]:
    """What of automation needs a person: critical and errored tasks, plans that wait."""
    found = []
    waiting = Run.objects.visible_to(user).filter(status=RunStatus.UNCONFIRMED).select_related("task")
    for run in waiting.defer("document", "changes", "plan_text").order_by("pk")[:10]:
        what = f"Run {run.number} of {run.task.name} waits for approval"
        url = f"/tasks/{run.task.uuid}/runs/{run.number}/"
        found.append(Attention(LOOKS["attention"], what, RunRow(run).changes, url, "Decide"))
    for health in (Health.CRITICAL, Health.ERRORED):
        found += _ill_tasks(list(tasks_of(user).filter(health=health, enabled=True)[:200]), health)
    return found


def _ill_tasks(tasks: list[Task], health: str) -> list[Attention]:
    """A line for each of a few, one line for many."""
    if len(tasks) > ALONE:
        names = ", ".join(task.name for task in tasks[:8])
        more = f" and {len(tasks) - 8} more" if len(tasks) > 8 else ""
        what = f"{len(tasks)} tasks are {health}"
        return [Attention(look_of(health), what, names + more, f"/tasks/?health={health}")]
    return [
        Attention(
            look_of(health),
            f"Task {task.name} is {health}",
            task.option("description", ""),
            f"/tasks/{task.uuid}/",
        )
        for task in tasks
    ]


def needing_attention(user: Any) -> int:
    """How many lines that is; for the rail."""
    ill = tasks_of(user).filter(health__in=(Health.CRITICAL, Health.ERRORED), enabled=True).count()
    return ill + Run.objects.visible_to(user).filter(status=RunStatus.UNCONFIRMED).count()


def counts(user: Any) -> dict[str, int]:
    """Tasks by health, and what is open."""
    found = dict.fromkeys(Health.values, 0) | {"disabled": 0, "total": 0}
    for health, enabled in tasks_of(user).order_by().values_list("health", "enabled"):
        found["total"] += 1
        found[health if enabled else "disabled"] += 1
    found["open"] = Run.objects.visible_to(user).filter(status__in=OPEN).count()
    return found


def runs_by_hour(user: Any, hours: int = 24) -> list[tuple[int, int]]:
    """(succeeded, failed) of each of the last hours, oldest first; for a sparkline."""
    now = timezone.now()
    found = [[0, 0] for _ in range(hours)]
    rows = Run.objects.visible_to(user).filter(
        ended_at__gte=now - timedelta(hours=hours), status__in=(RunStatus.SUCCEEDED, RunStatus.FAILED)
    )
    for ended_at, status in rows.values_list("ended_at", "status"):
        place = hours - 1 - int((now - ended_at).total_seconds() // 3600)
        found[max(0, min(hours - 1, place))][status == RunStatus.FAILED] += 1
    return [(good, bad) for good, bad in found]


OPERATION_WORDS: dict[str, str] = {
    Operation.APPLY: "plan and apply",
    Operation.INSPECT: "plan only, change nothing",
    Operation.DRIFT: "compare what is recorded with reality, change nothing",
}
