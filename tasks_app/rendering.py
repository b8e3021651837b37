"""From a run and what its triggers have seen to the job that a driver gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.core import signing
from django.utils import timezone

from tasks_app.drivers import consul
from tasks_app.drivers.base import Job
from tasks_app.drivers.terraform_files import provider_environment
from tasks_app.models import Run, Task, Trigger
from tasks_app.states import CHANGING, WATCHED, Operation
from tasks_app.triggers import Watched, digest_of, trigger_digest, watched_by

STATE_SALT = "tasks_app.state"


class NotReady(Exception):
    """The data of an input is not complete; `permanent` where waiting is no use."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


@dataclass(frozen=True)
class Rendered:
    """The inputs of the module, and the digest of all that a plan depends on."""

    inputs: dict[str, Any]
    digest: str
    secrets: list[str] = field(default_factory=list, repr=False)


def render(run: Run, note: Callable[..., None]) -> Rendered:
    """Take the newest data for a run; its conditions count as handled by it. Raises NotReady."""
    inputs: dict[str, Any] = {}
    for item in watched_by(run.document):
        if item.kind not in WATCHED:
            continue
        row = _row_of(run.task, item)
        if row is not None and row.digest:
            value, digest = row.value, row.digest
            if row.error:
                note(f"{item.kind} can't be watched now ({row.error}); what was seen last is used.", "warn")
        else:
            value = _fetch(item, note)
            digest = trigger_digest(item.kind, value)
            if row is not None:
                _store_first(row, value, digest)
        if row is not None and item.fires and _handles(run, row):
            Trigger.objects.filter(pk=row.pk).update(handled=digest)
        if item.feeds:
            inputs[item.kind] = {**inputs.get(item.kind, {}), **(value or {})}
    wanted = list(run.document.get("providers") or [])
    hidden = list(provider_environment(wanted, settings.MUSTER_TASK_PROVIDERS).values())
    for word in wanted:
        config = (settings.MUSTER_TASK_PROVIDERS.get(word) or {}).get("config") or {}
        hidden += [value for value in config.values() if isinstance(value, str)]
    keys = ("module", "version", "providers", "variables", "driver", "command", "fake", "backend")
    basis = {key: run.document.get(key) for key in keys}
    return Rendered(inputs, digest_of({"settings": basis, "inputs": inputs}), hidden)


def _handles(run: Run, row: Trigger) -> bool:
    """Whether a condition's value counts as taken by this run.

    A run that applies takes it. Where a task is made or enabled without a run, what is there already waits
    for the next change (contract, CTS 6); any other look leaves a pending change pending.
    """
    if run.operation in CHANGING:
        return True
    first = run.creates or not run.task.enabled or not row.handled
    return run.operation == Operation.PREPARE and first


def _row_of(task: Task, item: Watched) -> Trigger | None:
    rows = task.triggers.filter(kind=item.kind, fires=item.fires)
    return next((row for row in rows if row.spec == item.spec), None)


def _fetch(item: Watched, note: Callable[..., None]) -> Any:
    """Ask Consul once, for what nobody has watched yet."""
    if not settings.MUSTER_CONSUL["address"]:
        note(f"No Consul is configured (MUSTER_CONSUL_URL): {item.kind} is empty.", "warn")
        return {}
    try:
        return consul.fetch(item.kind, item.spec, settings.MUSTER_CONSUL)
    except consul.ConsulError as error:
        raise NotReady(f"{item.kind}: {error}", permanent=error.permanent) from None


def _store_first(row: Trigger, value: Any, digest: str) -> None:
    """What a run has fetched counts as seen, unless the watcher was faster."""
    Trigger.objects.filter(pk=row.pk, digest="").update(
        value=value, digest=digest, seen_at=timezone.now(), error=""
    )


def directory_of(task: Task) -> Path:
    """The task's own directory: by domain and name, so that a task made anew finds its state again."""
    domain = f"domain-{task.domain_id}" if task.domain_id else "untenanted"
    return Path(settings.MUSTER_TASKS_HOME) / domain / task.name


def job_of(run: Run, rendered: Rendered, *, fresh: bool) -> Job:
    """What the driver gets."""
    backend, environment = backend_of(run)
    return Job(
        name=run.task.name,
        directory=directory_of(run.task),
        document=run.document,
        inputs=rendered.inputs,
        program=settings.MUSTER_TERRAFORM,
        backend=backend,
        providers=settings.MUSTER_TASK_PROVIDERS,
        environment=environment,
        fresh=fresh,
        wants_text=run.operation != Operation.APPLY or not run.document.get("auto_apply", True),
        destroy=run.operation == Operation.DESTROY,
        refresh_only=run.operation == Operation.DRIFT,
        own_locks_since=run.started_at if run.interruptions else None,
    )


def backend_of(run: Run) -> tuple[dict[str, Any], dict[str, str]]:
    """The backend block of a run, and the environment that goes with it.

    Our own HTTP backend is let in by a password of this very run and claim, which stands in no file.
    """
    name = run.document.get("backend") or settings.MUSTER_TASK_BACKEND
    kind, values = next(iter(settings.MUSTER_TASK_BACKENDS[name].items()))
    if kind != "http" or values:
        return {kind: dict(values)}, {}
    address = f"{settings.MUSTER_URL}/api/v1/tasks/{quote(run.task.name)}/state"
    token = signing.dumps({"run": run.pk, "claim": run.claim}, salt=STATE_SALT)
    environment = {
        "TF_HTTP_ADDRESS": address,
        "TF_HTTP_LOCK_ADDRESS": address,
        "TF_HTTP_UNLOCK_ADDRESS": address,
        "TF_HTTP_USERNAME": "run",
        "TF_HTTP_PASSWORD": token,
        "TF_HTTP_RETRY_MAX": "5",
    }
    return {"http": {}}, environment


def run_of_token(token: str) -> Run | None:
    """The run that may use its task's state now: it is at work under the claim that the token names."""
    try:
        said = signing.loads(token, salt=STATE_SALT)
    except signing.BadSignature:
        return None
    return Run.objects.select_related("task").filter(pk=said["run"], claim=said["claim"]).first()
