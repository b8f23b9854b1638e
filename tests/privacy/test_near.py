"""Releases that are only near to Gaussian ones: the share of delta, against a plain search."""

import math

import numpy as np
import pytest
from dp_accounting import (
    ComposedDpEvent,
    GaussianDpEvent,
    NonPrivateDpEvent,
    PoissonSampledDpEvent,
    SampledWithoutReplacementDpEvent,
    SelfComposedDpEvent,
)

from fedemb.privacy.accounting import epsilon, spend
from fedemb.privacy.event_types import NearDpEvent, SeparatedDpEvent
from fedemb.privacy.gaussian import gaussian_epsilon
from fedemb.privacy.near import near_attack, near_epsilon, without_near

GAUSSIAN = GaussianDpEvent(2.0)


def near(distance, event=GAUSSIAN):
    return NearDpEvent(event, distance)


@pytest.mark.parametrize(
    ("event", "exact", "distance"),
    [
        (GAUSSIAN, GAUSSIAN, 0.0),
        (near(1e-3), GAUSSIAN, 1e-3),
        (near(1e-3, near(2e-3)), GAUSSIAN, 3e-3),
        (SelfComposedDpEvent(near(1e-3), 5), SelfComposedDpEvent(GAUSSIAN, 5), 5e-3),
        (ComposedDpEvent([near(1e-3), GAUSSIAN, near(2e-3)]), ComposedDpEvent([GAUSSIAN] * 3), 3e-3),
        (PoissonSampledDpEvent(0.1, near(1e-3)), PoissonSampledDpEvent(0.1, GAUSSIAN), 1e-3),
        (SeparatedDpEvent(3, 7, 1, near(1e-3)), SeparatedDpEvent(3, 7, 1, GAUSSIAN), 1e-3),
        (
            SampledWithoutReplacementDpEvent(10, 2, SelfComposedDpEvent(near(1e-3), 2)),
            SampledWithoutReplacementDpEvent(10, 2, SelfComposedDpEvent(GAUSSIAN, 2)),
            2e-3,
        ),
    ],
)
def test_the_distance_is_added_up_wherever_it_stands(event, exact, distance):
    found, total = without_near(event)
    assert found == exact
    assert total == pytest.approx(distance)


@pytest.mark.parametrize("distance", [1e-9, 1e-8, 3e-8])
def test_the_least_epsilon_that_delta_covers(distance):
    """Against a fine scan of delta_gauss(eps) + tau (1 + e^eps) <= delta."""
    delta, price = 1e-6, lambda share: gaussian_epsilon(2.0, share)
    found = near_epsilon(price, delta, distance)
    assert price(delta - distance * (1 + math.exp(found))) <= found * (1 + 1e-12)
    candidates = np.linspace(price(delta), found, 400)[:-2]
    left = [delta - distance * (1 + math.exp(candidate)) for candidate in candidates]
    below = [share <= 0 or price(share) > candidate for share, candidate in zip(left, candidates, strict=True)]
    assert all(below)


def test_ten_rounds_set_aside_ten_times_as_much():
    delta, distance = 1e-6, 1e-10
    events = [(near(distance), 10)]
    found = epsilon(events, delta)
    expected = near_epsilon(lambda share: gaussian_epsilon(2.0 / math.sqrt(10), share), delta, 10 * distance)
    assert found == expected > epsilon([(GAUSSIAN, 10)], delta)


@pytest.mark.parametrize("distance", [1e-6, 1e-7, 1.0])
def test_a_delta_that_cannot_cover_the_distance_gives_no_guarantee(distance):
    """With 1e-7 the share 1e-7 (1 + e^eps) passes 1e-6 at eps = 2.20, below the 2.25 of the Gaussian itself."""
    spent = spend([(near(distance), 1)], 1e-6)
    assert spent.epsilon == math.inf
    assert 0 <= spent.epsilon_attack < gaussian_epsilon(2.0, 1e-6)


def test_no_distance_changes_nothing():
    for event in (GAUSSIAN, SampledWithoutReplacementDpEvent(1000, 50, GAUSSIAN)):
        assert spend([(NearDpEvent(event, 0.0), 20)], 1e-6) == spend([(event, 20)], 1e-6)


@pytest.mark.parametrize(
    "wrap", [lambda e: SampledWithoutReplacementDpEvent(1000, 50, e), lambda e: PoissonSampledDpEvent(0.05, e)]
)
def test_sampled_rounds_pass_the_distance_on(wrap):
    exact = spend([(wrap(GAUSSIAN), 20)], 1e-6)
    for negligible in (spend([(wrap(near(1e-20)), 20)], 1e-6), spend([(NearDpEvent(wrap(GAUSSIAN), 1e-20), 20)], 1e-6)):
        assert negligible.epsilon == pytest.approx(exact.epsilon, rel=1e-6)
        assert negligible.epsilon_attack == pytest.approx(exact.epsilon_attack, rel=1e-6)
    far = spend([(wrap(near(5e-9)), 20)], 1e-6)
    assert far.epsilon > exact.epsilon * 1.001
    assert far.epsilon_attack < exact.epsilon_attack


def test_the_attack_stays_below_what_could_be_true():
    """delta + tau (1 + e^eps): near Gaussians may be less revealing than the Gaussian by just that."""
    delta, distance = 1e-6, 1e-8
    proven = near_attack(lambda share: gaussian_epsilon(2.0, share), delta, distance)
    assert proven < gaussian_epsilon(2.0, delta)
    assert gaussian_epsilon(2.0, delta + distance * (1 + math.exp(proven))) >= proven


def test_not_private_stays_so():
    assert spend([(NearDpEvent(NonPrivateDpEvent(), 1e-12), 1)], 1e-6).epsilon == math.inf
