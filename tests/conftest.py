"""Fixtures of all tests: who is there, the embedded Redis, a running Muster; and the last summary."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests.base import Product, RedisServer

# Short, for the socket below it. A Muster that runs in ./var must not hear the bells of tests.
HOME = Path(tempfile.mkdtemp(prefix="muster-t-", dir="/tmp"))
settings.HOME = HOME
settings.REDIS_URL = f"unix://{HOME}/redis.sock"
settings.CELERY_BROKER_URL = f"redis+socket://{HOME}/redis.sock"
# A file, as in service: SQLite's database in memory locks whole tables against the threads of tests.
settings.DATABASES["default"].setdefault("TEST", {})["NAME"] = (
    str(HOME / "test.sqlite3") if "sqlite3" in settings.DATABASES["default"]["ENGINE"] else None
)

BEGAN = time.monotonic()
FOREIGN = ("browser", "consul", "kubernetes")  # markers of tests with programs that we did not write
REAL = ("process", *FOREIGN)
DATABASE_FIXTURES = {
    "db",
    "transactional_db",
    "django_db_reset_sequences",
    "django_db_serialized_rollback",
    "live_server",
}


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """Django empties SQLite's tables between tests by DELETE, which the audit's triggers refuse; the test
    of the triggers puts them back."""
    from django.db import connection

    if connection.vendor == "sqlite":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            for verb in ("update", "delete"):
                cursor.execute(f"DROP TRIGGER IF EXISTS audit_no_{verb}")


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    """A process remembers BOS's options for a second, and counts requests and wrong passwords while Redis is
    away; the next test has other rows and other people."""
    from accounts_app import limits
    from sessions_app.models.options import forget_options

    forget_options()
    limits.tally.forget()


@pytest.fixture(scope="session")
def _redis_server() -> Iterator[RedisServer]:
    server = RedisServer(HOME)
    yield server
    server.stop()


@pytest.fixture
def redis_server(_redis_server: RedisServer) -> RedisServer:
    """A real Valkey where the settings say, running and empty; who does not ask for it may have none."""
    _redis_server.start()
    _redis_server.flush()
    return _redis_server


@pytest.fixture(scope="session")
def muster() -> Iterator[Product]:
    """A running Muster with 8 emulated nodes, its first session over; for tests marked `process`."""
    directory = Path(tempfile.mkdtemp(prefix="muster-up-", dir="/tmp"))
    product = Product(directory / "home", nodes=8)
    try:
        product.start()
        product.wait_ready()
        product.wait_demo()
        yield product
    finally:
        product.end()
        shutil.rmtree(directory, ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On the run for PostgreSQL keep only what uses the database in this process.

    Tests against a whole browser or cluster that we did not write are tried twice more where they fail, and
    the summary counts each such `rerun`. Tests of our own processes never are: a loss that shows once in ten
    runs is a loss.
    """
    for item in items:
        if any(item.get_closest_marker(name) for name in FOREIGN):
            item.add_marker(pytest.mark.flaky(reruns=2))
    # Files that start whole programs first: a long one at the end would be waited for by one process alone.
    slow = {item.path for item in items if any(item.get_closest_marker(name) for name in REAL)}
    items.sort(key=lambda item: item.path not in slow)
    if not os.environ.get("MUSTER_TEST_DATABASE_ONLY"):
        return
    kept = [item for item in items if _uses_database(item)]
    chosen = set(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = kept


def _uses_database(item: pytest.Item) -> bool:
    if any(item.get_closest_marker(name) for name in REAL):
        return False
    return bool(
        item.get_closest_marker("django_db") or DATABASE_FIXTURES & set(getattr(item, "fixturenames", ()))
    )


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A failure on PostgreSQL is a failure of the whole; no test that uses the database is none."""
    if exitstatus == pytest.ExitCode.OK and _earlier_failed():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int) -> None:
    """Leave the counts for the next run, or show those of the run before."""
    report = os.environ.get("MUSTER_TEST_REPORT")
    if report:
        stats = terminalreporter.stats
        result = {name: len(stats.get(name, [])) for name in ("passed", "failed", "error", "skipped")}
        result["seconds"] = round(time.monotonic() - BEGAN)
        names = [entry.nodeid for name in ("failed", "error") for entry in stats.get(name, [])]
        Path(report).write_text(json.dumps({**result, "names": names, "exit": int(exitstatus)}))
    earlier = _earlier()
    if earlier:
        terminalreporter.section("the same tests on PostgreSQL")
        terminalreporter.line(_describe(earlier))
        for name in earlier.get("names", []):
            terminalreporter.line(f"FAILED on PostgreSQL: {name}")


def _describe(earlier: dict[str, Any]) -> str:
    if "unavailable" in earlier:
        return f"NOT RUN: {earlier['unavailable']} (MUSTER_TEST_DATABASE_URL may name a server.)"
    if "broken" in earlier:
        return f"FAILED: {earlier['broken']}."
    counts = ", ".join(
        f"{earlier[name]} {name}" for name in ("passed", "failed", "error", "skipped") if earlier[name]
    )
    return f"{counts or 'no tests'} in {earlier['seconds']} s"


def _earlier_failed() -> bool:
    earlier = _earlier()
    if "unavailable" in earlier:
        return os.environ.get("MUSTER_TEST_NEEDS_POSTGRESQL", "") == "1"
    allowed = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    return bool(earlier) and earlier.get("exit", 1) not in allowed


def _earlier() -> dict[str, Any]:
    path = os.environ.get("MUSTER_TEST_EARLIER")
    return json.loads(Path(path).read_text()) if path else {}


def pytest_unconfigure() -> None:
    """Remove this run's directory."""
    shutil.rmtree(HOME, ignore_errors=True)
