"""Cron expressions, Go's durations, HCL literals: what tasks are written with."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.cron import Cron, CronError
from tasks_app.durations import DurationError, format_duration, parse_duration
from tasks_app.literals import LiteralError, parse_literal

UTC = ZoneInfo("UTC")
NOW = datetime(2026, 11, 22, 10, 30, 15, tzinfo=UTC)  # a Sunday


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("* * * * *", "2026-11-22 10:31:00"),
        ("*/10 * * * * * *", "2026-11-22 10:30:20"),  # seven fields: seconds first, year last
        ("0 0 1 1 * 2028", "2028-01-01 00:00:00"),  # six: and the year
        ("30 10 * * *", "2026-11-23 10:30:00"),
        ("0 12 * * Mon", "2026-11-23 12:00:00"),
        ("0 12 * * monday-friday", "2026-11-23 12:00:00"),
        ("0 12 * * 7", "2026-11-22 12:00:00"),
        ("0 0 * feb *", "2027-02-01 00:00:00"),
        ("0 0 L * *", "2026-11-30 00:00:00"),
        ("0 0 L Feb *", "2027-02-28 00:00:00"),
        ("0 0 LW 1 *", "2027-01-29 00:00:00"),
        ("0 0 15W * *", "2026-12-15 00:00:00"),
        ("0 0 1W 5 *", "2027-05-03 00:00:00"),  # the first is a Saturday, and the month is not left
        ("0 0 * * 6L", "2026-11-28 00:00:00"),
        ("0 0 * * 5#3", "2026-12-18 00:00:00"),
        ("0 0 13 * 5", "2026-11-27 00:00:00"),  # either of the two days
        ("0 0 29 2 *", "2028-02-29 00:00:00"),
        ("@hourly", "2026-11-22 11:00:00"),
        ("@daily", "2026-11-23 00:00:00"),
        ("@weekly", "2026-11-29 00:00:00"),
        ("@monthly", "2026-12-01 00:00:00"),
        ("@yearly", "2027-01-01 00:00:00"),
        ("5,10-12 8/4 * * ?", "2026-11-22 12:05:00"),
    ],
)
def test_the_next_tick(cron: str, expected: str):
    found = Cron(cron).next_after(NOW, UTC)
    assert found is not None
    assert found.strftime("%Y-%m-%d %H:%M:%S") == expected


def test_a_past_year_and_an_impossible_day_never_come():
    assert Cron("0 0 1 1 * 2020").next_after(NOW, UTC) is None
    assert Cron("0 0 30 2 *").next_after(NOW, UTC) is None


def test_an_hour_that_summer_time_skips_is_left_out():
    berlin = ZoneInfo("Europe/Berlin")
    before = datetime(2027, 3, 28, 0, 0, tzinfo=berlin)
    found = Cron("30 2 * * *").next_after(before, berlin)
    assert found is not None
    assert (found.day, found.hour) == (29, 2)


def test_an_hour_that_comes_twice_counts_once():
    berlin = ZoneInfo("Europe/Berlin")
    first = Cron("30 2 * * *").next_after(datetime(2027, 10, 31, 0, 0, tzinfo=berlin), berlin)
    assert first is not None
    following = Cron("30 2 * * *").next_after(first, berlin)
    assert following is not None
    assert (first.day, following.day) == (31, 1)


@pytest.mark.parametrize(
    "cron",
    ["", "x", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *",
     "5-1 * * * *", "* * * * * * * *", "@sometimes", "* * * * 5#6", "* * 32W * *", "1,,2 * * * *"],
)  # fmt: skip
def test_what_is_no_cron_expression(cron: str):
    with pytest.raises(CronError):
        Cron(cron)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("5m", "5m0s"), ("90s", "1m30s"), ("1h", "1h0m0s"), ("1.5s", "1.5s"), ("100ms", "100ms"), ("0", "0s"),
     ("1us", "1µs"), ("-3s", "-3s"), ("1h2m3.5s", "1h2m3.5s"), (".5m", "30s"), ("1500ns", "1.5µs")],
)  # fmt: skip
def test_durations_are_written_as_go_writes_them(text: str, shown: str):
    assert format_duration(parse_duration(text)) == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("invalid", 'time: invalid duration "invalid"'),
        ("", 'time: invalid duration ""'),
        ("5", 'time: missing unit in duration "5"'),
        ("5x", 'time: unknown unit "x" in duration "5x"'),
    ],
)
def test_what_is_no_duration(text: str, message: str):
    with pytest.raises(DurationError, match=r"^time: ") as caught:
        parse_duration(text)
    assert str(caught.value) == message


@given(st.integers(min_value=-(2**62), max_value=2**62))
def test_any_duration_survives_being_written(nanoseconds: int):
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"text"', "text"),
        (" 5 ", 5),
        ("-2.5e1", -25.0),
        ("true", True),
        ("null", None),
        ('["a", 1, [true],]', ["a", 1, [True]]),
        ('{a = 1, "b-c": {d = "e"}}', {"a": 1, "b-c": {"d": "e"}}),
        ("{\n  a = 1 # one\n  b = 2\n}", {"a": 1, "b": 2}),
        ('"a\\n\\u00e9 $${x} %%{y}"', "a\né ${x} %{y}"),
        ("<<EOT\nhello\n  world\nEOT", "hello\n  world\n"),
        ("<<-EOT\n    hello\n      world\n    EOT\n", "hello\n  world\n"),
        ('(("x"))', "x"),
    ],
)
def test_literals(text: str, value: Any):
    assert parse_literal(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "text", "var.x", 'file("/etc/passwd")', '"${var.x}"', '"%{ if true }x%{ endif }"', '"open', "[1",
     "{a}", "{a=1 b=2}", "1 2", '"\\q"', '"\\ud800"', "<<EOT\n${x}\nEOT", "<<EOT\nx", "[" * 200, "1 + 1"],
)  # fmt: skip
def test_what_is_no_literal(text: str):
    with pytest.raises(LiteralError):
        parse_literal(text)


@given(st.text())
def test_no_text_breaks_the_readers(text: str):
    for read, error in ((parse_literal, LiteralError), (parse_duration, DurationError), (Cron, CronError)):
        try:
            read(text)
        except error:
            continue
