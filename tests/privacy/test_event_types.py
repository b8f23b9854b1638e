"""The project's own events: checked at birth, and the same after a journey through JSON."""

import json
import math

import pytest
from dp_accounting import ComposedDpEvent, GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from hypothesis import given
from hypothesis import strategies as st

from fedemb.privacy.event_types import CorrelatedGaussianDpEvent, NearDpEvent, SeparatedDpEvent
from fedemb.privacy.events import from_plain, to_plain
from fedemb.privacy.ledger import Ledger

GAUSSIANS = st.floats(0, 1e6).map(GaussianDpEvent)
NEAR = st.builds(NearDpEvent, GAUSSIANS, st.floats(0, 1))
CORRELATED = st.builds(CorrelatedGaussianDpEvent, st.floats(0, 1e6), st.integers(1, 100), st.floats(0, 1))
SEPARATED = st.builds(
    SeparatedDpEvent,
    st.integers(0, 10**6),
    st.integers(100, 10**6),
    st.just(1),
    st.one_of(GAUSSIANS, NEAR, CORRELATED),
)
EVENTS = st.one_of(
    NEAR, CORRELATED, SEPARATED, SEPARATED.map(lambda event: ComposedDpEvent([SelfComposedDpEvent(event, 2)]))
)


@given(EVENTS)
def test_events_survive_json(event):
    assert from_plain(json.loads(json.dumps(to_plain(event), allow_nan=False))) == event


def test_equal_charges_are_counted_together():
    event = SeparatedDpEvent(3, 10, 1, CorrelatedGaussianDpEvent(1.0, 5))
    ledger = Ledger().charge(event).charge(SeparatedDpEvent(3, 10, 1, CorrelatedGaussianDpEvent(1.0, 5)))
    assert ledger.events == [(event, 2)]


@pytest.mark.parametrize(
    "plain",
    [
        {"kind": "correlated-gaussian", "noise_over_sensitivity": -1.0, "span": 1, "shortest": 0.0},
        {"kind": "correlated-gaussian", "noise_over_sensitivity": 1.0, "span": 0, "shortest": 0.0},
        {"kind": "correlated-gaussian", "noise_over_sensitivity": 1.0, "span": 1, "shortest": 1.5},
        {"kind": "correlated-gaussian", "noise_over_sensitivity": 1.0, "span": 1.5, "shortest": 0.0},
        {"kind": "in-turn", "round": -1, "users": 1, "sampled": 1, "release": {"kind": "nothing"}},
        {"kind": "in-turn", "round": 0, "users": 1, "sampled": 2, "release": {"kind": "nothing"}},
        {"kind": "in-turn", "round": 0, "users": 5, "release": {"kind": "nothing"}},
        {"kind": "near", "total_variation": 1.5, "release": {"kind": "nothing"}},
        {"kind": "near", "total_variation": -1e-9, "release": {"kind": "nothing"}},
    ],
)
def test_other_json_is_no_event(plain):
    with pytest.raises(ValueError, match="not an event"):
        from_plain(plain)


def test_a_span_beyond_the_separation_is_refused_with_the_remedy():
    """Columns of two participations would share rows and could add up to twice the norm."""
    SeparatedDpEvent(0, 16, 1, CorrelatedGaussianDpEvent(1.0, 16))
    with pytest.raises(ValueError, match=r"sampler=cyclic with users_per_round <= N/16; here it is only 15 rounds"):
        SeparatedDpEvent(0, 15, 1, CorrelatedGaussianDpEvent(1.0, 16))


@pytest.mark.parametrize("ratio", [-1.0, math.nan, math.inf])
def test_noise_must_be_a_number(ratio):
    with pytest.raises(ValueError, match="noise over sensitivity"):
        CorrelatedGaussianDpEvent(ratio, 1)


def test_sampling_takes_any_event_but_says_no_more_than_its_kind():
    assert to_plain(PoissonSampledDpEvent(0.5, NearDpEvent(GaussianDpEvent(1.0), 1e-9)))["release"]["kind"] == "near"
