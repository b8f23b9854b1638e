"""What an attacker can tell, against the closed form of one Gaussian release."""

from __future__ import annotations

import math

import pytest
from scipy.special import ndtr, ndtri

from fedemb.privacy.gaussian import gaussian_epsilon
from fedemb.privacy.tradeoff import PROBED_DELTAS, attacker_tpr, gaussian_fit


@pytest.mark.parametrize("mu", [0.1, 0.65, 1.0, 3.0, 6.0])
@pytest.mark.parametrize("false_positive_rate", [1e-3, 1e-2])
def test_without_sampling_the_bound_is_the_gaussian_trade_off(mu, false_positive_rate):
    """TPR = Phi(Phi^-1(FPR) + mu) for the best test; would catch either form of the bound, or probes too far apart."""
    pairs = [(gaussian_epsilon(1 / mu, delta), delta) for delta in PROBED_DELTAS]
    best = ndtr(ndtri(false_positive_rate) + mu)
    assert best <= attacker_tpr(pairs, false_positive_rate) <= min(1.05 * best, 1.0)


def test_both_forms_of_the_bound():
    """By hand: e^1 0.01 + 0.02 at a small rate; 1 - e^-1 (1 - 0.02 - 0.9) at a large one; 1 where nothing is known."""
    assert attacker_tpr([(1.0, 0.02)], 0.01) == pytest.approx(math.e * 0.01 + 0.02)
    assert attacker_tpr([(1.0, 0.02)], 0.9) == pytest.approx(1 - 0.08 / math.e)
    assert attacker_tpr([], 0.01) == attacker_tpr([(math.inf, 0.0)], 0.01) == 1.0


@pytest.mark.parametrize("mu", [0.01, 0.5, 2.0, 12.0])
@pytest.mark.parametrize("delta", [1e-9, 1e-5])
def test_the_fit_of_a_gaussian_is_itself(mu, delta):
    assert gaussian_fit(gaussian_epsilon(1 / mu, delta), delta) == pytest.approx(mu, rel=1e-6)


def test_the_fit_at_the_ends():
    assert gaussian_fit(math.inf, 1e-5) == math.inf
    assert 2 * ndtr(gaussian_fit(0.0, 1e-3) / 2) - 1 == pytest.approx(1e-3, rel=1e-6)  # total variation = delta
