"""`manage.py import_cts --url URL | --dir DIR`: take over the tasks of a Consul-Terraform-Sync."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import requests
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.progress import track

from accounts_app.models import Domain
from tasks_app.importing import import_tasks

TIMEOUT = 30.0  # seconds


class Command(BaseCommand):
    """Tasks come disabled: nothing runs before somebody has looked."""

    help = "Create the tasks of a running Consul-Terraform-Sync, disabled, with their past events."

    def add_arguments(self, parser: CommandParser) -> None:
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument("--url", help="where it answers, such as http://localhost:8558")
        source.add_argument("--dir", help="a folder with its answers: tasks.json and status.json")
        parser.add_argument("--domain", default="", help="the tenant that the tasks will belong to")

    def handle(self, *args: Any, **options: Any) -> None:
        tasks, statuses = _fetch(options["url"]) if options["url"] else _read(Path(options["dir"]))
        domain = None
        if options["domain"]:
            domain = Domain.objects.filter(name=options["domain"]).first()
            if domain is None:
                raise CommandError(f"There is no domain {options['domain']!r}.")
        bar = partial(track, description="Importing", disable=not sys.stdout.isatty())
        try:
            result = import_tasks(tasks=tasks, statuses=statuses, domain=domain, each=bar)
        except ValueError as error:
            raise CommandError(str(error)) from None
        for sentence in result.skipped:
            self.stderr.write(sentence)
        names = ", ".join(result.tasks) or "none"
        self.stdout.write(f"{len(result.tasks)} tasks ({names}) and {result.events} events were imported.")
        if result.tasks:
            self.stdout.write("They are disabled: PATCH /v1/tasks/NAME?run=inspect shows what each would do.")


def _fetch(url: str) -> tuple[Any, Any]:
    return _get(f"{url.rstrip('/')}/v1/tasks"), _get(f"{url.rstrip('/')}/v1/status/tasks?include=events")


def _get(url: str) -> Any:
    try:
        answer = requests.get(url, timeout=TIMEOUT)
        answer.raise_for_status()
        return answer.json()
    except (requests.RequestException, ValueError) as error:
        raise CommandError(f"{url} did not answer as expected: {error}") from None


def _read(directory: Path) -> tuple[Any, Any]:
    found = []
    for name in ("tasks.json", "status.json"):
        try:
            found.append(json.loads((directory / name).read_text()))
        except (OSError, ValueError) as error:
            raise CommandError(f"{directory / name} can't be read: {error}") from None
    return found[0], found[1]
