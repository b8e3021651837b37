"""A driver that touches nothing: for trying out, for tests, and as the example of how a driver looks.

What it does is written in the document's `fake`: `{"changes": 2, "fail": "plan"|"apply"|"prepare", "error":
"text", "fail_times": 1, "seconds": 0.5, "remove": 0}`. It counts its calls in a file of the task's directory.
"""

from __future__ import annotations

import json
import time
from typing import Any

from .base import Applied, Change, DriverError, Job, Line, Plan, Stopped, TaskDriver, Watch
from .terraform_files import write_json


class FakeDriver(TaskDriver):
    """Plans and applies in its imagination."""

    kind = "fake"
    label = "Fake"

    def prepare(self, job: Job, watch: Watch) -> None:
        """Fails where the document says so."""
        job.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        watch.line(Line("init", "Preparing nothing."))
        self._maybe_fail(job, "prepare", permanent=True)

    def plan(self, job: Job, watch: Watch) -> Plan:
        """As many changes as the document says; `remove` of them are deletions."""
        self._maybe_fail(job, "plan")
        settings = self._settings(job)
        count, remove = int(settings.get("changes", 1)), int(settings.get("remove", 0))
        changes = [
            Change("delete" if index < remove or job.destroy else "create", f"fake.thing[{index}]", None, {})
            for index in range(count)
        ]
        counts = {"add": count - remove, "change": 0, "remove": remove}
        watch.line(Line("plan", f"Plan: {count - remove} to add, 0 to change, {remove} to destroy."))
        text = "\n".join(f"{change.action} {change.address}" for change in changes)
        resources = 0 if job.destroy else count
        return Plan(count > 0, text, changes, counts, resources, file=text.encode() or b"-")

    def apply(self, job: Job, plan: Plan, watch: Watch) -> Applied:
        """Takes `seconds`, and stops when told to."""
        self._count(job, "apply_started")
        settings = self._settings(job)
        until = time.monotonic() + float(settings.get("seconds", 0))
        while time.monotonic() < until:
            reason = watch.stop()
            if reason:
                raise Stopped(reason)
            time.sleep(0.02)
        self._maybe_fail(job, "apply")
        watch.line(Line("apply", "Apply complete!"))
        self._count(job, "apply_done")
        write_json(job.directory / "applied.json", {"inputs": dict(job.inputs)})
        return Applied()

    def _settings(self, job: Job) -> dict[str, Any]:
        return dict(job.document.get("fake") or {})

    def _maybe_fail(self, job: Job, where: str, *, permanent: bool = False) -> None:
        settings = self._settings(job)
        if settings.get("fail") != where:
            return
        if self._count(job, f"{where}_failures") <= int(settings.get("fail_times", 1_000_000)):
            raise DriverError(str(settings.get("error") or f"fake {where} error"), permanent=permanent)

    def _count(self, job: Job, name: str) -> int:
        path = job.directory / "counts.json"
        counts = json.loads(path.read_text()) if path.exists() else {}
        counts[name] = counts.get(name, 0) + 1
        write_json(path, counts)
        return counts[name]
