"""Web servers on the test's own database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from events_app.models import EventCounter
from tests.base import RedisServer
from tests.events.wire import Web

STEP = 1_000_000


class Shared:
    """One web server for many tests: it takes seconds to start. Each test begins with an empty table, but
    numbers of events go on, as they never go back in service."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._web: Web | None = None
        self._number = 0

    def give(self) -> Web:
        """The server, running."""
        self._number += STEP
        EventCounter.objects.update_or_create(pk=1, defaults={"last": self._number})
        if self._web is None or self._web.process is None or self._web.process.poll() is not None:
            self._web = Web(self._directory).start()
        return self._web

    def end(self) -> None:
        """Stop it."""
        if self._web is not None and self._web.process is not None:
            self._web.kill()


@pytest.fixture(scope="session")
def _shared_web(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    shared = Shared(tmp_path_factory.mktemp("web"))
    yield shared
    shared.end()


@pytest.fixture
def web(transactional_db: None, redis_server: RedisServer, _shared_web: Shared) -> Web:
    """A real Daphne. A test may kill it; who starts it again is the next one."""
    return _shared_web.give()


@pytest.fixture
def start_web(
    transactional_db: None, redis_server: RedisServer, tmp_path: Path
) -> Iterator[Callable[..., Web]]:
    """Starts servers of the test's own: Daphne, or what is named."""
    started: list[Web] = []

    def start(server: str = "daphne", **env: str) -> Web:
        web = Web(tmp_path, server, **env)
        started.append(web)
        return web.start()

    yield start
    for web in started:
        if web.process is not None:
            web.kill()
