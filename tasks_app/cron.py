"""Cron expressions as Consul-Terraform-Sync reads them (contracts, CTS 5.1).

Five fields: minute, hour, day of month, month, day of week. Six: and the year. Seven: seconds first, the
year last. Names of months and days, `*`, `?`, lists, ranges, steps, `L` (last), `LW`, `15W` (nearest
weekday), `6L` (last Saturday), `5#3` (third Friday), `@yearly` and friends. Day of month and day of week
are joined by "or" when both are restricted.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo

_MACROS = {
    "@yearly": "0 0 0 1 1 * *",
    "@annually": "0 0 0 1 1 * *",
    "@monthly": "0 0 0 1 * * *",
    "@weekly": "0 0 0 * * 0 *",
    "@daily": "0 0 0 * * * *",
    "@midnight": "0 0 0 * * * *",
    "@hourly": "0 0 * * * * *",
}
_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_name) if name} | {
    name.lower(): number for number, name in enumerate(calendar.month_abbr) if name
}
_WEEK = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_DAYS = {name: number for number, name in enumerate(_WEEK)} | {
    name.lower(): (number + 1) % 7 for number, name in enumerate(calendar.day_name)
}
_FIRST_YEAR, _LAST_YEAR = 1970, 2099
_STEP = re.compile(r"(?P<range>[^/]+)/(?P<step>\d{1,6})")


class CronError(ValueError):
    """The text is no cron expression; the message says which field and why."""


@dataclass
class _DayRules:
    """What a day field may say beyond a set of numbers."""

    numbers: set[int] = field(default_factory=set)
    last: bool = False
    last_weekday: bool = False
    nearest: set[int] = field(default_factory=set)  # 15W
    last_of: set[int] = field(default_factory=set)  # 6L
    nth: set[tuple[int, int]] = field(default_factory=set)  # (weekday, n) of 5#3
    restricted: bool = True


class Cron:
    """A parsed expression. `Cron(text)` raises CronError."""

    def __init__(self, text: str) -> None:
        words = _MACROS.get(text.strip().lower(), text).split()
        if not 5 <= len(words) <= 7:
            raise CronError(f"{len(words)} field(s) found, 5 to 7 are expected")
        if len(words) == 5:
            words = ["0", *words, "*"]
        elif len(words) == 6:
            words = ["0", *words]
        self.seconds = sorted(_numbers("second", words[0], 0, 59))
        self.minutes = sorted(_numbers("minute", words[1], 0, 59))
        self.hours = sorted(_numbers("hour", words[2], 0, 23))
        self.days = _month_days(words[3])
        self.months = _numbers("month", words[4], 1, 12, _MONTHS)
        self.weekdays = _week_days(words[5])
        self.years = sorted(_numbers("year", words[6], _FIRST_YEAR, _LAST_YEAR))

    def next_after(self, moment: datetime, zone: tzinfo) -> datetime | None:
        """The first time after `moment` (aware), in `zone`; None where there is none any more.

        Times that a change to summer time skips are left out; of those that come twice the first counts.
        """
        local = moment.astimezone(zone).replace(tzinfo=None, microsecond=0)
        for day in self._days_from(local.date()):
            for naive in self._times_of(day, local):
                found = naive.replace(tzinfo=zone)
                exists = found.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == naive
                if exists and found > moment:
                    return found
        return None

    def _days_from(self, first: date) -> Iterator[date]:
        for year in self.years:
            for month in range(1, 13):
                if month not in self.months or (year, month) < (first.year, first.month):
                    continue
                for number in range(1, calendar.monthrange(year, month)[1] + 1):
                    day = date(year, month, number)
                    if day >= first and self._fits(day):
                        yield day

    def _times_of(self, day: date, after: datetime) -> Iterator[datetime]:
        midnight = datetime(day.year, day.month, day.day)
        for hour in self.hours:
            for minute in self.minutes:
                begin = midnight + timedelta(hours=hour, minutes=minute)
                if begin + timedelta(seconds=59) <= after:
                    continue
                yield from (
                    begin + timedelta(seconds=second)
                    for second in self.seconds
                    if begin + timedelta(seconds=second) > after
                )

    def _fits(self, day: date) -> bool:
        by_month, by_week = self._fits_month(day), self._fits_week(day)
        if self.days.restricted and self.weekdays.restricted:
            return by_month or by_week
        return by_month if self.days.restricted else by_week if self.weekdays.restricted else True

    def _fits_month(self, day: date) -> bool:
        end = calendar.monthrange(day.year, day.month)[1]
        rules = self.days
        if day.day in rules.numbers or (rules.last and day.day == end):
            return True
        if rules.last_weekday and day.day == _nearest_weekday(day, end):
            return True
        return any(day.day == _nearest_weekday(day, min(number, end)) for number in rules.nearest)

    def _fits_week(self, day: date) -> bool:
        weekday = day.isoweekday() % 7
        rules = self.weekdays
        if weekday in rules.numbers or (weekday, (day.day - 1) // 7 + 1) in rules.nth:
            return True
        end = calendar.monthrange(day.year, day.month)[1]
        return weekday in rules.last_of and day.day > end - 7


def _nearest_weekday(day: date, number: int) -> int:
    """The weekday (Monday to Friday) nearest to the `number`th, without leaving the month."""
    end = calendar.monthrange(day.year, day.month)[1]
    weekday = date(day.year, day.month, number).isoweekday()
    if weekday == 6:
        return number - 1 if number > 1 else number + 2
    if weekday == 7:
        return number + 1 if number < end else number - 2
    return number


def _numbers(name: str, text: str, low: int, high: int, names: dict[str, int] | None = None) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        found |= _part(name, part, low, high, names or {})
    return found


def _part(name: str, text: str, low: int, high: int, names: dict[str, int]) -> set[int]:
    step = 1
    match = _STEP.fullmatch(text)
    if match:
        text, step = match["range"], int(match["step"])
        if step < 1:
            raise CronError(f"syntax error in {name} field: the step of {match[0]!r} must be at least 1")
    if text in {"*", "?"}:
        return set(range(low, high + 1, step))
    first, dash, last = text.partition("-")
    start = _number(name, first, low, high, names)
    if dash:
        end = _number(name, last, low, high, names)
        if end < start:
            raise CronError(f"syntax error in {name} field: {text!r} ends before it starts")
    else:
        end = high if match else start
    return set(range(start, end + 1, step))


def _number(name: str, text: str, low: int, high: int, names: dict[str, int]) -> int:
    value = names.get(text.lower())
    if value is None:
        if not re.fullmatch(r"\d{1,4}", text, re.ASCII):
            raise CronError(f"syntax error in {name} field: {text!r}")
        value = int(text)
    if not low <= value <= high:
        raise CronError(f"syntax error in {name} field: {text!r} is not between {low} and {high}")
    return value


def _month_days(text: str) -> _DayRules:
    rules = _DayRules(restricted=text not in {"*", "?"})
    for part in text.split(","):
        word = part.upper()
        if word == "L":
            rules.last = True
        elif word in {"LW", "WL"}:
            rules.last_weekday = True
        elif re.fullmatch(r"\d{1,2}W", word, re.ASCII):
            rules.nearest.add(_number("day-of-month", word[:-1], 1, 31, {}))
        else:
            rules.numbers |= _part("day-of-month", part, 1, 31, {})
    return rules


def _week_days(text: str) -> _DayRules:
    rules = _DayRules(restricted=text not in {"*", "?"})
    for part in text.split(","):
        day, hash_sign, nth = part.partition("#")
        if hash_sign:
            which = _number("day-of-week", nth, 1, 5, {})
            rules.nth.add((_number("day-of-week", day, 0, 7, _DAYS) % 7, which))
        elif part.upper() == "L":
            rules.numbers.add(6)
        elif re.fullmatch(r"(\d|[a-z]+)L", part, re.IGNORECASE | re.ASCII) and part.lower() not in _DAYS:
            rules.last_of.add(_number("day-of-week", part[:-1], 0, 7, _DAYS) % 7)
        else:
            rules.numbers |= {number % 7 for number in _part("day-of-week", part, 0, 7, _DAYS)}
    return rules
