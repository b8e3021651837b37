"""A hosted runtime with its supervisor in a thread, and waiting for what it reports."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from tests.base import wait_until
from workflows_app.drivers.base import Observation, Plan, Probe, ServicePlan, Strategy
from workflows_app.drivers.hosted.driver import HostedRuntime

REF = "11111111-2222-3333-4444-555555555555"
KEY = "web-f252bb2b"

# A web server that answers 200 on / and tells its version; ends with code 7 on GET /exit.
SERVER = """
import http.server, os, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/exit": os._exit(7)
        body = os.environ.get("V", "1").encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): print("asked", self.path)
class S(http.server.ThreadingHTTPServer): request_queue_size = 100
S((os.environ["HOST"], int(os.environ["PORT"])), H).serve_forever()
"""


def python(code: str) -> tuple[str, ...]:
    """A command that runs this."""
    return (sys.executable, "-S", "-E", "-u", "-c", code)


def plan(generation: int = 1, **values: Any) -> Plan:
    """A plan of one web service."""
    values = {
        "id": KEY,
        "name": "web",
        "command": python(SERVER),
        "port": 8080,
        "probe": Probe("http", period_seconds=0.2, timeout_seconds=5),
        "strategy": Strategy(max_surge=1, max_unavailable=0),
        "drain_seconds": 0.5,
        "stop_seconds": 5,
        **values,
    }
    return Plan(REF, "sample", generation, (ServicePlan(**values),))


class Running:
    """A driver and the supervisor of its runtime."""

    def __init__(self, driver: HostedRuntime) -> None:
        self.driver = driver
        self.changed: list[str] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to supervise, as `manage.py run_runtimes` does."""
        self._stop.clear()
        supervisor = self.driver.supervisor(self.changed.extend)
        self._thread = threading.Thread(target=supervisor.run, args=(self._stop,), daemon=True)
        self._thread.start()
        wait_until(self.driver.store.supervised, what="the supervisor")

    def stop(self) -> None:
        """End the supervisor and leave the replicas."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(30)
            self._thread = None

    def end(self) -> None:
        """End everything."""
        self.stop()
        self._stop.clear()
        supervisor = self.driver.supervisor(self.changed.extend)
        self._stop.set()
        supervisor.recover()
        supervisor.end_all(5)

    def until(self, condition: Callable[[Observation], Any], what: str) -> Observation:
        """What the driver reports, once `condition` holds of it."""
        seen: list[Observation] = []

        def look() -> bool:
            seen[:] = [self.driver.observe(REF)]
            return bool(condition(seen[0]))

        wait_until(look, limit=90, what=what)
        return seen[0]

    def until_complete(self, wanted: Plan, replicas: int = 1) -> Observation:
        """The plan is rolled out and nothing of an earlier one is left."""

        def done(seen: Observation) -> bool:
            (service,) = seen.services or (None,)
            return (
                service is not None
                and seen.digest == wanted.digest()
                and service.rollout == "Complete"
                and service.actual == replicas == len(service.replicas)
            )

        return self.until(done, f"{replicas} replicas")
