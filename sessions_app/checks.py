"""System checks of this app."""

from typing import Any

from django.core.checks import Error, register

from sessions_app import configuration, drivers


@register()
def check_power_drivers(app_configs: Any, **kwargs: Any) -> list[Error]:
    """Every kind in MUSTER_POWER_DRIVERS must name a driver that can be loaded."""
    return [Error(sentence, id="sessions_app.E001") for sentence in drivers.check_drivers()]


@register()
def check_configuration_driver(app_configs: Any, **kwargs: Any) -> list[Error]:
    """MUSTER_CONFIGURATION_DRIVER must name a driver that can be loaded, or none."""
    if not configuration.is_on():
        return []
    try:
        configuration.get_driver()
    except (ValueError, ImportError) as error:
        return [Error(str(error), id="sessions_app.E002")]
    return []
