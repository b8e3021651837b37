"""Reading settings from the environment, each with one clear sentence when it can't be used."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured


def text(name: str, default: str = "") -> str:
    """The value of NAME, or the content of the file that NAME_FILE names (for mounted secrets)."""
    path = os.environ.get(f"{name}_FILE")
    if path:
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE names {path}, which can't be read: {error}") from None
    return os.environ.get(name, default)


def number(name: str, default: int) -> int:
    """A whole number."""
    value = text(name)
    if not value:
        return default
    try:
        return int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, it is {value!r}.") from None


def flag(name: str, default: bool = False) -> bool:
    """true/false, yes/no, on/off, 1/0."""
    value = text(name).lower()
    if not value:
        return default
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name} must be true or false, it is {value!r}.")


def words(name: str, default: list[str]) -> list[str]:
    """A comma-separated list."""
    value = text(name)
    return [word.strip() for word in value.split(",") if word.strip()] if value else default


def mapping(name: str) -> dict[str, Any]:
    """A JSON object, as text or in the file that NAME_FILE names."""
    value = text(name)
    if not value:
        return {}
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ImproperlyConfigured(f"{name} must be a JSON object.")  # the value may hold secrets
    return found


def secret(name: str, path: Path, make: str = "") -> str:
    """The value of NAME; else what stands in `path`, which is made (mode 0600) with `make` at first use.

    The file is created exclusively: of several processes that start together one writes, all read the same.
    """
    value = text(name)
    if value:
        return value
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        if not path.exists():
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(make or secrets.token_urlsafe(48))
            # A hard link fails where the file exists and never shows half of it.
            try:
                os.link(temporary, path)
            except FileExistsError:
                pass
            finally:
                os.unlink(temporary)
        return path.read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{name} is not set and {path} can't be used: {error}") from None
