"""System checks of this app."""

from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.core.checks import Error, register

from tasks_app import drivers


@register()
def check_task_drivers(app_configs: Any, **kwargs: Any) -> list[Error]:
    """Every kind in MUSTER_TASK_DRIVERS must name a driver that can be loaded."""
    return [Error(sentence, id="tasks_app.E001") for sentence in drivers.check_drivers()]


@register()
def check_task_settings(app_configs: Any, **kwargs: Any) -> list[Error]:
    """The default backend must be a known one, each backend one kind; the time zone must exist."""
    found = []
    for name, backend in settings.MUSTER_TASK_BACKENDS.items():
        if not isinstance(backend, dict) or len(backend) != 1:
            text = f"MUSTER_TASK_BACKENDS[{name!r}] must be an object with one kind of backend as its key."
            found.append(Error(text, id="tasks_app.E002"))
    if settings.MUSTER_TASK_BACKEND not in settings.MUSTER_TASK_BACKENDS:
        text = f"MUSTER_TASK_BACKEND is {settings.MUSTER_TASK_BACKEND!r}, which MUSTER_TASK_BACKENDS lacks."
        found.append(Error(text, id="tasks_app.E003"))
    try:
        ZoneInfo(settings.MUSTER_SCHEDULE_TIME_ZONE)
    except (ZoneInfoNotFoundError, ValueError):
        text = f"MUSTER_SCHEDULE_TIME_ZONE is {settings.MUSTER_SCHEDULE_TIME_ZONE!r}: there is no such zone."
        found.append(Error(text, id="tasks_app.E004"))
    return found
