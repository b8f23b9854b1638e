"""Bounds and estimates from scores and guesses, against published values, closed forms and simulated attacks."""

import math

import numpy as np
import pytest
from scipy import stats

from fedemb.privacy.audit import (
    GaussianFit,
    noise_ratio_of,
    one_run_lower_bound,
    one_run_p_value,
    one_shot_epsilon,
    paired_one_shot_epsilon,
    two_gaussians_epsilon,
)
from fedemb.privacy.gaussian import gaussian_epsilon

DELTA = 1e-5


def simulated(canaries, rounds, z, seed):
    """Scores of canaries over the sum of `rounds` releases, in clip norms, times the coin."""
    noise = np.random.default_rng(seed).normal(size=(rounds, canaries)).sum(0)
    return (rounds + z * noise) / math.sqrt(rounds)


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "epsilon", "delta", "expected"),
    [(1000, 100, 80, 1.0, 1e-5, 0.0730091), (1000, 1000, 600, 0.2, 1e-5, 0.00102324)],
)
def test_one_run_p_values(canaries, guesses, correct, epsilon, delta, expected):
    found = one_run_p_value(canaries=canaries, guesses=guesses, correct=correct, epsilon=epsilon, delta=delta)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "delta", "expected"),
    [
        (1000, 100, 100, 1e-5, 3.4654),
        (1000, 100, 90, 1e-5, 1.6261),
        (10_000, 1000, 700, 1e-6, 0.7317),
        (1000, 200, 200, 1e-5, 4.17),
    ],
)
def test_one_run_lower_bounds(canaries, guesses, correct, delta, expected):
    found = one_run_lower_bound(canaries=canaries, guesses=guesses, correct=correct, delta=delta)
    assert found == pytest.approx(expected, abs=0.005 if expected == 4.17 else 5e-5)


def test_guesses_at_random_prove_nothing():
    assert one_run_lower_bound(canaries=1000, guesses=100, correct=50, delta=DELTA) == 0


def test_a_randomised_response_is_bounded_in_closed_form():
    """At delta = 0 the p-value is a binomial tail: all of r right with e^eps / (1 + e^eps) to the power r."""
    bound = one_run_lower_bound(canaries=50, guesses=50, correct=50, delta=0.0)
    right = 0.05 ** (1 / 50)
    assert bound == pytest.approx(math.log(right / (1 - right)), rel=1e-6)


def test_more_canaries_left_out_cost_confidence():
    """2 m delta, not 2 r delta: the canaries that are not guessed count."""
    few, many = (
        one_run_lower_bound(canaries=canaries, guesses=100, correct=100, delta=1e-4) for canaries in (100, 1000)
    )
    assert many < few - 0.1


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"guesses": 0}, "guesses must be an integer of at least 1"),
        ({"guesses": 11}, "canaries must be an integer of at least 11"),
        ({"correct": -1}, "correct"),
    ],
)
def test_impossible_counts(keys, words):
    with pytest.raises(ValueError, match=words):
        one_run_lower_bound(**{"canaries": 10, "guesses": 5, "correct": 5, "delta": DELTA, **keys})


@pytest.mark.parametrize(("rounds", "z"), [(1, 1.0), (4, 1.0), (1, 4.0)])
def test_a_fit_finds_the_epsilon_of_a_gaussian_mechanism(rounds, z):
    """Theory: s = z / (2 sqrt(T)); at z = 1, T = 1 that is 10.00, where a claim of C for 2C says 4.38."""
    truth = gaussian_epsilon(z / (2 * math.sqrt(rounds)), DELTA)
    fit = GaussianFit.of(simulated(1000, rounds, z, seed=1), np.full(1000, math.sqrt(rounds)))
    low, high = fit.interval(DELTA)
    assert low < truth < high
    assert fit.epsilon(DELTA) == pytest.approx(truth, rel=0.12 * z)  # the signal is known to z / sqrt(1000)
    assert fit.noise == pytest.approx(z, rel=0.08)


def test_a_fit_refutes_the_convention_of_the_sensitivity_c():
    fit = GaussianFit.of(simulated(1000, 1, 1.0, seed=1), np.ones(1000))
    assert fit.interval(DELTA)[0] > gaussian_epsilon(1.0, DELTA)
    assert fit.p_value(1.0) < 1e-6 < 0.05 < fit.p_value(0.5)


