"""What an event says of who takes part."""

import pytest
from dp_accounting import GaussianDpEvent, NoOpDpEvent, PoissonSampledDpEvent, SampledWithoutReplacementDpEvent

from fedemb.privacy.conditioning import given_cohort, inclusion_rate, separation
from fedemb.privacy.event_types import NearDpEvent, SeparatedDpEvent

RELEASE = NearDpEvent(GaussianDpEvent(0.5), 1e-9)
FIXED, POISSON = SampledWithoutReplacementDpEvent(100, 8, RELEASE), PoissonSampledDpEvent(0.1, RELEASE)
TURNS = SeparatedDpEvent(3, 12, 1, RELEASE)


@pytest.mark.parametrize(
    ("event", "given", "rate", "rounds"),
    [
        (FIXED, RELEASE, 0.08, None),
        (POISSON, RELEASE, 0.1, None),
        (TURNS, TURNS, None, 12),
        (RELEASE, RELEASE, None, None),
        (NoOpDpEvent(), NoOpDpEvent(), None, None),
    ],
)
def test_events(event, given, rate, rounds):
    assert given_cohort(event) == given
    assert inclusion_rate(event) == rate
    assert separation(event) == rounds
