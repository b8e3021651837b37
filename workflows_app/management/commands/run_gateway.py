"""`manage.py run_gateway`: the data stream of workflows, and the delivery of queued analyses."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from workflows_app.gateway.server import GatewayServer
from workflows_app.stream import draw_another_port, gateway_port

log = logging.getLogger(__name__)

PATIENCE = 10  # seconds that another program may take to leave the port


class Command(BaseCommand):
    """One gateway process. Several on one machine share the port that is theirs; where each listens at a
    place of its own it needs a --url of its own too."""

    help = "Take requests to the services of published workflows, and deliver queued analyses."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--listen", default="", help="HOST:PORT; by default 127.0.0.1 and a port of its own."
        )
        parser.add_argument(
            "--url", default="", help="Where the web processes reach it; by default as it listens."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        asyncio.run(self._serve(options["listen"], options["url"]))

    async def _serve(self, listen: str, url: str) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        host, port = _address(listen)
        for turn in range(PATIENCE + 1):
            server = GatewayServer(
                host=host,
                port=port,
                url=url or f"http://{host}:{port}",
                name=socket.gethostname(),
                shared=not listen,
            )
            try:
                await server.run(stop)
            except OSError as error:
                if listen and turn >= PATIENCE:
                    raise CommandError(f"Nobody can listen on {listen}: {error.strerror}.") from None
                if not listen:
                    # Another gateway may have drawn one already.
                    taken, port = port, gateway_port()
                    if port == taken and turn >= PATIENCE - 1:
                        port = draw_another_port()
                log.warning("Port %s is taken; trying again.", port)
                await asyncio.sleep(1)
            else:
                return


def _address(listen: str) -> tuple[str, int]:
    if not listen:
        return "127.0.0.1", gateway_port()
    host, _, port = listen.rpartition(":")
    if not port.isdecimal():
        raise CommandError(f"--listen takes HOST:PORT, not {listen!r}.")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104  (asked for by leaving out the host)
