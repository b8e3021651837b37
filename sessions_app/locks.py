"""The lock under which nodes change hands (docs/engine.md, Locks)."""

from __future__ import annotations

from django.db import connection

OWNERSHIP = 7_020_914_001  # a number that nobody else locks by


def lock_ownership() -> None:
    """Let nodes change hands in one transaction at a time; it is asked for first, before any row's lock.

    Otherwise two that begin at once would each find the node free. SQLite's transactions follow one another
    anyway.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [OWNERSHIP])
