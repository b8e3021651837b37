"""System checks of this app."""

from typing import Any

from django.core.checks import Error, register

from workflows_app import drivers


@register()
def check_runtime_drivers(app_configs: Any, **kwargs: Any) -> list[Error]:
    """Every kind in MUSTER_RUNTIME_DRIVERS must name a driver."""
    return [Error(sentence, id="workflows_app.E001") for sentence in drivers.check_drivers()]
