"""`manage.py demo`: boots the sample template over the emulated fleet and shows it phase by phase."""

from __future__ import annotations

from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from accounts_app.models import User
from sessions_app import sample, watch
from sessions_app.services import Refused, find_template, start_session
from sessions_app.states import Operation


class Command(BaseCommand):
    """Starts a session and follows it to its end."""

    help = "Boot the sample session template and show its progress."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Which template and what to do with its nodes."""
        parser.add_argument("--template", default=sample.TEMPLATE)
        parser.add_argument("--operation", choices=Operation.values, default=Operation.REBOOT)
        parser.add_argument("--user", default="admin", help="in whose name")

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError where the session can't be started; a session that fails is no error here."""
        try:
            session = start_session(
                template=find_template(name=options["template"], domain=None),
                operation=options["operation"],
                actor=User.objects.filter(username=options["user"]).first(),
                name=f"{options['template']}-{timezone.now():%Y%m%d-%H%M%S}",
            )
        except Refused as refused:
            raise CommandError(str(refused)) from None
        # Whoever stops watching does not stop the session.
        with suppress(KeyboardInterrupt):
            watch.follow(session)
