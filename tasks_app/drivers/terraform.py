"""Terraform: init, validate, plan to a file, apply that file. Output is read from its `-json` stream.

Facts about Terraform's behaviour: contracts, CTS 11.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import process, terraform_files
from .base import Applied, Change, DriverError, Job, Line, Plan, TaskDriver, Watch
from .terraform_files import INPUTS, MAIN, PROVIDERS, VARIABLES, write_json

PLAN_FILE = "plan.bin"
LOCK_TIMEOUT = "20s"
_ACTIONS = {
    ("create",): "create",
    ("update",): "update",
    ("delete",): "delete",
    ("read",): "read",
    ("delete", "create"): "replace",
    ("create", "delete"): "replace",
    ("forget",): "forget",
}
_LOCK = re.compile(
    r"^\s*ID:\s+(?P<id>\S+)$.*^\s*Who:\s+(?P<who>\S+)$.*^\s*Created:\s+(?P<created>\S+ [\d:]+)",
    re.MULTILINE | re.DOTALL,
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_UNKNOWN_ARGUMENT = {"Unsupported argument", "Extraneous JSON object property"}
_MASK = "(sensitive value)"
# Ours are not the tools' business, and they hold keys.
_PRIVATE = re.compile(r"MUSTER_|DJANGO_|TF_CLI_CONFIG_FILE$|TF_LOG|TF_WORKSPACE$|TF_CLI_ARGS")


class TerraformDriver(TaskDriver):
    """The real one."""

    kind = "terraform"
    label = "Terraform"

    def prepare(self, job: Job, watch: Watch) -> None:
        """Write the root module, `init`, choose the workspace, `validate`. Faults are permanent.

        What an earlier run has initialised, and nobody changed since, is not initialised again.
        """
        changed = self._write(job)
        marker = job.directory / process.GUARDED / "initialised"
        if not (job.fresh or changed) and marker.exists():
            return
        marker.unlink(missing_ok=True)
        words = ["init", "-json", "-input=false", "-reconfigure", "-upgrade"]
        self._run(job, watch, "init", words, permanent=True)
        if "http" not in job.backend:
            self._select_workspace(job, watch)
        self._validate(job, watch)
        marker.touch()

    def plan(self, job: Job, watch: Watch) -> Plan:
        """`plan` to a file, and what it says in words and as a list."""
        self._write(job)
        words = [
            "plan",
            "-json",
            "-input=false",
            "-detailed-exitcode",
            f"-lock-timeout={LOCK_TIMEOUT}",
            f"-out={PLAN_FILE}",
        ]
        words += ["-destroy"] if job.destroy else []
        words += ["-refresh-only"] if job.refresh_only else []
        try:
            outcome = self._run(job, watch, "plan", words, good=(0, 2))
        except DriverError:
            # The next attempt initialises anew: modules or providers may be missing.
            (job.directory / process.GUARDED / "initialised").unlink(missing_ok=True)
            raise
        shown = json.loads(self._read(job, watch, ["show", "-json", PLAN_FILE]) or "{}")
        text = self._read(job, watch, ["show", "-no-color", PLAN_FILE]) if job.wants_text else ""
        key = "resource_drift" if job.refresh_only else "resource_changes"
        changes = [change for change in map(_change, shown.get(key) or []) if change]
        return Plan(
            has_changes=outcome.code == 2,
            text=text,
            changes=changes,
            counts=_counts(changes),
            resources=_resources((shown.get("planned_values") or {}).get("root_module") or {}),
            file=(job.directory / PLAN_FILE).read_bytes(),
            diagnostics=outcome.diagnostics,
        )

    def apply(self, job: Job, plan: Plan, watch: Watch) -> Applied:
        """Apply the plan file, byte for byte as it was approved."""
        path = job.directory / PLAN_FILE
        if not path.exists() or path.read_bytes() != plan.file:
            _write_private(path, plan.file)
        words = ["apply", "-json", "-input=false", f"-lock-timeout={LOCK_TIMEOUT}", PLAN_FILE]
        try:
            outcome = self._run(job, watch, "apply", words)
        finally:
            path.unlink(missing_ok=True)  # it holds every value of the configuration, and is of no more use
        return Applied(diagnostics=outcome.diagnostics)

    def finished_well(self, job: Job) -> bool:
        return process.exit_code(job.directory) == 0

    def is_at_work(self, job: Job) -> bool:
        return process.is_at_work(job.directory)

    def unread_output(self, job: Job, offset: int) -> list[Line]:
        return [_line("apply", text)[0] for text in process.unread_lines(job.directory, offset)]

    # -- files ---------------------------------------------------------------------------------------

    def _write(self, job: Job) -> bool:
        job.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        backend = {
            kind: terraform_files.backend_path(kind, settings, job.directory)
            for kind, settings in job.backend.items()
        }
        root = terraform_files.root_module(
            name=job.name,
            directory=job.directory,
            document=job.document,
            inputs=job.inputs,
            backend=backend,
            providers=job.providers,
        )
        wanted = list(job.document.get("providers") or [])
        write_json(job.directory / INPUTS, {"services": {}, **job.inputs})
        write_json(job.directory / VARIABLES, dict(job.document.get("variables") or {}))
        write_json(job.directory / PROVIDERS, terraform_files.provider_values(wanted, job.providers))
        return write_json(job.directory / MAIN, root)

    def _select_workspace(self, job: Job, watch: Watch) -> None:
        try:
            if (job.directory / ".terraform" / "environment").read_text() == job.name:
                return
        except OSError:
            pass
        words = ["workspace", "select", "-or-create=true", "-no-color", job.name]
        self._run(job, watch, "init", words, permanent=True)

    def _validate(self, job: Job, watch: Watch) -> None:
        answer = self._read(job, watch, ["validate", "-json"], good=(0, 1))
        try:
            found = json.loads(answer)
        except ValueError:
            raise DriverError(answer.strip() or "terraform validate failed", permanent=True) from None
        if found.get("valid"):
            return
        diagnostics = [_diagnostic(entry) for entry in found.get("diagnostics") or []]
        for entry in diagnostics:
            watch.line(Line("validate", entry["text"], entry["severity"], "diagnostic"))
        raise DriverError(_validation_text(job, diagnostics), permanent=True, diagnostics=diagnostics)

    # -- commands ------------------------------------------------------------------------------------

    def _run(
        self,
        job: Job,
        watch: Watch,
        phase: str,
        words: list[str],
        *,
        good: tuple[int, ...] = (0,),
        permanent: bool = False,
    ) -> _Hearing:
        """A command whose lines are passed on. Raises DriverError with its diagnostics."""
        hearing = _Hearing(phase, watch)
        outcome = process.run_command(
            [job.program, *words],
            directory=job.directory,
            environment=_environment(job),
            watch=watch,
            name=phase,
            hear=hearing.hear,
        )
        hearing.code = outcome.code
        if outcome.code in good:
            return hearing
        # The HTTP backend describes whoever asks, not the holder; its locks of dead runs are opened anyway.
        lock = "" if "http" in job.backend else own_lock(hearing.error_text, job.own_locks_since)
        if lock and phase != "unlock":
            watch.line(Line("note", f"Breaking the lock {lock} that an interrupted attempt left."))
            self._run(job, watch, "unlock", ["force-unlock", "-force", lock])
            return self._run(job, watch, phase, words, good=good, permanent=permanent)
        message = hearing.error_text or f"terraform {words[0]} ended with exit code {outcome.code}"
        raise DriverError(message, permanent=permanent, diagnostics=hearing.diagnostics)

    def _read(self, job: Job, watch: Watch, words: list[str], good: tuple[int, ...] = (0,)) -> str:
        """What a short command prints, unheard by anybody. Raises DriverError."""
        lines: list[str] = []
        outcome = process.run_command(
            [job.program, *words],
            directory=job.directory,
            environment=_environment(job),
            watch=watch,
            name=words[0],
            hear=lambda line, _: lines.append(line),
        )
        text = "\n".join(lines)
        if outcome.code not in good:
            raise DriverError(text.strip() or f"terraform {words[0]} ended with exit code {outcome.code}")
        return text


def own_lock(text: str, since: datetime | None) -> str:
    """Id of the lock that an error tells of, where this user of this machine took it after `since`.

    Anybody else's, a person's at work by hand say, is never broken.
    """
    found = _LOCK.search(text) if since is not None and "state lock" in text else None
    if found is None or since is None:
        return ""
    created = datetime.strptime(found["created"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    mine = found["who"] == f"{getpass.getuser()}@{socket.gethostname()}"
    return found["id"] if mine and created >= since.replace(microsecond=0) else ""


class _Hearing:
    """Passes the lines of one command on and keeps its diagnostics."""

    def __init__(self, phase: str, watch: Watch) -> None:
        self.phase = phase
        self.watch = watch
        self.diagnostics: list[dict[str, Any]] = []
        self.plain: list[str] = []
        self.done = 0
        self.code = 0

    def hear(self, text: str, offset: int) -> None:
        line, said = _line(self.phase, text)
        if line.text:
            self.watch.line(line, offset)
        if said is None:
            self.plain.append(text)
            return
        if line.kind == "diagnostic":
            self.diagnostics.append(_diagnostic(said.get("diagnostic") or {}))
        elif line.kind == "apply_complete":
            self.done += 1
            self.watch.progress(self.done, line.text)
        elif line.kind == "guard":
            self.plain.append(line.text)

    @property
    def error_text(self) -> str:
        errors = [entry["text"] for entry in self.diagnostics if entry["severity"] == "error"]
        if errors:
            return "\n".join(errors)
        return "\n".join(self.plain[-20:]).strip()


def _environment(job: Job) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not _PRIVATE.match(name)}
    wanted = list(job.document.get("providers") or [])
    return {
        **own,
        "TF_IN_AUTOMATION": "1",
        "CHECKPOINT_DISABLE": "1",
        "TF_INPUT": "0",
        **terraform_files.provider_environment(wanted, job.providers),
        **job.environment,
    }


def _line(phase: str, text: str) -> tuple[Line, dict[str, Any] | None]:
    """A line of the `-json` stream; any other text is passed on as it is."""
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    if not isinstance(said, dict) or "@message" not in said:
        return Line(phase, _COLOUR.sub("", text).rstrip()), None
    kind = str(said.get("type", ""))
    message = str(said["@message"])
    if kind == "diagnostic":
        message = _diagnostic(said.get("diagnostic") or {})["text"]
    message = _COLOUR.sub("", message).strip("\n")
    return Line(phase, message, str(said.get("@level", "info")), kind), said


def _diagnostic(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Severity, summary, detail, address, file and line of one diagnostic, and all of it as one text."""
    place = entry.get("range") or {}
    summary, detail = str(entry.get("summary", "")), str(entry.get("detail", ""))
    severity = "warn" if entry.get("severity") == "warning" else "error"
    return {
        "severity": severity,
        "summary": summary,
        "detail": detail,
        "address": entry.get("address", ""),
        "file": place.get("filename", ""),
        "line": (place.get("start") or {}).get("line", 0),
        "text": f"{summary}\n{detail}" if detail else summary,
    }


