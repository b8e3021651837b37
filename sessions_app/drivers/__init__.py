"""The power drivers this installation knows (`settings.MUSTER_POWER_DRIVERS`), and their settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from accounts_app import declared
from accounts_app.declared import DriverSettingsError

from .base import VAULT_PATH, PowerDriver, Setting
from .vault import PATH

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
    """`declared.split_settings` for BMCs of a kind. Raises ValueError for an unknown one.

    Of one whose credentials are in Vault nothing secret is kept, and what it must have may be there.
    """
    known = settings_of(kind)
    path = values.get(VAULT_PATH.name) if VAULT_PATH in known else None
    if path:
        if not isinstance(path, str) or not PATH.fullmatch(path):
            raise DriverSettingsError({VAULT_PATH.name: f"{VAULT_PATH.name} is no path in Vault."})
        stored_secrets = [setting.name for setting in known]
    public, secret = declared.split_settings(f"{kind} BMCs", known, values, stored_secrets=stored_secrets)
    return public, {} if path else secret
