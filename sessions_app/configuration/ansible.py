"""Applies a playbook by ansible-runner: one run for many nodes, one outcome for each.

A configuration is a folder of MUSTER_CONFIGURATIONS with a playbook `site.yml`, or a file NAME.json beside
it that names a git repository: {"git": URL, "ref": BRANCH OR TAG OR COMMIT, "playbook": PATH}. The output of
each run is kept in MUSTER_HOME/configuration/NAME/.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ansible_runner
import psutil
from django.conf import settings

from .base import ConfigurationDriver, Outcome

NAME = re.compile(r"[a-zA-Z0-9](?:[-._a-zA-Z0-9]{0,125}[a-zA-Z0-9])?")
PLAYBOOK = "site.yml"
PROGRAMS = Path(sys.executable).parent  # of this virtual environment, whose PATH may not name it
GIT_SECONDS = 120
ASK_EVERY = 2.0  # seconds between two questions whether the outcome is still wanted
LOGS_KEPT = 20  # of each configuration
WHAT_FAILS = ("runner_on_failed", "runner_on_unreachable", "runner_item_on_failed")


@dataclass(frozen=True)
class Source:
    """Where a configuration's playbook is."""

    folder: Path
    playbook: str


class SourceError(Exception):
    """A configuration that can't be found or fetched; the message is one sentence."""


class AnsibleConfiguration(ConfigurationDriver):
    """ansible-playbook on an inventory of the nodes, up to MUSTER_CONFIGURATION_FORKS at a time."""

    label = "Ansible"

    def apply(
        self, configuration: str, nodes: Sequence[str], *, wanted: Callable[[], bool]
    ) -> dict[str, Outcome]:
        """See ConfigurationDriver.apply."""
        with tempfile.TemporaryDirectory(prefix="muster-configure-") as scratch:
            try:
                source = find(configuration, Path(scratch), self.read_seconds)
            except SourceError as error:
                return dict.fromkeys(nodes, Outcome(str(error)))
            try:
                return self._run(configuration, source, list(nodes), Path(scratch), wanted)
            finally:
                _end_leftovers(scratch)

    def _run(
        self, name: str, source: Source, nodes: list[str], scratch: Path, wanted: Callable[[], bool]
    ) -> dict[str, Outcome]:
        errors: dict[str, str] = {}
        stats: dict[str, Any] = {}
        ask = _Asker(wanted)
        with _log(name).open("w", encoding="utf-8") as log:

            def hear(event: dict[str, Any]) -> bool:
                log.write(f"{event.get('stdout', '')}\n" if event.get("stdout") else "")
                log.flush()
                data = event.get("event_data") or {}
                if event.get("event") in WHAT_FAILS and not data.get("ignore_errors"):
                    errors[data.get("host", "")] = _said(data)
                elif event.get("event") == "playbook_on_stats":
                    stats.update(data)
                return False  # nothing is kept on disk but the log

            done = ansible_runner.run(
                private_data_dir=str(scratch),
                project_dir=str(source.folder),
                playbook=source.playbook,
                inventory={"all": {"hosts": {node: {} for node in nodes}}},
                forks=settings.MUSTER_CONFIGURATION_FORKS,
                timeout=settings.MUSTER_CONFIGURATION_SECONDS,
                event_handler=hear,
                cancel_callback=ask.unwanted,
                quiet=True,
                envvars={
                    "PATH": f"{PROGRAMS}:{os.environ.get('PATH', os.defpath)}",
                    "ANSIBLE_NOCOLOR": "1",
                    "ANSIBLE_TIMEOUT": str(int(self.read_seconds)),  # of a connection to a node
                    "ANSIBLE_RETRY_FILES_ENABLED": "0",
                },
            )
        if done.status == "canceled":
            return {}
        return {node: _outcome(node, done.status, stats, errors) for node in nodes}


def _end_leftovers(scratch: str) -> None:
    """Ansible's workers are sessions of their own: ending the playbook's group does not reach them."""
    for process in psutil.process_iter(["cmdline"]):
        if any(scratch in word for word in process.info["cmdline"] or []):
            with contextlib.suppress(psutil.Error):
                process.kill()


