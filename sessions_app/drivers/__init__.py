"""The power drivers this installation knows, and their declared settings.

`settings.MUSTER_POWER_DRIVERS` names them as `{kind: "dotted.path"}`. A driver is imported at its first use,
so that a web process that only draws a form does not load an HTTP client it never needs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from .base import PowerDriver, Setting

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


class DriverSettingsError(ValueError):
    """Values that do not fit a driver's declared settings: `errors` holds one sentence per field."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        self.errors = dict(errors)
        super().__init__(" ".join(self.errors.values()))


def kinds() -> list[tuple[str, str]]:
    """Kind and label of every driver, in the order of the settings table."""
    return [(kind, driver_class(kind).label) for kind in settings.MUSTER_POWER_DRIVERS]


def driver_class(kind: str) -> type[PowerDriver]:
    """The class behind `kind`. Raises ValueError for a kind that the settings do not name."""
    try:
        path = settings.MUSTER_POWER_DRIVERS[kind]
    except KeyError:
        raise ValueError(f"There is no power driver of kind {kind!r}.") from None
    return _load(path)


@cache
def _load(path: str) -> type[PowerDriver]:
    loaded: type[PowerDriver] = import_string(path)
    return loaded


def settings_of(kind: str) -> tuple[Setting, ...]:
    """The declared settings of a driver. Raises ValueError for an unknown kind."""
    return driver_class(kind).settings


def check_drivers() -> list[str]:
    """What is wrong with the settings table, one plain sentence each; empty when all is well."""
    found = []
    for kind, path in settings.MUSTER_POWER_DRIVERS.items():
        where = f"MUSTER_POWER_DRIVERS[{kind!r}]"
        try:
            loaded = _load(path)
        except ImportError as error:
            found.append(f"{where}: {path!r} cannot be imported ({error}).")
            continue
        if not (isinstance(loaded, type) and issubclass(loaded, PowerDriver)):
            found.append(f"{where}: {path!r} is not a subclass of PowerDriver.")
        elif loaded.kind != kind:
            found.append(f"{where}: {path!r} calls itself {loaded.kind!r}.")
    return found


def split_settings(
    kind: str, values: Mapping[str, Any], *, stored_secrets: Collection[str] = ()
) -> tuple[dict[str, Any], dict[str, str]]:
    """Check `values` against the declared settings of `kind`; return them as (public, secret).

    Text is turned into the declared type, as forms and environment files only know text. A field left out,
    or given as None or "", is not stored: the driver's default holds. A required secret named in
    `stored_secrets` may be left out, because forms never show a secret again.
    Raises DriverSettingsError with one sentence per field, ValueError for an unknown kind.
    """
    declared = {setting.name: setting for setting in settings_of(kind)}
    errors = {name: f"{name} is not a setting of {kind} BMCs." for name in values if name not in declared}
    public: dict[str, Any] = {}
    secret: dict[str, str] = {}
    for name, setting in declared.items():
        value = values.get(name)
        if value is None or value == "":
            if setting.required and name not in stored_secrets:
                errors[name] = f"{name} is required."
            continue
        try:
            coerced = _coerce(setting, value)
        except ValueError as error:
            errors[name] = f"{name} {error}."
            continue
        (secret if setting.secret else public)[name] = coerced
    if errors:
        raise DriverSettingsError(errors)
    return public, secret


def _coerce(setting: Setting, value: Any) -> Any:
    """The value in the declared type; ValueError never repeats the value, which may be a secret."""
    if setting.kind is bool:
        result: Any = _to_bool(value)
    elif setting.kind in (int, float):
        result = _to_number(setting.kind, value)
    elif isinstance(value, str):
        result = value
    else:
        raise ValueError("must be text")
    if setting.choices and result not in setting.choices:
        raise ValueError(f"must be one of {', '.join(setting.choices)}")
    return result


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = value.strip().lower() if isinstance(value, str) else ""
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError("must be true or false")


def _to_number(kind: type, value: Any) -> int | float:
    what = "a whole number" if kind is int else "a number"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"must be {what}")
    if kind is int and isinstance(value, float):
        raise ValueError(f"must be {what}")
    try:
        number: int | float = kind(value)
    except ValueError:
        raise ValueError(f"must be {what}") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError(f"must be {what}")
    return number
