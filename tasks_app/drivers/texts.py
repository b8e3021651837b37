"""What the world says, made fit for a database: no NUL, no half of a surrogate pair."""

from __future__ import annotations

import re
from typing import Any

_UNFIT = re.compile("[\x00\ud800-\udfff]")


def storable(value: Any) -> Any:
    """The value with every text in it fit to be stored."""
    if isinstance(value, str):
        return _UNFIT.sub("\ufffd", value)
    if isinstance(value, dict):
        return {storable(key): storable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [storable(inner) for inner in value]
    return value