def _outcome(node: str, status: str, stats: dict[str, Any], errors: dict[str, str]) -> Outcome:
    if node in stats.get("failures", {}) or node in stats.get("dark", {}):
        return Outcome(errors.get(node) or "The playbook failed.")
    if node in stats.get("ok", {}):
        return Outcome()
    if status == "timeout":
        return Outcome("The playbook took too long.")
    return Outcome("The playbook did not reach this node.")


def _said(data: dict[str, Any]) -> str:
    """One line of what a task said when it failed."""
    result = data.get("res") or {}
    message = "output hidden" if result.get("_ansible_no_log") else result.get("msg") or result.get("stderr")
    text = " ".join(str(message or "failed").split())[:300]
    return f"{data.get('task', 'Task')}: {text}"


class _Asker:
    """ansible-runner asks many times a second; the database is asked every few seconds."""

    def __init__(self, wanted: Callable[[], bool]) -> None:
        self._wanted, self._next, self._over = wanted, 0.0, False

    def unwanted(self) -> bool:
        """Whether the run should stop."""
        if not self._over and time.monotonic() >= self._next:
            self._over = not self._wanted()
            self._next = time.monotonic() + ASK_EVERY
        return self._over


def find(name: str, scratch: Path, read_seconds: float) -> Source:
    """The playbook of a configuration, fetched where it is in git. Raises SourceError."""
    if not NAME.fullmatch(name):
        raise SourceError(f"'{name}' is not the name of a configuration.")
    root = Path(settings.MUSTER_CONFIGURATIONS)
    described = root / f"{name}.json"
    folder, playbook = root / name, PLAYBOOK
    if described.is_file():
        folder, playbook = _fetch(name, described, scratch, read_seconds)
    if not folder.is_dir():
        raise SourceError(f"There is no configuration '{name}'.")
    if not (folder / playbook).resolve().is_relative_to(folder.resolve()):
        raise SourceError(f"The playbook of configuration '{name}' is outside of it.")
    if not (folder / playbook).is_file():
        raise SourceError(f"Configuration '{name}' has no playbook {playbook}.")
    return Source(folder, playbook)


def _fetch(name: str, described: Path, scratch: Path, read_seconds: float) -> tuple[Path, str]:
    try:
        document = json.loads(described.read_text())
        url, ref = document["git"], document.get("ref", "HEAD")
        playbook = document.get("playbook", PLAYBOOK)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise SourceError(f"{described.name} must hold an object with `git`.") from None
    if shutil.which("git") is None:
        raise SourceError(f"git is not installed, configuration '{name}' is in a repository.")
    folder = scratch / "checkout"
    quiet = int(read_seconds)  # a server that sends nothing for so long is given up
    alive = f"ssh -o ConnectTimeout={quiet} -o ServerAliveInterval={quiet} -o ServerAliveCountMax=1"
    waits = {
        "GIT_HTTP_LOW_SPEED_LIMIT": "1",
        "GIT_HTTP_LOW_SPEED_TIME": str(quiet),
        "GIT_SSH_COMMAND": alive,
        **os.environ,
    }
    for command in (
        ["git", "init", "--quiet", str(folder)],
        ["git", "-C", str(folder), "fetch", "--quiet", "--depth", "1", "--", str(url), str(ref)],
        ["git", "-C", str(folder), "checkout", "--quiet", "FETCH_HEAD"],
    ):
        try:
            longest = max(GIT_SECONDS, read_seconds)
            subprocess.run(command, check=True, capture_output=True, timeout=longest, env=waits)
        except (subprocess.SubprocessError, OSError):
            # git's own words may hold the URL, and that a password.
            raise SourceError(f"Configuration '{name}' could not be fetched (git {command[-1]}).") from None
    return folder, str(playbook)


def _log(name: str) -> Path:
    """A new log of this configuration; the oldest go."""
    folder = Path(settings.HOME) / "configuration" / name
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("*.log"))[: -LOGS_KEPT + 1]:
        old.unlink(missing_ok=True)
    return folder / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{time.monotonic_ns()}.log"
