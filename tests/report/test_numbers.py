"""Numbers on the page: bounds are rounded outwards."""

from __future__ import annotations

import math

import pytest

from fedemb.report import numbers


@pytest.mark.parametrize(
    ("value", "above", "below"),
    [
        (11.3977, "11.4", "11.3"),
        (11.3001, "11.4", "11.3"),
        (3.0, "3", "3"),
        (1234.5, "1240", "1230"),
        (0.0312001, "0.0313", "0.0312"),
        (9.999, "10", "9.99"),
        (0.0, "0", "0"),
        (math.inf, "∞", "∞"),
    ],
)
def test_a_bound_never_gets_tighter_by_rounding(value, above, below):
    assert (numbers.upper(value), numbers.lower(value)) == (above, below)


@pytest.mark.parametrize(
    ("value", "text"), [(0.00294, "3e-3"), (1.51e-5, "1.6e-5"), (1e-6, "1e-6"), (0.05, "0.05"), (0.0, "0"), (None, "–")]
)
def test_small_never_prints_less_than_the_value(value, text):
    """A δ rounded down would claim more than was certified."""
    assert numbers.small(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(3856, "3,856"), (0.5, "0.5"), (123456.7, "123,457"), (True, "yes"), (None, "–"), ("", "–"), ("user", "user")],
)
def test_plain(value, text):
    assert numbers.plain(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.045, "45 ms"), (3.3, "3.3 s"), (725, "12 min 5 s"), (7500, "2 h 5 min"), (3599.7, "1 h 0 min"), (None, "–")],
)
def test_duration(seconds, text):
    assert numbers.duration(seconds) == text


def test_memory():
    assert [numbers.memory(size) for size in (665 * 2**20, 1.5 * 2**30, None)] == ["665 MiB", "1.5 GiB", "–"]


def test_one_is_not_many():
    assert [numbers.counted(n, "round") for n in (0, 1, 1600)] == ["0 rounds", "1 round", "1,600 rounds"]
