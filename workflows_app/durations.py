"""Spans of time as Go prints them, which is how the status document gives an age."""

from __future__ import annotations

from datetime import timedelta


def go_duration(span: timedelta, nanoseconds: int = 0) -> str:
    """`span` plus `nanoseconds`, in the form of Go's Duration.String() (contracts, workflows 12.5).

    >>> go_duration(timedelta(minutes=1, seconds=56, microseconds=138865), 794)
    '1m56.138865794s'
    """
    total = (span.days * 86400 + span.seconds) * 10**9 + span.microseconds * 1000 + nanoseconds
    sign, total = ("-", -total) if total < 0 else ("", total)
    if total == 0:
        return "0s"
    if total < 10**9:
        for unit, size in (("ms", 10**6), ("µs", 10**3), ("ns", 1)):
            if total >= size:
                return f"{sign}{_decimal(total, size)}{unit}"
    minutes, rest = divmod(total, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, 10**9)}s"
    if hours:
        text = f"{hours}h{minutes}m{text}"
    elif minutes:
        text = f"{minutes}m{text}"
    return sign + text


def _decimal(value: int, unit: int) -> str:
    """value / unit without rounding and without trailing zeros."""
    whole, rest = divmod(value, unit)
    if not rest:
        return str(whole)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}"
