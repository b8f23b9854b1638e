"""Profiles of single rounds against numerical integration of the mixtures that they claim to bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from fedemb.privacy.pairs import FixedSizeRound, PoissonRound

EPSILONS = np.array([0.0, 0.01, 0.1, 0.5, 1.0, 2.0])
GRID, WEIGHT = np.linspace(-14, 14, 6001, retstep=True)
PLANE, PLANE_WEIGHT = np.linspace(-9, 9, 361, retstep=True)


def hockey_stick(first: np.ndarray, second: np.ndarray, weight: float, epsilon: float) -> float:
    """Integral of max(P - e^epsilon Q, 0) from densities on a grid."""
    return float(np.maximum(first - np.exp(epsilon) * second, 0).sum() * weight)


def mixture(q: float, absent: float, present: float) -> np.ndarray:
    return (1 - q) * norm.pdf(GRID, absent) + q * norm.pdf(GRID, present)


def both_orders(first: np.ndarray, second: np.ndarray, weight: float) -> np.ndarray:
    pairs = ((first, second), (second, first))
    return np.array([[hockey_stick(p, r, weight, eps) for eps in EPSILONS] for p, r in pairs]).max(axis=0)


@given(
    q=st.floats(0.001, 1.0),
    diameter=st.floats(0.1, 4.0),
    places=st.tuples(*[st.floats(-0.5, 0.5) for _ in range(3)]),
)
@settings(max_examples=60, deadline=None)
def test_fixed_size_profile_bounds_every_triple_on_a_line(q, diameter, places):
    """Would catch an update that is allowed to move further than the sensitivity says, or a lost order."""
    old, new, other = (diameter * place for place in places)
    exact = both_orders(mixture(q, other, old), mixture(q, other, new), WEIGHT)
    bound = np.exp(FixedSizeRound(sampling_rate=q, noise_ratio=1 / diameter).log_delta(EPSILONS))
    assert (exact <= bound + 1e-9).all()


@given(
    q=st.floats(0.01, 1.0),
    angles=st.tuples(*[st.floats(0, 2 * np.pi) for _ in range(3)]),
    radii=st.tuples(*[st.floats(0, 1) for _ in range(3)]),
    diameter=st.floats(0.3, 3.0),
)
@settings(max_examples=15, deadline=None)
def test_fixed_size_profile_bounds_triples_in_the_plane(q, angles, radii, diameter):
    """Would catch a bound that holds only where the three updates are on one line."""
    x, y = np.meshgrid(PLANE, PLANE, indexing="ij")

    def density(index: int) -> np.ndarray:
        radius = radii[index] * diameter / 2
        centre = radius * np.cos(angles[index]), radius * np.sin(angles[index])
        return norm.pdf(x, centre[0]) * norm.pdf(y, centre[1])

    old, new, other = density(0), density(1), density(2)
    exact = both_orders((1 - q) * other + q * old, (1 - q) * other + q * new, PLANE_WEIGHT**2)
    bound = np.exp(FixedSizeRound(sampling_rate=q, noise_ratio=1 / diameter).log_delta(EPSILONS))
    assert (exact <= bound + 1e-7).all()


@pytest.mark.parametrize("q", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("diameter", [0.5, 2.0])
def test_fixed_size_profile_is_attained(q, diameter):
    """Would catch a loose bound, e.g. sensitivity 4C."""
    exact = both_orders(mixture(q, 0.0, diameter), mixture(q, 0.0, 0.0), WEIGHT)
    bound = np.exp(FixedSizeRound(sampling_rate=q, noise_ratio=1 / diameter).log_delta(EPSILONS))
    assert bound == pytest.approx(exact, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("q", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("diameter", [0.5, 2.0])
def test_poisson_profile_is_attained_and_bounds_smaller_updates(q, diameter):
    """Would catch an empty slot that is confused with the opposite update."""
    bound = np.exp(PoissonRound(sampling_rate=q, noise_ratio=1 / diameter).log_delta(EPSILONS))
    worst = both_orders(mixture(q, 0.0, diameter / 2), mixture(q, 0.0, -diameter / 2), WEIGHT)
    assert bound == pytest.approx(worst, rel=1e-3, abs=1e-9)
    for old, new in ((1.0, 0.0), (1.0, 1.0), (0.6, -0.9), (-0.2, 0.7)):
        exact = both_orders(mixture(q, 0.0, old * diameter / 2), mixture(q, 0.0, new * diameter / 2), WEIGHT)
        assert (exact <= bound + 1e-9).all()


@pytest.mark.parametrize("kind", [FixedSizeRound, PoissonRound])
@pytest.mark.parametrize(("q", "ratio"), [(0.01, 0.3), (0.5, 1.0), (1.0, 2.0)])
def test_attack_masses_are_the_concrete_pair(kind, q, ratio):
    """Would catch a bucket edge on the wrong side or a swapped pair."""
    edges = np.linspace(-1.5, 3.0, 40)
    present, absent = (1 / ratio, 0.0) if kind is FixedSizeRound else (0.5 / ratio, -0.5 / ratio)
    first = mixture(q, 0.0, present)
    second = mixture(q, 0.0, absent)
    bucket = np.searchsorted(edges, np.log(first / second))
    logs = kind(sampling_rate=q, noise_ratio=ratio).attack_log_masses(edges)
    for density, log_masses in zip((first, second), logs, strict=True):
        exact = np.bincount(bucket, weights=density * WEIGHT, minlength=len(edges) + 1)
        assert np.exp(log_masses) == pytest.approx(exact, abs=4e-3)
        assert np.exp(log_masses).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("field", [{"sampling_rate": 0.0}, {"sampling_rate": 1.1}, {"noise_ratio": -1.0}])
def test_impossible_rounds_are_refused(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        FixedSizeRound(**{"sampling_rate": 0.1, "noise_ratio": 1.0, **field})
