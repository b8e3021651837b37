"""How configurations are applied to booted nodes: the driver that the settings name."""

from __future__ import annotations

from django.conf import settings
from django.utils.module_loading import import_string

from .base import ConfigurationDriver

NONE = "none"  # the image brings its configuration along: the configure phase is passed through


def is_on() -> bool:
    """Whether this installation applies configurations at all."""
    return bool(settings.MUSTER_CONFIGURATION_DRIVER != NONE)


def get_driver() -> ConfigurationDriver:
    """The installation's driver. Raises ValueError for a kind that the settings do not name."""
    kind = settings.MUSTER_CONFIGURATION_DRIVER
    try:
        path = settings.MUSTER_CONFIGURATION_DRIVERS[kind]
    except KeyError:
        known = ", ".join([NONE, *settings.MUSTER_CONFIGURATION_DRIVERS])
        raise ValueError(f"MUSTER_CONFIGURATION_DRIVER is {kind!r}, it can be one of: {known}.") from None
    driver: ConfigurationDriver = import_string(path)()
    return driver
