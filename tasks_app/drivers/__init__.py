"""The task drivers this installation knows: `settings.MUSTER_TASK_DRIVERS`, `{kind: "dotted.path"}`."""

from __future__ import annotations

from functools import cache

from django.conf import settings
from django.utils.module_loading import import_string

from .base import TaskDriver


def driver(kind: str) -> TaskDriver:
    """The driver of a kind. Raises ValueError for one that the settings do not name."""
    try:
        path = settings.MUSTER_TASK_DRIVERS[kind]
    except KeyError:
        raise ValueError(f"There is no task driver of kind {kind!r}.") from None
    return _load(path)()


@cache
def _load(path: str) -> type[TaskDriver]:
    loaded: type[TaskDriver] = import_string(path)
    return loaded


def check_drivers() -> list[str]:
    """What is wrong with the settings table, one plain sentence each; empty when all is well."""
    found = []
    for kind, path in settings.MUSTER_TASK_DRIVERS.items():
        where = f"MUSTER_TASK_DRIVERS[{kind!r}]"
        try:
            loaded = _load(path)
        except ImportError as error:
            found.append(f"{where}: {path!r} cannot be imported ({error}).")
            continue
        if not (isinstance(loaded, type) and issubclass(loaded, TaskDriver)):
            found.append(f"{where}: {path!r} is not a subclass of TaskDriver.")
        elif loaded.kind != kind:
            found.append(f"{where}: {path!r} calls itself {loaded.kind!r}.")
    return found
