"""BOS's option `logging_level` reaches every process that goes on: each looks every few seconds.

A thread, and not a message or a step: it is the same in web processes, in workers with processes or threads,
in the beat and in our own commands, and it needs no broker.
"""

from __future__ import annotations

import threading
import time

from django.apps import apps
from django.db import DatabaseError, connection
from django.utils.module_loading import import_string

EVERY = 5.0  # seconds between two looks
GOING_ON = frozenset({"run_gateway", "run_runtimes", "watch_conditions"})  # commands of manage.py


def follow() -> None:
    """Look from now on, as soon as Django is ready."""
    threading.Thread(target=_look, name="logging-level", daemon=True).start()


def _look() -> None:
    while not apps.ready:
        time.sleep(0.1)
    # By name: the apps can be imported only now, and whoever starts this is imported by them.
    apply_logging_level = import_string("sessions_app.upkeep.apply_logging_level")
    while True:
        try:
            apply_logging_level()
        except DatabaseError:
            pass  # it is away; the work that needs it says so
        finally:
            connection.close()  # of this thread: none is kept for a question every few seconds
        time.sleep(EVERY)
