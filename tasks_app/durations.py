"""Durations as Go writes them: `5m` in, `5m0s` out."""

from __future__ import annotations

import re

# Nanoseconds.
_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_LARGEST = 2**63 - 1


class DurationError(ValueError):
    """The text is no duration; the message is the original's."""


def parse_duration(text: str) -> int:
    """Nanoseconds of a duration such as `1h2m3.5s`. Raises DurationError."""
    wrong = DurationError(f'time: invalid duration "{text}"')
    rest, sign = text, 1
    if rest[:1] in ("+", "-"):
        sign = -1 if rest[0] == "-" else 1
        rest = rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise wrong
    total, position = 0, 0
    while position < len(rest):
        match = _PART.match(rest, position)
        if match is None:
            raise _why(text, rest[position:]) or wrong
        whole, _, part = match[1].partition(".")
        unit = _UNITS[match[2]]
        total += int(whole or "0") * unit
        if part:
            total += int(part) * unit // 10 ** len(part)
        position = match.end()
    if total > _LARGEST:
        raise wrong
    return sign * total


def _why(text: str, rest: str) -> DurationError | None:
    """A number without a unit, or with one that is unknown, has a sentence of its own."""
    number = re.match(r"(\d+\.?\d*|\.\d+)([^\d.]*)", rest)
    if number is None:
        return None
    if not number[2]:
        return DurationError(f'time: missing unit in duration "{text}"')
    return DurationError(f'time: unknown unit "{number[2]}" in duration "{text}"')


def format_duration(nanoseconds: int) -> str:
    """The duration as Go prints it: `0s`, `1.5ms`, `20s`, `5m0s`, `1h0m0s`."""
    if nanoseconds == 0:
        return "0s"
    sign = "-" if nanoseconds < 0 else ""
    rest = abs(nanoseconds)
    for name, unit in (("ns", 1), ("µs", 10**3), ("ms", 10**6)):
        if rest < unit * 1000 and rest < 10**9:
            return f"{sign}{_decimal(rest, unit)}{name}"
    hours, rest = divmod(rest, _UNITS["h"])
    minutes, rest = divmod(rest, _UNITS["m"])
    seconds = _decimal(rest, 10**9)
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}s"
    return f"{sign}{minutes}m{seconds}s" if minutes else f"{sign}{seconds}s"


def _decimal(value: int, unit: int) -> str:
    whole, part = divmod(value, unit)
    if not part:
        return str(whole)
    return f"{whole}.{part:0{len(str(unit)) - 1}d}".rstrip("0")
