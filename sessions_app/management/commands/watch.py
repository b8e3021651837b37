"""`manage.py watch NAME`: follows a boot session in the terminal."""

from __future__ import annotations

from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from sessions_app import watch
from sessions_app.models import BootSession


class Command(BaseCommand):
    """Follows one session to its end."""

    help = "Show the progress of a boot session until it is complete."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Which session."""
        parser.add_argument("name")
        parser.add_argument("--tenant", help="of a session that belongs to one")

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError for an unknown name."""
        sessions = BootSession.objects.filter(name=options["name"])
        if options["tenant"]:
            sessions = sessions.filter(domain__name=options["tenant"])
        session = sessions.order_by("domain_id").first()
        if session is None:
            raise CommandError(f"There is no session '{options['name']}'.")
        # Whoever stops watching does not stop the session.
        with suppress(KeyboardInterrupt):
            watch.follow(session)
