"""System checks of this app."""

from typing import Any

from django.core.checks import Error, register

from sessions_app import drivers


@register()
def check_power_drivers(app_configs: Any, **kwargs: Any) -> list[Error]:
    """Every kind in MUSTER_POWER_DRIVERS must name a driver that can be loaded."""
    return [Error(sentence, id="sessions_app.E001") for sentence in drivers.check_drivers()]
