"""`manage.py sample_workflow`: describe and publish the sample workflow."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts_app.models import User
from workflows_app.samples import publish_sample
from workflows_app.services import deployment_of
from workflows_app.states import Colour


class Command(BaseCommand):
    """Repeating it changes nothing."""

    help = "Publish a small two-service workflow on the process runtime."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", default="", help="Who it belongs to; by default the first superadmin.")
        parser.add_argument("--wait", type=float, default=0, help="Seconds to wait until it is GREEN.")

    def handle(self, *args: Any, **options: Any) -> None:
        users = User.objects.filter(is_active=True).order_by("pk")
        name = options["user"]
        user = users.filter(username=name).first() if name else users.filter(role="superadmin").first()
        if user is None:
            raise CommandError(f"There is no user {name}." if name else "There is no superadmin yet.")
        workflow = publish_sample(actor=user)
        until = time.monotonic() + options["wait"]
        while True:
            deployment = deployment_of(workflow)
            colour = deployment.present_colour() if deployment else "not published"
            if colour == Colour.GREEN or time.monotonic() >= until:
                break
            time.sleep(0.2)
        self.stdout.write(f"Workflow {workflow.pk} is {colour}.")