def _validation_text(job: Job, diagnostics: list[dict[str, Any]]) -> str:
    """Missing variables in the original's words (contract, CTS 9)."""
    errors = [entry for entry in diagnostics if entry["severity"] == "error"]
    texts = []
    for entry in errors:
        text = entry["text"]
        for name in terraform_files.INPUT_TYPES:
            if entry["summary"] in _UNKNOWN_ARGUMENT and f'"{name}"' in entry["detail"]:
                text = f'module for task "{job.name}" is missing the "{name}" variable'
                if name != "services":
                    text += ', add to module or set "use_as_module_input" to false'
        texts.append(text)
    return "\n".join(texts) or "terraform validate failed"


def _change(entry: Mapping[str, Any]) -> Change | None:
    change = entry.get("change") or {}
    actions = tuple(change.get("actions") or ())
    if actions in {("no-op",), ()}:
        return None
    return Change(
        action=_ACTIONS.get(actions, "/".join(actions)),
        address=str(entry.get("address", "")),
        before=_masked(change.get("before"), change.get("before_sensitive")),
        after=_after(change),
        reason=str(entry.get("action_reason", "")),
    )


def _after(change: Mapping[str, Any]) -> Any:
    after = _masked(change.get("after"), change.get("after_sensitive"))
    unknown = change.get("after_unknown")
    if isinstance(after, dict) and isinstance(unknown, dict):
        for key, value in unknown.items():
            if value is True:
                after[key] = "(known after apply)"
    return after


def _masked(value: Any, sensitive: Any) -> Any:
    if sensitive is True:
        return _MASK
    if isinstance(value, dict) and isinstance(sensitive, dict):
        return {key: _masked(inner, sensitive.get(key)) for key, inner in value.items()}
    if isinstance(value, list) and isinstance(sensitive, list):
        pairs = zip(value, [*sensitive, *[None] * len(value)], strict=False)
        return [_masked(inner, mask) for inner, mask in pairs]
    return value


def _counts(changes: list[Change]) -> dict[str, int]:
    counts = {"add": 0, "change": 0, "remove": 0}
    for change in changes:
        counts["add"] += change.action in {"create", "replace"}
        counts["change"] += change.action == "update"
        counts["remove"] += change.action in {"delete", "replace"}
    return counts


def _resources(module: Mapping[str, Any]) -> int:
    """Managed resources of a module and of those within it."""
    own = sum(1 for entry in module.get("resources") or [] if entry.get("mode") == "managed")
    return own + sum(_resources(child) for child in module.get("child_modules") or [])


def _write_private(path: Path, content: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)  # mode 0600
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.replace(temporary, path)
