"""The power drivers this installation knows (`settings.MUSTER_POWER_DRIVERS`), and their settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from accounts_app import declared
from accounts_app.declared import DriverSettingsError

from .base import PowerDriver, Setting

__all__ = ["DriverSettingsError", "check_drivers", "driver_class", "kinds", "settings_of", "split_settings"]

DRIVERS = declared.Drivers("MUSTER_POWER_DRIVERS", PowerDriver, "power driver")
driver_class = DRIVERS.load
check_drivers = DRIVERS.check


def kinds() -> list[tuple[str, str]]:
    """Kind and label of every driver, in the order of the settings table."""
    return [(kind, driver_class(kind).label) for kind in DRIVERS.table]


def settings_of(kind: str) -> tuple[Setting, ...]:
    """The declared settings of a driver. Raises ValueError for an unknown kind."""
    return driver_class(kind).settings


def split_settings(
    kind: str, values: Mapping[str, Any], *, stored_secrets: Collection[str] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`declared.split_settings` for BMCs of a kind. Raises ValueError for an unknown one."""
    return declared.split_settings(f"{kind} BMCs", settings_of(kind), values, stored_secrets=stored_secrets)
