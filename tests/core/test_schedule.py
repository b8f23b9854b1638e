"""Learning-rate factors at their corners, by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedemb.core.schedule import Constant, WarmupCosine


def test_constant():
    assert [Constant().factor(round) for round in (0, 1, 10**6)] == [1, 1, 1]


def test_cosine_without_warmup():
    """1 at the start, 1/2 half-way, sqrt(1/2) related in between, 0 at the end and after."""
    schedule = WarmupCosine(rounds=8)
    assert schedule.factor(0) == 1
    assert schedule.factor(2) == pytest.approx(0.5 + math.sqrt(0.5) / 2)
    assert schedule.factor(4) == pytest.approx(0.5)
    assert schedule.factor(8) == pytest.approx(0, abs=1e-15)
    assert schedule.factor(1000) == pytest.approx(0, abs=1e-15)


def test_warmup_rises_linearly_from_above_zero():
    """The first round must train at all."""
    schedule = WarmupCosine(rounds=10, warmup_rounds=4, final_fraction=0.1)
    assert [schedule.factor(round) for round in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert schedule.factor(7) == pytest.approx(0.55)  # half-way between 1 and 0.1
    assert schedule.factor(10) == pytest.approx(0.1)


@given(st.integers(1, 50), st.integers(0, 60), st.floats(0, 0.99), st.integers(0, 120))
def test_factor_stays_in_the_unit_interval_and_falls_after_the_warmup(rounds, warmup, final, round):
    schedule = WarmupCosine(rounds=rounds, warmup_rounds=warmup, final_fraction=final)
    assert 0 <= schedule.factor(round) <= 1
    if round >= warmup:
        assert schedule.factor(round + 1) <= schedule.factor(round) + 1e-15
        assert schedule.factor(round) >= final - 1e-15


@pytest.mark.parametrize(
    ("bad", "name"),
    [({"rounds": 0}, "rounds"), ({"warmup_rounds": -1}, "warmup_rounds"), ({"final_fraction": 1.0}, "final_fraction")],
)
def test_bad_numbers_are_named(bad, name):
    with pytest.raises(ValueError, match=name):
        WarmupCosine(**{"rounds": 5, **bad})
