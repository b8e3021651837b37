"""`manage.py watch SESSION|TASK`: follows a boot session or a background task in the terminal."""

from __future__ import annotations

import sys
import uuid
from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Q

from events_app.models import BackgroundTask
from sessions_app import watch, watch_task
from sessions_app.models import BootSession


class Command(BaseCommand):
    """Follows one session or background task to its end."""

    help = "Show the progress of a boot session or a background task until it is over."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Which one."""
        parser.add_argument("name", help="a session's name or id, or a background task's id")
        parser.add_argument("--tenant", help="of a session that belongs to one")

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError for an unknown name; ends with 1 where a background task did not end well."""
        named = Q(name=options["name"])
        with suppress(ValueError):
            named |= Q(uuid=uuid.UUID(options["name"]))
        sessions = BootSession.objects.filter(named)
        if options["tenant"]:
            sessions = sessions.filter(domain__name=options["tenant"])
        session = sessions.order_by("domain_id").first()
        if session is None:
            self._watch_task(options["name"])
            return
        # Whoever stops watching does not stop the session.
        with suppress(KeyboardInterrupt):
            watch.follow(session)

    def _watch_task(self, name: str) -> None:
        task = None
        with suppress(ValueError):
            task = BackgroundTask.objects.filter(pk=uuid.UUID(name)).first()
        if task is None:
            raise CommandError(f"There is no session or background task '{name}'.")
        with suppress(KeyboardInterrupt):
            if not watch_task.follow(task):
                sys.exit(1)
