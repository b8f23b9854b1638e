"""Banded Toeplitz noise against dense linear algebra, and the optimum against searches of its own."""

import math

import numpy as np
import pytest
from matrices import dense, prefix_errors, streamed
from scipy import stats

from fedemb.privacy.banded import BandedToeplitz, _log_error, squared_errors
from fedemb.privacy.strategy import Tree

SOME = [(1.0,), (2.0, 1.0), (4.0, 2.0, 2.0), (1.0, 0.9, 0.5, 0.25, 0.1)]


def mean_error(coefficients, rounds):
    return prefix_errors(BandedToeplitz.of(coefficients), rounds).mean()


@pytest.mark.parametrize("coefficients", SOME)
@pytest.mark.parametrize("rounds", [1, 3, 8])
def test_streamed_noise_is_the_inverse_of_the_matrix(coefficients, rounds):
    """For given Z, and for each unit vector as Z: the latter are the columns of C^-1."""
    strategy = BandedToeplitz.of(coefficients)
    matrix, z = dense(strategy, rounds), np.random.default_rng(0).standard_normal((rounds, 3))
    np.testing.assert_allclose(matrix @ streamed(strategy, z)[0], z, atol=1e-12)
    np.testing.assert_allclose(streamed(strategy, np.eye(rounds))[0], np.linalg.inv(matrix), atol=1e-12)


def test_by_hand():
    """c = (0.8, 0.6), z = 1, 0, 1: w = 1.25, -0.9375, 1.25 + 0.703125."""
    noise, _ = streamed(BandedToeplitz(coefficients=(0.8, 0.6)), np.array([[1.0], [0.0], [1.0]]))
    assert noise[:, 0].tolist() == pytest.approx([1.25, -0.9375, 1.953125])


@pytest.mark.parametrize("coefficients", SOME)
def test_columns_are_of_norm_one_and_as_wide_as_the_band(coefficients):
    strategy, rounds = BandedToeplitz.of(coefficients), 8
    matrix, band = dense(strategy, rounds), len(coefficients)
    norms = np.linalg.norm(matrix, axis=0)
    assert norms[: rounds - band + 1] == pytest.approx(1)
    assert (norms <= 1 + 1e-12).all()
    assert strategy.span == band
    assert strategy.shortest == 1
    assert np.array_equal(matrix, np.tril(np.triu(matrix, -band + 1)))


@pytest.mark.parametrize("coefficients", SOME)
def test_errors_of_prefix_sums(coefficients):
    strategy = BandedToeplitz.of(coefficients)
    closed = squared_errors(np.array(strategy.coefficients), 8)
    np.testing.assert_allclose(closed, prefix_errors(strategy, 8), rtol=1e-12)


def test_resumes_in_the_middle_with_a_state_as_long_as_the_band():
    strategy, z = BandedToeplitz.of(SOME[-1]), np.random.default_rng(0).standard_normal((40, 2))
    whole, _ = streamed(strategy, z)
    for middle in (1, 3, 4, 20, 39):
        _, state = streamed(strategy, z[:middle])
        assert len(state) == strategy.span - 1
        kept = {slot: {name: value.clone() for name, value in values.items()} for slot, values in state.items()}
        for _ in range(2):  # using a state does not change it
            np.testing.assert_array_equal(streamed(strategy, z[middle:], state)[0], whole[middle:])
        assert all(kept[slot]["a"].equal(state[slot]["a"]) for slot in kept)


@pytest.mark.parametrize(("rounds", "band"), [(4, 2), (30, 2), (8, 3)])
def test_the_optimum_is_that_of_a_search_over_a_grid(rounds, band):
    """Every falling sequence on a grid is worse, some by less than 1e-4."""
    best = mean_error(BandedToeplitz.optimal(rounds=rounds, band=band).coefficients, rounds)
    ratios = np.linspace(0, 1, 101)
    if band == 2:
        grid = [mean_error((1.0, ratio), rounds) for ratio in ratios]
    else:
        grid = [mean_error((1.0, one, two), rounds) for one in ratios[30:80] for two in ratios[:60] if two <= one]
    assert min(grid) * (1 - 1e-4) <= best <= min(grid) * (1 + 1e-12)


