"""The task drivers this installation knows: `settings.MUSTER_TASK_DRIVERS`, `{kind: "dotted.path"}`."""

from __future__ import annotations

from accounts_app.declared import Drivers

from .base import TaskDriver

DRIVERS = Drivers("MUSTER_TASK_DRIVERS", TaskDriver, "task driver")
check_drivers = DRIVERS.check


def driver(kind: str) -> TaskDriver:
    """The driver of a kind. Raises ValueError for one that the settings do not name."""
    return DRIVERS.load(kind)()
