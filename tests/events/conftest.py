"""A web server on the test's own database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.base import RedisServer
from tests.events.wire import Web, running


@pytest.fixture
def web(transactional_db: None, redis_server: RedisServer, tmp_path: Path) -> Iterator[Web]:
    """A real Daphne."""
    with running(Web(tmp_path)) as server:
        yield server
