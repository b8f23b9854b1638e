"""Validators: name and value in one line, and the borders on the right side."""

import math

import pytest

from fedemb.core import check

ACCEPTED = [
    (check.positive, 1e-300),
    (check.positive, 5),
    (check.non_negative, 0),
    (check.non_negative, 0.0),
    (check.fraction, 0.0),
    (check.fraction, 0.999),
]
REFUSED = [
    *((check.positive, value) for value in (0, 0.0, -1, math.nan, math.inf, -math.inf)),
    *((check.non_negative, value) for value in (-1e-300, math.nan, math.inf)),
    *((check.fraction, value) for value in (1.0, -1e-9, math.nan, math.inf)),
]


@pytest.mark.parametrize(("validator", "value"), ACCEPTED)
def test_accepted(validator, value):
    validator("size", value)


@pytest.mark.parametrize(("validator", "value"), REFUSED)
def test_refused_with_name_and_value_in_one_line(validator, value):
    with pytest.raises(ValueError, match="size") as raised:
        validator("size", value)
    assert f"got size={value}" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("value", "bound"), [(1, 1), (2, 1), (0, 0)])
def test_at_least_accepts_its_bound(value, bound):
    check.at_least("count", value, bound)


@pytest.mark.parametrize("value", [0, -3, 1.5, 2.0, math.nan, True, "3", None])
def test_at_least_wants_an_integer(value):
    """YAML turns 1e3 into a float and yes into True: neither is a count."""
    with pytest.raises(ValueError, match=r"count must be an integer of at least 1, got count="):
        check.at_least("count", value, 1)
