"""Asking a replica whether it is ready, by HTTP or TCP. Never by a command inside it: each such would leave
a watcher behind for 300 s with podman (contracts, RUNTIMES 2)."""

from __future__ import annotations

import http.client
import socket

from workflows_app.drivers.base import Probe


def probe(rule: Probe, host: str, port: int) -> str:
    """Why it is not ready, in one sentence; "" where it is."""
    try:
        if rule.kind == "tcp":
            with socket.create_connection((host, port), timeout=rule.timeout_seconds):
                return ""
        return _by_http(rule, host, port)
    except TimeoutError:
        return f"Readiness probe failed: no answer within {rule.timeout_seconds:g} s."
    except ConnectionRefusedError:
        return "Readiness probe failed: connection refused."
    except (OSError, http.client.HTTPException) as error:
        return f"Readiness probe failed: {error or type(error).__name__}."


def _by_http(rule: Probe, host: str, port: int) -> str:
    connection = http.client.HTTPConnection(host, port, timeout=rule.timeout_seconds)
    try:
        connection.request("GET", rule.path, headers={"User-Agent": "muster-probe", "Connection": "close"})
        status = connection.getresponse().status
    finally:
        connection.close()
    return "" if 200 <= status < 400 else f"Readiness probe failed: HTTP status {status}."
