"""`manage.py run_runtimes`: supervises processes and containers, watches Kubernetes."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from workflows_app.agents import Agents

PATIENCE = 3.0  # seconds between asking replicas to end and ending them, when Muster stops


class Command(BaseCommand):
    """One long-lived process; more than one may run, the others wait for the first one's end."""

    help = "Supervise processes and containers of workflows, watch Kubernetes."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--keep-replicas",
            action="store_true",
            help="Leave processes and containers running when told to stop, for the next start to find.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        Agents(end_within=None if options["keep_replicas"] else PATIENCE).run(stop)