def test_little_noise_shows_whatever_the_signal():
    """At z = 20 a thousand canaries hardly show a signal, but half of the noise does."""
    fit = GaussianFit.of(simulated(1000, 1, 10.0, seed=5), np.ones(1000))
    assert fit.p_value(10.0) > 1e-3
    assert fit.noise_p_value(10.0) < 1e-9
    assert fit.noise_p_value(5.0) > 0.01


def test_reference_values_of_the_theory():
    assert gaussian_epsilon(0.5, DELTA) == pytest.approx(10.00, abs=0.005)
    assert gaussian_epsilon(1.0, DELTA) == pytest.approx(4.38, abs=0.005)


def test_intervals_and_p_values_hold_as_often_as_they_say():
    """Few canaries, where a normal approximation would be off: 1000 attacks on the same mechanism."""
    truth, trials = gaussian_epsilon(0.5, DELTA), 1000
    scores = 1 + np.random.default_rng(2).normal(size=(trials, 12))
    fits = [GaussianFit.of(row, np.ones(12)) for row in scores]
    p_values = np.array([fit.p_value(0.5) for fit in fits])
    clip = np.array([fit.clip_p_value() for fit in fits])
    noise = np.array([fit.noise_p_value(0.5) for fit in fits])
    for found in (p_values, clip, noise):
        assert stats.kstest(found, "uniform").pvalue > 1e-4
    inside = sum(low < truth < high for low, high in (fit.interval(DELTA) for fit in fits[:400]))
    assert 0.95 * 400 - 4.5 * 4.4 < inside < 0.95 * 400 + 4.5 * 4.4


def test_weights_of_canaries_count():
    """Half of the canaries take part in four rounds: they stand out twice as much, and the claim is about them."""
    weights = np.repeat([1.0, 2.0], 500)
    scores = weights + np.random.default_rng(3).normal(size=1000)
    fit = GaussianFit.of(scores, weights)
    assert fit.signal == pytest.approx(1, abs=0.1)
    assert fit.epsilon(DELTA) == pytest.approx(gaussian_epsilon(0.25, DELTA), rel=0.12)


def test_scores_without_noise_are_an_enormous_epsilon():
    fit = GaussianFit.of(np.ones(20), np.ones(20))
    assert fit.epsilon(DELTA) > 1e9
    assert fit.p_value(0.5) < 1e-9


def test_scores_that_say_nothing_are_epsilon_zero():
    assert GaussianFit.of(np.array([1.0, -2.0, 0.5]), np.ones(3)).epsilon(DELTA) == 0


@pytest.mark.parametrize("ratio", [0.0045, 0.5, 3.0])
def test_the_noise_ratio_of_an_epsilon_is_the_inverse(ratio):
    assert noise_ratio_of(gaussian_epsilon(ratio, DELTA), DELTA) == pytest.approx(ratio, rel=1e-6)


@pytest.mark.parametrize(
    ("first", "second"), [((-1, 1), (1, 1)), ((0, 1), (1, 2)), ((0, 2), (1, 1)), ((0, 1), (0, 3)), ((0, 0.5), (1, 0.6))]
)
def test_two_gaussians_against_integration(first, second):
    """delta(epsilon) by summing max(p - e^eps q, 0) on a grid."""
    epsilon = two_gaussians_epsilon(first, second, 1e-3)
    grid = np.linspace(-40, 40, 400_001)
    p, q = (stats.norm.pdf(grid, *normal) for normal in (first, second))
    deltas = [np.maximum(a - math.exp(epsilon) * b, 0).sum() * (grid[1] - grid[0]) for a, b in ((p, q), (q, p))]
    assert max(deltas) == pytest.approx(1e-3, rel=1e-3)


def test_equal_gaussians_are_a_gaussian_mechanism():
    assert two_gaussians_epsilon((-1, 1), (1, 1), DELTA) == pytest.approx(gaussian_epsilon(0.5, DELTA), rel=1e-6)
    assert two_gaussians_epsilon((1, 1), (1, 1), DELTA) == 0


def test_one_shot_estimates():
    """Cosines of canaries that are in: N(mu, 1/d); out: N(0, 1/d). In closed form a Gaussian mechanism of s = 1/mu'."""
    dimension, canaries = 10_000, 2000
    cosines = 0.02 + np.random.default_rng(4).normal(size=canaries) / math.sqrt(dimension)
    assert one_shot_epsilon(cosines, dimension, DELTA) == pytest.approx(gaussian_epsilon(0.5, DELTA), rel=0.1)
    assert paired_one_shot_epsilon(cosines, DELTA) == pytest.approx(gaussian_epsilon(0.25, DELTA), rel=0.1)