@pytest.mark.parametrize(("rounds", "band"), [(1, 1), (2, 16), (7, 7), (100, 100), (1000, 2), (1000, 16), (10_000, 3)])
def test_the_optimum_is_stationary_and_falls(rounds, band):
    """No small change of a coefficient helps; a band beyond the last round is cut."""
    strategy = BandedToeplitz.optimal(rounds=rounds, band=band)
    coefficients = np.array(strategy.coefficients)
    assert strategy.span == min(band, rounds)
    assert (np.diff(coefficients) <= 0).all()
    assert np.abs(_log_error(coefficients, rounds, math.inf)[1]).max() < 1e-5
    root = [math.comb(2 * k, k) / 4**k for k in range(strategy.span)]
    started = squared_errors(np.array(BandedToeplitz.of(root).coefficients), rounds).mean()
    assert squared_errors(coefficients, rounds).mean() <= started * (1 + 1e-12)


def test_the_gradient_is_that_of_the_error():
    coefficients, step = np.array([1.3, 0.8, 0.5, 0.2]), 1e-6
    _, gradient = _log_error(coefficients, 20, math.inf)
    for lag, slope in enumerate(gradient):
        up, down = (_log_error(coefficients + sign * step * np.eye(4)[lag], 20, math.inf)[0] for sign in (1, -1))
        assert slope == pytest.approx((up - down) / (2 * step), rel=1e-6)
    doubled = BandedToeplitz.of(coefficients)
    assert math.exp(_log_error(coefficients, 20, math.inf)[0]) == pytest.approx(prefix_errors(doubled, 20).mean())


def test_the_optimum_is_the_same_every_time():
    assert BandedToeplitz.optimal(rounds=200, band=16) == BandedToeplitz.optimal(rounds=200, band=16)


@pytest.mark.parametrize(
    ("times", "independent", "tree", "banded"),
    [(1, 22.37, 7.03, 3.05), (4, 44.74, 20.36, 6.43), (10, 70.75, 34.18, 11.57), (50, 158.2, 113.0, 40.8)],
)
def test_banded_noise_beats_the_tree_and_independent_noise(times, independent, tree, banded):
    """The table of the module: root mean square errors of 1000 prefix sums, k participations 1000 / k apart."""
    rounds, apart = 1000, 1000 // times
    errors = {
        independent: np.arange(1, rounds + 1),
        tree: prefix_errors(Tree(rounds_per_tree=apart), rounds),
        banded: prefix_errors(BandedToeplitz.optimal(rounds=rounds, band=apart), rounds),
    }
    for expected, variances in errors.items():
        assert math.sqrt(times * variances.mean()) == pytest.approx(expected, rel=2e-3)


def test_the_noise_of_long_runs_stays_bounded():
    """At T = 20000 the streamed noise of the last rounds still has the variance that the closed form says."""
    rounds, size = 20_000, 400
    strategy = BandedToeplitz.optimal(rounds=rounds, band=4)
    noise, _ = streamed(strategy, np.random.default_rng(0).standard_normal((rounds, size)))
    variance = squared_errors(np.array(strategy.coefficients), rounds)[-1]
    low, high = (stats.chi2(size).ppf(p) / size for p in (5e-7, 1 - 5e-7))
    assert low < (noise.sum(0) ** 2).mean() / variance < high


@pytest.mark.parametrize(
    ("coefficients", "words"),
    [
        ((), "must be given"),
        ((0.6, 0.8), "must not rise"),
        ((0.8, -0.6), "0 or above"),
        ((0.8, 0.5), "add up to 1"),
        ((math.nan,), "finite"),
    ],
)
def test_unusable_coefficients_are_refused(coefficients, words):
    with pytest.raises(ValueError, match=words):
        BandedToeplitz(coefficients=coefficients)


def test_unusable_settings_are_refused():
    with pytest.raises(ValueError, match="norm of the coefficients"):
        BandedToeplitz.of([0.0, 0.0])
    for settings in ({"rounds": 0, "band": 1}, {"rounds": 5, "band": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            BandedToeplitz.optimal(**settings)
