"""What of the log is left out."""

from __future__ import annotations

import logging


class NotReadyIsNoError(logging.Filter):
    """Drops Django's error of a 503 of /readyz: while a process starts that is its answer, every second."""

    def filter(self, record: logging.LogRecord) -> bool:
        return getattr(getattr(record, "request", None), "path", "") != "/readyz"


class WithoutBlame(logging.Filter):
    """Django logs a traceback where a client sent nonsense (a wrong Host, too many fields): a line will do,
    for anybody could fill the disk."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith("django.security"):
            record.exc_info = None
        return True
