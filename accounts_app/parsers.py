"""Reading JSON that anybody may have sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

DEEPEST = 100  # levels of arrays and objects


class CarefulJSONParser(JSONParser):
    """Refuses (400) what JSON may say and nothing behind it takes: nesting without end, NUL characters and
    halves of surrogate pairs (no database stores them), numbers beyond what a float holds."""

    def parse(
        self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            found = super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise ParseError("JSON parse error - nested too deeply") from None
        check_storable(found)
        return found


def check_storable(value: Any, level: int = 0) -> None:
    """Look at every part of a document. Raises ParseError."""
    if level > DEEPEST:
        raise ParseError("JSON parse error - nested too deeply")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ParseError("JSON parse error - a number is out of range")
    elif isinstance(value, dict):
        for name, inner in value.items():
            _check_text(name)
            check_storable(inner, level + 1)
    elif isinstance(value, list):
        for inner in value:
            check_storable(inner, level + 1)


def _check_text(text: str) -> None:
    if not is_storable(text):
        raise ParseError("JSON parse error - a text holds a character that can't be stored")


def is_storable(text: str) -> bool:
    """Whether every database takes it: no NUL, no half of a surrogate pair."""
    if "\x00" in text:
        return False
    if text.isascii():  # most text is, and asking is cheap
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
