"""bin/test: what runs where, and that the last word is honest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dj_database_url import parse

from tests import postgres
from tests.base import PROJECT
from tests.run import chooses, shared


@pytest.mark.parametrize(
    "arguments",
    [
        ["tests/running"],
        ["tests/base.py::x"],
        ["-q", "-k", "cursor"],
        ["-m", "process"],
        ["--lf"],
        ["-kcursor"],
    ],
)
def test_a_choice_runs_on_one_database(arguments: list[str]) -> None:
    assert chooses(arguments)


@pytest.mark.parametrize(
    "arguments", [[], ["-q"], ["-x", "-v"], ["-n", "2"], ["-p", "tests"], ["--durations=5"]]
)
def test_everything_runs_on_both(arguments: list[str]) -> None:
    assert not chooses(arguments)


def test_who_says_how_many_processes_is_obeyed() -> None:
    assert shared(["-n", "0"]) == ["-n", "0"]
    assert shared(["-n3", "-x"]) == ["-n3", "-x"]
    assert "-n" in shared(["-x"])


QUICK = "tests/running/test_docs.py::test_every_process_is_described"


def last_run(tmp_path: Path, earlier: dict[str, Any], **env: str) -> subprocess.CompletedProcess[str]:
    """A run of tests that succeed, after an earlier one on PostgreSQL that ended so."""
    report = tmp_path / "report.json"
    report.write_text(json.dumps(earlier))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MUSTER_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", QUICK],
        cwd=PROJECT, env={**clean, "MUSTER_TEST_EARLIER": str(report), **env},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


COUNTS = {"passed": 7, "failed": 0, "error": 0, "skipped": 1, "seconds": 12, "names": [], "exit": 0}


def test_both_runs_are_in_the_last_summary(tmp_path: Path) -> None:
    run = last_run(tmp_path, COUNTS)
    assert run.returncode == 0
    assert "7 passed, 1 skipped in 12 s" in run.stdout


def test_a_failure_on_postgresql_alone_is_named_and_is_the_exit_code(tmp_path: Path) -> None:
    run = last_run(tmp_path, {**COUNTS, "failed": 1, "names": ["tests/x.py::test_y"], "exit": 1})
    assert run.returncode == 1
    assert "FAILED on PostgreSQL: tests/x.py::test_y" in run.stdout


def test_a_run_that_broke_is_a_failure(tmp_path: Path) -> None:
    run = last_run(tmp_path, {"broken": "pytest ended without a result"})
    assert run.returncode == 1
    assert "FAILED: pytest ended without a result." in run.stdout


def test_no_postgresql_is_told_and_a_failure_only_where_it_is_needed(tmp_path: Path) -> None:
    missing = {"unavailable": "there is none."}
    run = last_run(tmp_path, missing)
    assert run.returncode == 0
    assert "NOT RUN: there is none." in run.stdout
    assert last_run(tmp_path, missing, MUSTER_TEST_NEEDS_POSTGRESQL="1").returncode == 1


def test_the_postgresql_of_a_run_leaves_nothing_behind() -> None:
    try:
        with postgres.server() as url:
            found = parse(url)
            directory = Path(found["HOST"])
            where = {"host": found["HOST"], "user": found["USER"], "password": found["PASSWORD"]}
            with psycopg.connect(dbname=found["NAME"], **where) as connection:
                assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(dbname=found["NAME"], **{**where, "password": "wrong"})
    except postgres.Unavailable as reason:
        pytest.skip(f"There is no PostgreSQL for this test: {reason}")
    assert not directory.exists()
