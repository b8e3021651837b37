"""Serves sushy-tools' Redfish emulator, unchanged, in Twisted's threaded WSGI server.

Its own program is Flask's development server: a thread and a connection per request, all of them at its
SQLite file at once. With 500 systems and 256 requests in flight, four threads answered 154 GETs a second
with 3.2 s for the slowest, against 78 and 6.4 s.

Each request is noted in HOME/log/emulator-requests.log with the body of what changes something, so that
anybody can see afterwards which switching a node was asked for, and when.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sushy_tools.emulator.main import app
from twisted.internet import reactor
from twisted.python.threadpool import ThreadPool
from twisted.web.server import Site
from twisted.web.wsgi import WSGIResource

from deploy.emulated_fleet.fleet import emulator_settings, load_fleet
from deploy.local.home import Home
from deploy.local.keep import Log

THREADS = 4
BACKLOG = 1024


class RequestLog:
    """WSGI middleware: one JSON line per request, written before it is answered."""

    def __init__(self, application: Callable[..., Iterable[bytes]], log: Log) -> None:
        self._application = application
        self._log = log
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        line: dict[str, Any] = {"method": environ["REQUEST_METHOD"], "path": environ["PATH_INFO"]}
        if line["method"] not in {"GET", "HEAD"}:
            line["body"] = self._body(environ)

        def note(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            line["status"] = int(status.split()[0])
            return start_response(status, headers, *rest)

        answer = self._application(environ, note)
        line["time"] = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._lock:
            self._log.write(json.dumps(line).encode() + b"\n")
        return answer

    @staticmethod
    def _body(environ: dict[str, Any]) -> Any:
        data = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(data)
        try:
            return json.loads(data)
        except ValueError:
            return data.decode(errors="replace")


def main() -> None:
    """Environment: MUSTER_HOME."""
    home = Home(Path(os.environ["MUSTER_HOME"]))
    fleet = load_fleet(home)
    if fleet is None:
        sys.exit("There is no emulated fleet in this MUSTER_HOME.")
    app.configure(extra_config=emulator_settings(fleet, home))
    began = time.monotonic()
    # The first look writes a row per system, milliseconds each; no request should have to wait for it.
    count = len(app.systems.systems)
    print(f"{count} systems after {time.monotonic() - began:.1f} s on {fleet.url}", flush=True)
    serve(RequestLog(app, Log(home.log / "emulator-requests.log")), fleet.port)


def serve(application: Callable[..., Iterable[bytes]], port: int) -> None:
    """Until told to stop."""
    pool = ThreadPool(minthreads=THREADS, maxthreads=THREADS, name="emulator")
    pool.start()
    loop: Any = reactor  # Twisted declares interfaces only
    loop.addSystemEventTrigger("before", "shutdown", pool.stop)
    site = Site(WSGIResource(loop, pool, application), timeout=60)
    loop.listenTCP(port, site, backlog=BACKLOG, interface="127.0.0.1")
    loop.run()


if __name__ == "__main__":
    main()
