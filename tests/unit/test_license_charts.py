"""Use over time as paths: steps at the right heights, a box that fits what is in it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.license_server.ui.charts import HEIGHT, WIDTH, Chart
from services.license_server.usage import UsagePoint

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def points(*used: int, capacity: int = 8, denied: tuple[int, ...] = ()) -> list[UsagePoint]:
    return [
        UsagePoint(BEGIN + timedelta(hours=number), seats, capacity, 1 if number in denied else 0)
        for number, seats in enumerate(used)
    ]


def test_line_steps_where_seats_are_taken_and_given_back():
    chart = Chart.of(points(0, 4, 4, 8, 0))
    assert (chart.top, chart.peak) == (8, 8)
    assert chart.line == "M0 200H200.0V100H600.0V0H800.0V200H1000"
    assert chart.area == f"{chart.line}V{HEIGHT}H0Z"
    assert chart.limit == "M0 0H1000"


def test_refusals_are_marked_in_the_middle_of_their_time():
    chart = Chart.of(points(1, 1, 1, 1, denied=(2,)))
    assert [(mark.x, mark.denied) for mark in chart.marks] == [(625, 1)]
    assert chart.denied == 1


def test_capacity_far_above_the_use_does_not_flatten_the_line():
    chart = Chart.of(points(3, 2, capacity=1000))
    assert chart.top == 8
    assert not chart.limit_shows


def test_use_above_the_capacity_stays_in_the_box():
    assert Chart.of(points(30, 30, capacity=4)).top >= 30


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=50), st.integers(0, 5_000), st.booleans())
def test_line_never_leaves_its_box(used, capacity, to_peak):
    chart = Chart.of(points(*used, capacity=capacity), to_peak=to_peak)
    steps = chart.line.replace("M0 ", "V").replace("V", " V").replace("H", " H").split()
    heights = [float(step[1:]) for step in steps if step[0] == "V"]
    places = [float(step[1:]) for step in steps if step[0] == "H"]
    assert all(0 <= height <= HEIGHT for height in heights)
    assert places == sorted(places) and places[-1] == WIDTH
    assert len(chart.times) == 5 and chart.data().count(";") == len(used) - 1


@pytest.mark.parametrize("peak", [1, 4, 5, 12, 13, 21, 40, 41, 400, 401])
def test_scale_has_whole_numbers_at_its_half_and_holds_the_peak(peak):
    top = Chart.of(points(peak, capacity=peak)).top
    assert peak <= top <= 2.5 * max(peak, 4) and top % 2 == 0
