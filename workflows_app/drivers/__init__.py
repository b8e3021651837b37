"""The runtimes this installation knows (`settings.MUSTER_RUNTIME_DRIVERS`), and their settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from accounts_app import declared
from accounts_app.declared import DriverSettingsError

from .base import RuntimeDriver

__all__ = ["DriverSettingsError", "check_drivers", "driver_class", "kinds", "make", "split_settings"]

DRIVERS = declared.Drivers("MUSTER_RUNTIME_DRIVERS", RuntimeDriver, "runtime")
driver_class = DRIVERS.load


def kinds() -> list[tuple[str, str]]:
    """Kind and label of every driver. The label is the kind: loading all drivers for a list costs seconds."""
    return [(kind, kind) for kind in DRIVERS.table]


def make(kind: str, name: str, values: Mapping[str, Any], secrets: Mapping[str, str]) -> RuntimeDriver:
    """A driver for the runtime `name`. Raises ValueError for an unknown kind."""
    return driver_class(kind)(name, values, secrets)


def split_settings(
    kind: str, values: Mapping[str, Any], *, stored_secrets: Collection[str] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`declared.split_settings` for runtimes of a kind. Raises ValueError for an unknown one."""
    return declared.split_settings(
        f"{kind} runtimes", driver_class(kind).settings, values, stored_secrets=stored_secrets
    )


def check_drivers() -> list[str]:
    """What is wrong with the settings table, one plain sentence each; loads no driver."""
    return [
        f"{DRIVERS.table_name}[{kind!r}] must be a dotted path, it is {path!r}."
        for kind, path in DRIVERS.table.items()
        if not isinstance(path, str) or "." not in path
    ]
