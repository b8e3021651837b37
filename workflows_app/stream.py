"""Where the gateway is reached: the address that services are given to reach each other."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from pathlib import Path

from django.conf import settings

# Below the range from which outgoing connections draw their ports: one that is free stays free.
PORTS = (20000, 32000)


def stream_url() -> str:
    """Base URL of the gateway as services reach it, without a slash at the end."""
    return settings.MUSTER_GATEWAY_URL.rstrip("/") or f"http://127.0.0.1:{gateway_port()}"


def gateway_port() -> int:
    """The embedded gateway's port, drawn once for this MUSTER_HOME: running services go on finding it."""
    path = _port_file()
    while True:
        try:
            return int(path.read_text())
        except (OSError, ValueError):
            _draw(path, replace=False)


def draw_another_port() -> int:
    """A new port in place of one that somebody else has taken. Services are then given the new address."""
    path = _port_file()
    _draw(path, replace=True)
    return int(path.read_text())


def _port_file() -> Path:
    return Path(settings.HOME) / "run" / "gateway.port"


def _draw(path: Path, *, replace: bool) -> None:
    """Write a free port; of several processes at once one wins and all read the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{random.getrandbits(32):x}")
    temporary.write_text(str(_free_port()))
    try:
        if replace:
            temporary.replace(path)
        else:
            # A hard link fails where the file exists and never shows half of it.
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _free_port() -> int:
    for port in random.SystemRandom().sample(range(*PORTS), 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("No free port was found on 127.0.0.1.")
