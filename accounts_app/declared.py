"""Kinds of drivers that an installation knows, and the settings that each kind declares.

One table in the settings for each sort of driver, `{kind: "dotted.path"}`. A driver is imported at its first
use: a web process that only draws a form loads no HTTP client, and nobody the Kubernetes client (43 MB) who
has no Kubernetes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.utils.module_loading import import_string

from accounts_app.parsers import is_storable

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class Setting:
    """One declared field of a driver: forms, masking, docs and validation all read this."""

    name: str
    label: str
    kind: type = str
    required: bool = False
    secret: bool = False
    default: Any = None
    help: str = ""
    choices: tuple[str, ...] = ()  # the only values taken, when given


class DriverSettingsError(ValueError):
    """Values that do not fit a driver's declared settings: `errors` holds one sentence per field."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        self.errors = dict(errors)
        super().__init__(" ".join(self.errors.values()))


@cache
def _load(path: str) -> Any:
    return import_string(path)


@dataclass(frozen=True)
class Drivers(Generic[D]):
    """One sort of driver: the table of the settings, the class that all derive from, and its name."""

    table_name: str
    base: Callable[..., D]
    what: str

    @property
    def table(self) -> Mapping[str, str]:
        """Dotted path by kind."""
        found: Mapping[str, str] = getattr(settings, self.table_name)
        return found

    def load(self, kind: str) -> type[D]:
        """The class behind `kind`. Raises ValueError for a kind that the settings do not name."""
        try:
            path = self.table[kind]
        except KeyError:
            raise ValueError(f"There is no {self.what} of kind {kind!r}.") from None
        loaded: type[D] = _load(path)
        return loaded

    def check(self) -> list[str]:
        """What is wrong with the table, one plain sentence each; loads every driver."""
        found = []
        for kind, path in self.table.items():
            where = f"{self.table_name}[{kind!r}]"
            try:
                loaded = _load(path)
            except ImportError as error:
                found.append(f"{where}: {path!r} cannot be imported ({error}).")
                continue
            if not (isinstance(loaded, type) and issubclass(loaded, self.base)):  # type: ignore[arg-type]
                found.append(f"{where}: {path!r} is not a subclass of {self.base.__name__}.")
            elif getattr(loaded, "kind", None) != kind:
                found.append(f"{where}: {path!r} calls itself {getattr(loaded, 'kind', None)!r}.")
        return found


def split_settings(
    kind: str,
    declared: Collection[Setting],
    values: Mapping[str, Any],
    *,
    stored_secrets: Collection[str] = (),
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check `values` against what a driver of `kind` declares; return them as (public, secret).

    Text is turned into the declared type, as forms and environment files only know text. A field left out,
    or given as None or "", is not stored: the driver's default holds. A required secret named in
    `stored_secrets` may be left out, because forms never show a secret again.
    Raises DriverSettingsError with one sentence per field.
    """
    by_name = {setting.name: setting for setting in declared}
    errors = {name: f"{name} is not a setting of {kind}." for name in values if name not in by_name}
    public: dict[str, Any] = {}
    secret: dict[str, Any] = {}
    for name, setting in by_name.items():
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
    else:
        result = _to_text(value)
    if setting.choices and result not in setting.choices:
        raise ValueError(f"must be one of {', '.join(setting.choices)}")
    return result


def _to_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")
    if not is_storable(value):
        raise ValueError("holds a character that can't be stored")
    return value


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
