"""A PostgreSQL server for one run of the tests: the machine's own programs, else those in PyPI's pgserver.

As root the server runs as `nobody`, because PostgreSQL refuses root. pgserver's Python object is not used:
as root it adds a user to the machine and opens every directory above its files; its programs need neither.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.local.keep import die_with_parent

PGSERVER = "pgserver==0.1.4"
NOBODY = "nobody"


class Unavailable(Exception):
    """Why there is no PostgreSQL here, in one sentence."""


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Start one, yield its database URL, stop it and remove all its files.

    :raises Unavailable: no programs, or they do not start.
    """
    # Not TMPDIR: below a private directory another user could not reach it.
    base = Path(tempfile.mkdtemp(prefix="muster-pg-", dir="/tmp"))
    base.chmod(0o755)
    try:
        programs = find_programs(base)
        as_whom = _another_user() if os.getuid() == 0 else {}
        yield from _serve(programs, base, as_whom)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _serve(programs: Path, base: Path, as_whom: dict[str, Any]) -> Iterator[str]:
    data = base / "data"
    data.mkdir(mode=0o700)
    password = secrets.token_hex(16)
    (base / "password").write_text(password)
    if as_whom:
        for path in (data, base / "password", base):
            shutil.chown(path, as_whom["user"], as_whom["group"])
    common: dict[str, Any] = {
        "cwd": base,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
        **as_whom,
    }
    made = subprocess.run(
        [programs / "initdb", "-D", data, "-U", "muster", "-A", "scram-sha-256",
         f"--pwfile={base / 'password'}", "-E", "UTF8", "--locale=C", "--no-sync"],
        **common, check=False,
    )  # fmt: skip
    (base / "password").unlink()
    if made.returncode:
        raise Unavailable(f"{programs / 'initdb'} failed: {made.stdout.strip().splitlines()[-1:]}.")
    # Tests throw their data away, so nothing needs to reach the disk; a socket only, so no port is taken.
    options = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "listen_addresses": "",
               "unix_socket_directories": str(base), "max_connections": "200",
               "shared_buffers": "128MB"}  # fmt: skip
    process = subprocess.Popen(
        [programs / "postgres", "-D", data, *(f"--{name}={value}" for name, value in options.items())],
        **{**common, "stdout": (base / "log").open("w"), "preexec_fn": die_with_parent},
    )
    try:
        _wait(process, base)
        yield f"postgres://muster:{password}@{str(base).replace('/', '%2F')}/postgres"
    finally:
        process.send_signal(2)  # "fast": does not wait for clients
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[str], base: Path) -> None:
    deadline = time.monotonic() + 60
    while not (base / ".s.PGSQL.5432").exists() or "ready to accept" not in (base / "log").read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Unavailable(
                f"PostgreSQL did not start: {(base / 'log').read_text().strip().splitlines()[-1:]}."
            )
        time.sleep(0.05)


def find_programs(base: Path) -> Path:
    """The directory with initdb and postgres; from PyPI, put below `base`, where the machine has none."""
    found = shutil.which("initdb")
    candidates = [Path(found).resolve().parent] if found else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    candidates += sorted(Path("/usr").glob("pgsql-*/bin"), reverse=True)
    for directory in candidates:
        if (directory / "initdb").exists() and (directory / "postgres").exists():
            return directory
    target = base / "pgserver"
    # A place of its own, and not `.venv`: it is needed only where the machine has no PostgreSQL.
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--only-binary=:all:", "--target", str(target), PGSERVER]  # fmt: skip
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    directory = target / "pgserver" / "pginstall" / "bin"
    if answer.returncode or not (directory / "initdb").exists():
        raise Unavailable(f"this machine has no initdb and postgres, and {PGSERVER} can't be installed here.")
    for path in [target, *target.rglob("*")]:
        path.chmod(path.stat().st_mode | (0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644))
    return directory


def _another_user() -> dict[str, Any]:
    import grp
    import pwd

    try:
        entry = pwd.getpwnam(NOBODY)
    except KeyError:
        raise Unavailable("PostgreSQL refuses to run as root, and there is no user 'nobody' here.") from None
    return {"user": entry.pw_uid, "group": grp.getgrgid(entry.pw_gid).gr_gid, "extra_groups": []}
