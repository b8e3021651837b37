"""The table of colours, row by row, and ages as Go prints them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from workflows_app.durations import go_duration
from workflows_app.states import Count, component_colour, is_usable, workflow_colour

UP, DOWN, HALF, OFF = Count(1, 1), Count(1, 0), Count(2, 1), Count(0, 0)
BROKEN = Count(1, 0, failed=True)
SERVES_OLD = Count(1, 1, failed=True)


@pytest.mark.parametrize(
    ("desired", "actual", "colour"),
    [(0, 0, "GREEN"), (-1, 0, "GREEN"), (1, 1, "GREEN"), (1, 2, "GREEN"), (2, 1, "YELLOW"), (2, 0, "RED")],
)
def test_a_component_is_coloured_by_its_counts(desired, actual, colour):
    assert component_colour(desired, actual) == colour


@pytest.mark.parametrize(
    ("mode", "services", "stream", "error", "colour"),
    [
        ("SYNC", [UP], UP, False, "GREEN"),
        ("SYNC", [UP, OFF], UP, False, "GREEN"),
        ("SYNC", [], UP, False, "GREEN"),  # no service: the stream alone decides
        ("SYNC", [], DOWN, False, "RED"),
        ("SYNC", [HALF], UP, False, "YELLOW"),
        ("SYNC", [UP], HALF, False, "YELLOW"),
        ("SYNC", [DOWN], UP, False, "ORANGE"),  # the seed's first two examples
        ("SYNC", [UP, DOWN], UP, False, "ORANGE"),
        ("SYNC", [UP], DOWN, False, "ORANGE"),
        ("SYNC", [DOWN], DOWN, False, "RED"),
        ("SYNC", [BROKEN], UP, False, "RED"),
        ("SYNC", [BROKEN, UP], UP, False, "RED"),
        ("SYNC", [SERVES_OLD], UP, False, "GREEN"),  # a failed rollout while the old ones serve
        ("SYNC", [DOWN], UP, True, "RED"),
        ("SYNC", [UP], UP, True, "GREEN"),  # an update was refused, the old ones serve
        ("ASYNC", [], None, False, "GREEN"),
        ("ASYNC", [UP], None, False, "GREEN"),
        ("ASYNC", [HALF, UP], None, False, "YELLOW"),
        ("ASYNC", [DOWN, DOWN], None, False, "ORANGE"),  # the seed's example: the queue takes requests
        ("ASYNC", [BROKEN, DOWN], None, False, "RED"),
        ("ASYNC", [DOWN], None, True, "RED"),
    ],
)
def test_a_published_workflow_is_coloured_by_the_first_row_that_holds(mode, services, stream, error, colour):
    found = workflow_colour(wanted=True, mode=mode, services=services, stream=stream, error=error)
    assert found == colour


@pytest.mark.parametrize(
    ("services", "error", "colour"),
    [([], False, "GREEN"), ([OFF], False, "YELLOW"), ([OFF], True, "RED"), ([], True, "RED")],
)
def test_an_unpublished_workflow_is_green_once_nothing_is_left(services, error, colour):
    found = workflow_colour(wanted=False, mode="SYNC", services=services, stream=DOWN, error=error)
    assert found == colour


@pytest.mark.parametrize(
    ("wanted", "mode", "colour", "usable"),
    [
        (True, "SYNC", "GREEN", True),
        (True, "SYNC", "YELLOW", True),
        (True, "SYNC", "ORANGE", False),
        (True, "SYNC", "RED", False),
        (True, "ASYNC", "ORANGE", True),
        (True, "ASYNC", "RED", True),
        (False, "SYNC", "GREEN", False),
        (False, "ASYNC", "GREEN", False),
    ],
)
def test_sync_needs_somebody_to_answer_and_async_queues(wanted, mode, colour, usable):
    assert is_usable(wanted=wanted, mode=mode, colour=colour) is usable


@pytest.mark.parametrize(
    ("span", "nanoseconds", "text"),
    [
        (timedelta(), 0, "0s"),
        (timedelta(), 1, "1ns"),
        (timedelta(microseconds=1), 500, "1.5µs"),
        (timedelta(microseconds=512171), 355, "512.171355ms"),
        (timedelta(milliseconds=100), 0, "100ms"),
        (timedelta(seconds=1), 0, "1s"),
        (timedelta(seconds=39, microseconds=92166), 459, "39.092166459s"),
        (timedelta(minutes=1, seconds=56, microseconds=138865), 794, "1m56.138865794s"),
        (timedelta(minutes=16, seconds=26, microseconds=470291), 765, "16m26.470291765s"),
        (timedelta(minutes=2), 0, "2m0s"),
        (timedelta(hours=1, milliseconds=500), 0, "1h0m0.5s"),
        (timedelta(days=2, hours=1, minutes=3), 0, "49h3m0s"),
        (timedelta(seconds=-1, milliseconds=-500), 0, "-1.5s"),
    ],
)
def test_ages_are_written_as_go_writes_them(span, nanoseconds, text):
    assert go_duration(span, nanoseconds) == text
