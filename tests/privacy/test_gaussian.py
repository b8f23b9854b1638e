"""The closed form against its defining equation and known values."""

from __future__ import annotations

import math

import pytest
from scipy.stats import norm

from fedemb.privacy.gaussian import gaussian_epsilon


@pytest.mark.parametrize("noise_ratio", [0.05, 0.5, 1.0, 7.0, 300.0])
@pytest.mark.parametrize("delta", [1e-12, 1e-6, 1e-3])
def test_solves_the_equation_of_balle_and_wang(noise_ratio, delta):
    """delta = Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu); would catch a wrong sign or a halved mu."""
    epsilon, mu = gaussian_epsilon(noise_ratio, delta), 1 / noise_ratio
    second = math.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu))
    assert norm.cdf(mu / 2 - epsilon / mu) - second == pytest.approx(delta, rel=1e-5)


@pytest.mark.parametrize(("noise_ratio", "delta", "expected"), [(1.0, 1e-6, 4.8866), (0.5, 1e-6, 10.9972)])
def test_known_values(noise_ratio, delta, expected):
    assert gaussian_epsilon(noise_ratio, delta) == pytest.approx(expected, abs=1e-4)


def test_the_limits():
    assert gaussian_epsilon(0.0, 1e-5) == math.inf
    assert gaussian_epsilon(math.inf, 1e-5) == 0
    assert gaussian_epsilon(1e5, 1e-3) == 0
