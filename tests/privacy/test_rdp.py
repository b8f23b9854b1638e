"""Renyi curves against closed forms, numerical integration and the certified epsilon."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from fedemb.privacy.accounting import dominating_rounds, epsilon
from fedemb.privacy.event_types import NearDpEvent
from fedemb.privacy.events import fixed_size_round, poisson_round
from fedemb.privacy.pairs import FixedSizeRound, PoissonRound
from fedemb.privacy.rdp import ORDERS, epsilon_from_curve, integral_divergence, renyi_curve

ALPHAS = np.array([1.05, 1.5, 2.0, 3.0, 8.0, 32.0, 128.0])


@pytest.mark.parametrize("ratio", [0.3, 1.0, 5.0, 40.0])
@pytest.mark.parametrize("kind", [FixedSizeRound, PoissonRound])
def test_without_sampling_the_integral_is_the_gaussian_curve(kind, ratio):
    """alpha / (2 s^2), from above; would catch a missing term of either order, or a tail left out."""
    closed = ALPHAS / (2 * ratio**2)
    found = integral_divergence(kind(sampling_rate=1.0, noise_ratio=ratio), ALPHAS)
    assert (found >= closed).all()
    assert found == pytest.approx(closed, rel=3e-3)


def divergence(first: np.ndarray, second: np.ndarray, step: float, order: float) -> float:
    return math.log((np.exp(order * first - (order - 1) * second)).sum() * step) / (order - 1)


@pytest.mark.parametrize(("q", "s"), [(0.01, 0.5), (0.0256, 1.0), (0.2, 0.7), (0.6, 3.0)])
@pytest.mark.parametrize("kind", [FixedSizeRound, PoissonRound])
def test_sampled_rounds_bound_both_orders_of_the_pair(kind, q, s):
    mu = 1 / s
    x, step = np.linspace(-30 - 40 * mu, 30 + 40 * mu, 400_001, retstep=True)
    away = 0.0 if kind is FixedSizeRound else -mu / 2
    background, near = norm.logpdf(x), norm.logpdf(x, mu + away)
    first = np.logaddexp(math.log1p(-q) + background, math.log(q) + near)
    second = np.logaddexp(math.log1p(-q) + background, math.log(q) + norm.logpdf(x, away))
    for order in (1.5, 2.0, 4.0, 16.0):
        exact = max(divergence(first, second, step, order), divergence(second, first, step, order))
        [found] = integral_divergence(kind(sampling_rate=q, noise_ratio=s), np.array([order]))
        assert found >= exact * (1 - 1e-7)
        if kind is PoissonRound:  # its profile is that of this pair
            assert found == pytest.approx(exact, rel=3e-3)
        else:  # that of both orders at once: at most what they sum to
            both = divergence(first, second, step, order) + divergence(second, first, step, order)
            assert found <= both * (1 + 3e-3)


@pytest.mark.parametrize(
    ("users", "sampled", "rounds", "z", "delta"),
    [(10_000, 256, 200, 2.0, 1e-5), (1_000_000, 10_000, 1000, 4.0, 1e-7), (10_000, 10_000, 50, 20.0, 1e-5)],
)
def test_a_curve_costs_more_than_the_certified_epsilon_and_less_than_the_usual_one(users, sampled, rounds, z, delta):
    """Would catch a curve that is no bound; dp-accounting's 4.4337, 1.7969 and 3.1890 are of a looser analysis."""
    events = [(fixed_size_round(users=users, users_per_round=sampled, noise_multiplier=z), rounds)]
    found = epsilon_from_curve(ORDERS, renyi_curve(dominating_rounds(events, delta)), delta)
    usual = {200: 4.4337, 1000: 1.7969, 50: 3.1890}[rounds]
    assert epsilon(events, delta) <= found <= usual * 1.005


def test_curves_add_up():
    one = [(fixed_size_round(users=1000, users_per_round=50, noise_multiplier=2.0), 3)]
    two = [(poisson_round(sampling_rate=0.1, noise_multiplier=3.0), 5)]
    together = renyi_curve(dominating_rounds([*one, *two], 1e-5))
    apart = renyi_curve(dominating_rounds(one, 1e-5)) + renyi_curve(dominating_rounds(two, 1e-5))
    assert together == pytest.approx(apart, rel=1e-12)
    assert renyi_curve([]).tolist() == [0.0] * len(ORDERS)


def test_rounds_without_a_curve():
    silent = fixed_size_round(users=1000, users_per_round=50, noise_multiplier=0.0)
    assert np.isinf(renyi_curve(dominating_rounds([(silent, 1)], 1e-5))).all()
    near = NearDpEvent(fixed_size_round(users=1000, users_per_round=50, noise_multiplier=1.0), 1e-12)
    with pytest.raises(ValueError, match="only near to a Gaussian"):
        dominating_rounds([(near, 1)], 1e-5)
    with pytest.raises(ValueError, match="above 1"):
        renyi_curve([], [1.0])
