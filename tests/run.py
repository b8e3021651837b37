"""`bin/test`: the tests on SQLite and, what touches the database, on PostgreSQL too.

    bin/test                       all tests on SQLite; before, those that use the database on PostgreSQL
    bin/test tests/events_app -k x  only these, on SQLite (or on MUSTER_TEST_DATABASE_URL)

Each run is shared by as many processes as there are cores, at most four, a file of tests by one of them;
`-n 0` keeps it in one.

MUSTER_TEST_DATABASE_URL names a PostgreSQL that may be used; else this program starts one and removes it.
MUSTER_TEST_NEEDS_POSTGRESQL=1 makes it a failure where there is none. The exit code is pytest's, and not 0
either where only the run on PostgreSQL failed; the last summary counts both.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests import postgres

CHOOSING = ("-k", "-m", "--lf", "--last-failed", "--sw", "--stepwise", "--co", "--collect-only",
            "--fixtures", "--markers", "--version", "-V", "-h", "--help")  # fmt: skip


def chooses(arguments: Sequence[str]) -> bool:
    """Whether these ask pytest for a part of the tests, or for something other than tests."""
    for number, argument in enumerate(arguments):
        if argument.startswith(CHOOSING):
            return True
        follows_option = number > 0 and arguments[number - 1].startswith("-")
        if not argument.startswith("-") and (
            "::" in argument or (os.path.exists(argument) and not follows_option)
        ):
            return True
    return False


def shared(arguments: Sequence[str]) -> list[str]:
    """The same arguments, with the tests shared by processes unless they say how many themselves."""
    if any(argument.startswith(("-n", "--numprocesses", "--dist")) for argument in arguments):
        return list(arguments)
    processes = min(4, os.cpu_count() or 1)
    return ["-n", str(processes), "--dist", "loadfile", "--no-loadscope-reorder", *arguments]


def main() -> int:
    """Runs pytest once or twice; answers the exit code."""
    arguments = sys.argv[1:]
    given = os.environ.get("MUSTER_TEST_DATABASE_URL", "")
    if chooses(arguments):
        return run_pytest(arguments, database=given)
    arguments = shared(arguments)
    with tempfile.TemporaryDirectory(prefix="muster-tests-") as directory:
        report = Path(directory) / "postgresql.json"
        try:
            with contextlib.nullcontext(given) if given else postgres.server() as url:
                print("== Tests that use the database, on PostgreSQL", flush=True)
                run_pytest(
                    arguments, database=url, MUSTER_TEST_REPORT=str(report), MUSTER_TEST_DATABASE_ONLY="1"
                )
            if not report.exists():
                report.write_text(json.dumps({"broken": "pytest ended without a result"}))
        except postgres.Unavailable as reason:
            report.write_text(json.dumps({"unavailable": str(reason)}))
        print("== All tests, on SQLite", flush=True)
        return run_pytest(arguments, database="", MUSTER_TEST_EARLIER=str(report))


def run_pytest(arguments: Sequence[str], *, database: str, **more: str) -> int:
    """One run; "" is SQLite."""
    environment = {name: value for name, value in os.environ.items() if name != "MUSTER_DATABASE_URL"}
    environment.update(more)
    if database:
        environment["MUSTER_DATABASE_URL"] = database
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments], env=environment, check=False
    ).returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
