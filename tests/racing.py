"""Several who ask at the same moment, each with a connection of its own; for the tests of any app."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.db import connection, connections


def at_once(*asked: Callable[[], Any]) -> list[Any]:
    """What each answered, or the exception that it raised."""
    together = threading.Barrier(len(asked))
    found: list[Any] = [None] * len(asked)

    def run(place: int, ask: Callable[[], Any]) -> None:
        try:
            together.wait(60)
            found[place] = ask()
        except Exception as error:
            found[place] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=one) for one in enumerate(asked)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    return found


def somebody_waits() -> bool:
    """Whether a connection waits for a lock of another."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])
