"""How long a question to the inventory may take: BOS's option `hsm_read_timeout`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError, connection, transaction


class TooSlow(OperationalError):
    """The database took longer than it may; the message is for people."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Let the database end what it is asked in this block after `seconds` (on PostgreSQL each statement, on
    SQLite the block). Raises TooSlow; what was written before in the transaction stays."""
    try:
        with transaction.atomic():
            if connection.vendor == "postgresql":
                before = _set_statement_timeout(str(int(seconds * 1000)))
                yield
                _set_statement_timeout(before)
            else:
                end = time.monotonic() + seconds
                connection.connection.set_progress_handler(lambda: time.monotonic() > end, 10_000)
                try:
                    yield
                finally:
                    connection.connection.set_progress_handler(None, 0)
    except OperationalError as error:
        if "statement timeout" in str(error) or str(error) == "interrupted":
            raise TooSlow(f"The inventory did not answer within {seconds:g} seconds.") from None
        raise


def _set_statement_timeout(value: str) -> str:
    """For this transaction; return what it was."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('statement_timeout')")
        before: str = cursor.fetchone()[0]
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [value])
    return before
