"""The runtimes this installation knows, and their declared settings.

`settings.MUSTER_RUNTIME_DRIVERS` names them as `{kind: "dotted.path"}`; each is imported at its first use, so
that nobody loads the Kubernetes client (43 MB) who has no Kubernetes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from .base import RuntimeDriver, Setting


class DriverSettingsError(ValueError):
    """Values that do not fit a driver's declared settings: `errors` holds one sentence per field."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        self.errors = dict(errors)
        super().__init__(" ".join(self.errors.values()))


def kinds() -> list[tuple[str, str]]:
    """Kind and label of every driver. The label is the kind: loading all drivers for a list costs seconds."""
    return [(kind, kind) for kind in settings.MUSTER_RUNTIME_DRIVERS]


def driver_class(kind: str) -> type[RuntimeDriver]:
    """The class behind `kind`. Raises ValueError for a kind that the settings do not name."""
    try:
        path = settings.MUSTER_RUNTIME_DRIVERS[kind]
    except KeyError:
        raise ValueError(f"There is no runtime of kind {kind!r}.") from None
    return _load(path)


@cache
def _load(path: str) -> type[RuntimeDriver]:
    loaded: type[RuntimeDriver] = import_string(path)
    return loaded


def make(kind: str, name: str, values: Mapping[str, Any], secrets: Mapping[str, str]) -> RuntimeDriver:
    """A driver for the runtime `name`. Raises ValueError for an unknown kind."""
    return driver_class(kind)(name, values, secrets)


def split_settings(
    kind: str, values: Mapping[str, Any], *, stored_secrets: Collection[str] = ()
) -> tuple[dict[str, Any], dict[str, str]]:
    """Check `values` against the declared settings of `kind`; return them as (public, secret).

    A field left out, or given as None or "", is not stored: the driver's default holds.
    Raises DriverSettingsError with one sentence per field, ValueError for an unknown kind.
    """
    declared = {setting.name: setting for setting in driver_class(kind).settings}
    errors = {name: f"{name} is not a setting of {kind} runtimes." for name in values if name not in declared}
    public: dict[str, Any] = {}
    secret: dict[str, str] = {}
    for name, setting in declared.items():
        value = values.get(name)
        if value is None or value == "":
            if setting.required and name not in stored_secrets:
                errors[name] = f"{name} is required."
            continue
        problem = _mismatch(setting, value)
        if problem:
            errors[name] = f"{name} {problem}."
        else:
            (secret if setting.secret else public)[name] = value
    if errors:
        raise DriverSettingsError(errors)
    return public, secret


def _mismatch(setting: Setting, value: Any) -> str:
    """What is wrong with a value; never repeats it, for it may be a secret."""
    if setting.kind is bool and not isinstance(value, bool):
        return "must be true or false"
    if setting.kind in (int, float) and (isinstance(value, bool) or not isinstance(value, int | float)):
        return "must be a number"
    if setting.kind is str and not isinstance(value, str):
        return "must be text"
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value)):
        return "holds a character that can't be stored"
    if setting.choices and value not in setting.choices:
        return f"must be one of {', '.join(setting.choices)}"
    return ""


def check_drivers() -> list[str]:
    """What is wrong with the settings table, one plain sentence each; loads no driver."""
    return [
        f"MUSTER_RUNTIME_DRIVERS[{kind!r}] must be a dotted path, it is {path!r}."
        for kind, path in settings.MUSTER_RUNTIME_DRIVERS.items()
        if not isinstance(path, str) or "." not in path
    ]
