"""Any program as a task: an argument list, an environment, a time-out. It plans nothing it could show.

Settings (`document["command"]`): `argv` (list of texts, no shell), `env` (map), `plan_argv` (optional; prints
what would be done, exit code 2 = changes), `destroy_argv` (optional). The inputs of the task stand in a JSON
file that MUSTER_INPUTS names.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

from . import process
from .base import Applied, DriverError, Job, Line, Plan, TaskDriver, Watch
from .terraform_files import write_json

_PRIVATE = re.compile(r"MUSTER_|DJANGO_")
INPUTS_FILE = "inputs.json"


class CommandDriver(TaskDriver):
    """Runs `argv`; exit code 0 is success."""

    kind = "command"
    label = "Command"

    def prepare(self, job: Job, watch: Watch) -> None:
        """Write the inputs; check the argument lists. Raises DriverError."""
        settings = self._settings(job)
        if job.destroy and not settings.get("destroy_argv"):
            raise DriverError("this task has no destroy_argv: it can't be destroyed", permanent=True)
        job.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(
            job.directory / INPUTS_FILE,
            {"inputs": dict(job.inputs), "variables": dict(job.document.get("variables") or {})},
        )

    def plan(self, job: Job, watch: Watch) -> Plan:
        """What `plan_argv` prints; without it every run counts as a change."""
        settings = self._settings(job)
        if job.refresh_only:
            return Plan(has_changes=False, text="A command can't tell about drift.")
        words = None if job.destroy else settings.get("plan_argv")
        if not words:
            argv = settings["destroy_argv" if job.destroy else "argv"]
            return Plan(
                has_changes=True, text=f"Would run {json.dumps(argv)}.", file=json.dumps(argv).encode()
            )
        code, lines = self._run(job, watch, "plan", words)
        if code not in (0, 2):
            raise DriverError(_last(lines, code))
        text = "\n".join(lines)
        return Plan(has_changes=code == 2, text=text, file=json.dumps(settings["argv"]).encode())

    def apply(self, job: Job, plan: Plan, watch: Watch) -> Applied:
        """Run the argument list that the plan froze."""
        code, lines = self._run(job, watch, "apply", json.loads(plan.file))
        if code != 0:
            raise DriverError(_last(lines, code))
        return Applied()

    def finished_well(self, job: Job) -> bool:
        return process.exit_code(job.directory) == 0

    def is_at_work(self, job: Job) -> bool:
        return process.is_at_work(job.directory)

    def unread_output(self, job: Job, offset: int) -> list[Line]:
        return [Line("apply", text) for text in process.unread_lines(job.directory, offset)]

    def _settings(self, job: Job) -> dict[str, Any]:
        return dict(job.document.get("command") or {})

    def _run(self, job: Job, watch: Watch, phase: str, words: list[str]) -> tuple[int, list[str]]:
        lines: list[str] = []

        def hear(text: str, offset: int) -> None:
            lines.append(text)
            del lines[:-1000]
            watch.line(Line(phase, text), offset)

        own = {name: value for name, value in os.environ.items() if not _PRIVATE.match(name)}
        env = {str(key): str(value) for key, value in (self._settings(job).get("env") or {}).items()}
        outcome = process.run_command(
            words,
            directory=job.directory,
            environment={**own, **env, **job.environment, "MUSTER_INPUTS": str(job.directory / INPUTS_FILE)},
            watch=watch,
            name=phase,
            hear=hear,
        )
        return outcome.code, lines


def _last(lines: list[str], code: int) -> str:
    said = next((line for line in reversed(lines) if line.strip()), "")
    return f"exit code {code}: {said}" if said else f"exit code {code}"
