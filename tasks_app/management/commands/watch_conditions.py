"""`manage.py watch_conditions`: the process that watches Consul for the conditions of tasks."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from django.core.management.base import BaseCommand

from tasks_app.watching import Watcher


class Command(BaseCommand):
    """Runs until SIGTERM or SIGINT. Of several one watches, the others stand by."""

    help = "Watch Consul for the conditions of tasks."

    def handle(self, *args: Any, **options: Any) -> None:
        asyncio.run(_watch())


async def _watch() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Watcher().run(stop)
