"""HOME, the one directory below which everything of a running Muster lives; and who runs in it.

credentials.json  how to reach and use it (0600)      log/    one file per process
muster.sqlite3    the database                        run/    sockets, process ids, the lock
secret_key, encryption_keys (0600)                    fleet/  the emulated nodes and their state
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import stat
import tempfile
import time
from pathlib import Path
from typing import Any

from deploy.local.environment import Refusal

# Set for everything that the supervisor starts, down to the last grandchild: so a later start finds what
# an earlier one left behind, whatever it is called and whatever became of its parents.
MARK = "MUSTER_RUN"
SOCKET_PATH_BYTES = 100  # the kernel takes 107, macOS 103
# Below the range from which outgoing connections draw their ports: one that is free stays free.
PORTS = (20000, 32000)


class Home:
    """The directory, its lock, and what an earlier run left in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "log"
        self.run = path / "run"
        self.fleet = path / "fleet"
        self.credentials = path / "credentials.json"
        self._lock: int | None = None

    def prepare(self) -> None:
        """Make the directories and check that they can be written.

        :raises Refusal: no write access, or something other than a directory in the way.
        """
        try:
            # Keys and passwords live here: nobody else looks in.
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for directory in (self.log, self.run, self.fleet, self.path / "static"):
                directory.mkdir(mode=0o700, exist_ok=True)
                probe = directory / ".writable"
                probe.touch()
                probe.unlink()
        except OSError as error:
            raise Refusal(f"Muster can't write to {self.path}: {error.strerror}.") from None

    def lock(self) -> None:
        """Take the directory for this process, for as long as it lives.

        A POSIX record lock ends with its process, however that ends, and children don't inherit it.

        :raises Refusal: another Muster runs here.
        """
        descriptor = os.open(self.run / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            who = os.read(descriptor, 200).decode(errors="replace").strip()
            os.close(descriptor)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise Refusal(
                    f"Muster already runs in {self.path} ({who or 'no details'}): stop that one, "
                    "or choose another --home."
                ) from None
            raise Refusal(f"{self.run / 'lock'} can't be locked: {error.strerror}.") from None
        self._lock = descriptor

    def sign(self, text: str) -> None:
        """Say in the lock file who holds it, for the one who finds it locked."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, text.encode(), 0)

    def socket(self, name: str) -> Path:
        """Where a local socket goes: below HOME, or, where that is too long a path, in a temporary directory.

        :raises Refusal: that directory is somebody else's.
        """
        path = self.run / name
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
            return path
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        for base in (tempfile.gettempdir(), "/tmp"):  # noqa: S108  (checked to be ours just below)
            directory = Path(base) / f"muster-{os.getuid()}-{digest}"
            if len(os.fsencode(directory / name)) > SOCKET_PATH_BYTES:
                continue
            directory.mkdir(mode=0o700, exist_ok=True)
            state = directory.lstat()
            if stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and not state.st_mode & 0o077:
                return directory / name
        raise Refusal(
            f"{self.path} is too long a path for a socket, and no temporary directory will do: "
            "choose another --home."
        )

    def forget_sockets(self) -> None:
        """Remove the temporary directory that sockets were in, if it was one."""
        directory = self.socket("redis.sock").parent
        if directory != self.run:
            shutil.rmtree(directory, ignore_errors=True)

    def end_leftovers(self) -> int:
        """End what an earlier run in this directory left behind; answers how many processes that were."""
        left = self.marked()
        for pid in left:
            _signal(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while left and time.monotonic() < deadline and self.marked():
            time.sleep(0.05)
        return len(left)

    def marked(self) -> list[int]:
        """Processes that a supervisor of this directory started, other than this one (needs /proc)."""
        mark = f"{MARK}={self.path}".encode()
        return [pid for pid in _own_processes() if pid != os.getpid() and mark in _environment(pid)]

    def read_json(self, name: str) -> Any:
        """A small file of ours, or None where there is none that can be read."""
        try:
            return json.loads((self.path / name).read_text())
        except (OSError, ValueError):
            return None

    def write_json(self, name: str, value: Any) -> None:
        """Replace the file at once, readable by its owner alone."""
        path = self.path / name
        temporary = path.with_name(f".{path.name}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(value, file, indent=2)
            file.write("\n")
        temporary.replace(path)


def identity(pid: int) -> str | None:
    """Something that tells this process from a later one with the same number; None when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return "alive"
    return None if fields[0] in "ZX" else fields[19]  # state; start time in ticks since boot


def port_is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1 there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port(preferred: int | None = None, besides: tuple[int, ...] = ()) -> int:
    """A port of 127.0.0.1 for a server: the preferred one if it is free, else any.

    :raises Refusal: a hundred tries found none.
    """
    tries = [preferred] if preferred else []
    tries += random.SystemRandom().sample(range(*PORTS), 100)
    for port in tries:
        if port not in besides and port_is_free(port):
            return port
    raise Refusal("No free port was found on 127.0.0.1.")


def _own_processes() -> list[int]:
    try:
        entries = list(os.scandir("/proc"))
    except OSError:
        return []
    return [int(entry.name) for entry in entries if entry.name.isdigit()]


def _environment(pid: int) -> list[bytes]:
    """The environment a process was started with; empty where it is another user's, or gone."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
