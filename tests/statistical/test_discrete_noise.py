"""The discrete Gaussian as a distribution, with fixed seeds and alpha = 1e-6 a check.

Small scales are compared with the exact probabilities cell by cell, large ones with the normal law and bit by bit.
"""

import numpy as np
import pytest
import torch
from distribution import ALPHA, DRAWS, is_normal, right_scale, uncorrelated
from scipy import stats

from fedemb.core.rng import SecretNoise, SeededNoise, generator
from fedemb.privacy.discrete import DiscreteGaussian
from fedemb.privacy.discrete_gaussian import sample

MANY = 400_000
LARGE = 2**36


def seeded(round):
    return SeededNoise(generator(11, "noise", round))


def secret(round):
    return SecretNoise()


def cells(sigma):
    """Integers whose expected number in MANY draws is above 10; one more cell takes the rest."""
    reach = np.arange(-40 * sigma, 40 * sigma + 1)
    weight = np.exp(-(reach**2) / (2 * sigma**2))
    chance = weight / weight.sum()
    kept = chance * MANY > 10
    return reach[kept], np.append(chance[kept], 1 - chance[kept].sum())


def chi_square(draws, sigma):
    """The statistic and its degrees of freedom."""
    reach, chance = cells(sigma)
    assert draws.size == MANY
    inside = draws[(draws >= reach[0]) & (draws <= reach[-1])]
    counts = np.append(np.bincount(inside - reach[0], minlength=reach.size), MANY - inside.size)
    return ((counts - MANY * chance) ** 2 / (MANY * chance)).sum(), reach.size


def fits(draws, sigma):
    statistic, freedom = chi_square(draws, sigma)
    return bool(stats.chi2.sf(statistic, freedom) > ALPHA)


@pytest.mark.parametrize("sigma", [1, 2, 3, 4, 16])
def test_probabilities_at_small_scales(sigma):
    assert fits(sample(sigma, MANY, SeededNoise(generator(sigma, "law"))), sigma)


def power(other, sigma):
    """Of the chi-square test against probabilities `other` of the same cells (noncentral chi-square)."""
    _, chance = cells(sigma)
    threshold = stats.chi2.isf(ALPHA, chance.size - 1)
    return stats.ncx2.sf(threshold, chance.size - 1, MANY * ((other - chance) ** 2 / chance).sum())


def rounded(std, sigma):
    """Probabilities of round(N(0, std^2)) in the cells of the discrete Gaussian."""
    reach, _ = cells(sigma)
    chance = np.diff(stats.norm.cdf(np.append(reach - 0.5, reach[-1] + 0.5), scale=std))
    return np.append(chance, 1 - chance.sum())


def test_stated_power():
    """Even the rounded Gaussian is told from the discrete one at scale 1, and a scale that is off by 2 % anywhere."""
    assert power(rounded(1.0, 1), 1) > 0.999
    assert power(rounded(1.02 * 16, 16), 16) > 0.999
    assert power(rounded(0.98 * 16, 16), 16) > 0.999


@pytest.mark.parametrize(("std", "sigma"), [(1.0, 1), (1.02 * 16, 16), (0.98 * 16, 16)])
def test_others_are_rejected(std, sigma):
    rng = np.random.default_rng(0)
    assert not fits(np.rint(rng.normal(0, std, MANY)).astype(np.int64), sigma)


def test_two_signs_of_zero_would_be_rejected():
    draws = sample(4, MANY, SeededNoise(generator(4, "law")))
    zeros = np.random.default_rng(0).choice(MANY, int((draws == 0).sum()) // 10, replace=False)
    assert not fits(np.where(np.isin(np.arange(MANY), zeros), 0, draws), 4)  # a tenth more zeros


@pytest.mark.parametrize("noise", [seeded, secret])
@pytest.mark.parametrize("sigma", [LARGE, LARGE + 12345])
def test_large_scales_are_normal(noise, sigma):
    source = noise(0)
    draws = sample(sigma, DRAWS, source)
    assert is_normal(draws, sigma)
    assert uncorrelated(draws[1:], draws[:-1])
    assert uncorrelated(np.abs(draws[1:]), np.abs(draws[:-1]))
    assert uncorrelated(draws > 0, np.abs(draws))
    assert not right_scale(sample(sigma * 49 // 50, DRAWS, source), sigma)


def test_tails_at_a_large_scale():
    """Of 1e6 draws, 63.3 are expected beyond 4 sigma (sd 8) and 0.57 beyond 5."""
    draws = np.abs(sample(LARGE, 1_000_000, SeededNoise(generator(9, "tails"))))
    assert 24 <= (draws > 4 * LARGE).sum() <= 107
    assert (draws > 5 * LARGE).sum() <= 9
    assert abs((draws > 2 * LARGE).mean() / 0.0455003 - 1) < 0.023  # 4.9 sd


@pytest.mark.parametrize("sigma", [LARGE, 2**56])
def test_the_lowest_bits_are_fair(sigma):
    """Anything rounded to 53 bits on its way would leave the last bits of a number near 2^56 empty."""
    draws = sample(sigma, DRAWS, SeededNoise(generator(10, "bits")))
    assert stats.chisquare(np.bincount(draws & 15, minlength=16)).pvalue > ALPHA


@pytest.mark.parametrize("noise", [seeded, secret])
def test_released_noise_is_normal_and_fresh(noise):
    """Across names, rounds and neighbouring entries."""
    value = {"a": torch.full((DRAWS,), 7), "b": torch.full((DRAWS // 50, 50), -3)}
    mechanism = DiscreteGaussian(std=float(LARGE), entries=2 * DRAWS)
    draws = []
    for round in range(2):
        noisy, _ = mechanism.release(value, {}, noise(round))
        draws += [(noisy[name] - value[name]).flatten().numpy() for name in value]
    assert all(is_normal(draw, LARGE) for draw in draws)
    for i, left in enumerate(draws):
        assert uncorrelated(left[1:], left[:-1])
        for right in draws[:i]:
            assert uncorrelated(left, right)
            assert uncorrelated(np.abs(left), np.abs(right))
