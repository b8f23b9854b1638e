"""The composed bound against closed forms, dp-accounting, exact integration and exact binomials."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from dp_accounting import NeighboringRelation, TruncatedSubsampledGaussianDpEvent
from dp_accounting.pld import PLDAccountant, pld_pmf
from dp_accounting.pld import privacy_loss_mechanism as plm
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom, norm

from fedemb.privacy.attack import attack_epsilon, attack_orders, best_tilts, proven_epsilon
from fedemb.privacy.lattice import Lattice, WindowTooLarge, tail_tilt, tilted_sum
from fedemb.privacy.pairs import FixedSizeRound, PoissonRound
from fedemb.privacy.pld import _solve, certified_epsilon, discretise, loss_reach, loss_reaches, split_once


def fixed(q: float, z: float) -> FixedSizeRound:
    return FixedSizeRound(sampling_rate=q, noise_ratio=z / 2)


def one_round_delta(epsilon: float, q: float, z: float) -> float:
    """q H_{gamma'}(N(0) || N(2/z)) with gamma' = 1 + (e^epsilon - 1) / q."""
    gamma, mu = 1 + (math.exp(epsilon) - 1) / q, 2 / z
    inner = math.log(gamma)
    return q * (norm.cdf(mu / 2 - inner / mu) - gamma * norm.cdf(-mu / 2 - inner / mu))


@pytest.mark.parametrize(
    ("q", "z", "delta"),
    [
        (0.001, 1, 1e-4),
        (0.05, 2, 1e-6),
        (0.5, 8, 1e-9),
        (0.9, 0.7, 1e-5),
        (2.79e-6, 1.92, 2.14e-11),
        (1e-7, 0.5, 1e-10),
    ],
)
def test_one_round_is_the_closed_form(q, z, delta):
    exact = brentq(lambda eps: one_round_delta(eps, q, z) - delta, 0, 100, xtol=1e-12)
    assert certified_epsilon([(fixed(q, z), 1)], delta).epsilon == pytest.approx(exact, rel=1e-3)
    assert certified_epsilon([(fixed(q, z), 1)], delta).epsilon >= exact


@pytest.mark.parametrize(
    ("q", "z", "rounds", "delta", "step"),
    [
        (0.0256, 2.0, 200, 1e-5, 1e-3),
        (0.01, 4.0, 1000, 1e-7, 2e-4),
        (0.2, 6.0, 30, 1e-6, 1e-3),
        (1e-3, 0.8, 50, 1e-6, 1e-3),
    ],
)
def test_equals_the_same_profile_composed_by_dp_accounting(q, z, rounds, delta, step):
    """The dominating profile built and composed with dp-accounting's public parts only."""
    kinds = (plm.AdjacencyType.REMOVE, plm.AdjacencyType.ADD)
    remove, add = (plm.GaussianPrivacyLoss(z / 2, sampling_prob=q, adjacency_type=kind) for kind in kinds)
    low = math.floor(add.connect_dots_bounds().epsilon_lower / step)
    high = math.ceil(remove.connect_dots_bounds().epsilon_upper / step)
    k = np.arange(low, high + 1)
    deltas = np.where(k >= 0, remove.get_delta_for_epsilon(k * step), add.get_delta_for_epsilon(k * step))
    pmf = pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(step, low, high, deltas)
    expected = PrivacyLossDistribution(pmf).self_compose(rounds).get_epsilon_for_delta(delta)
    assert certified_epsilon([(fixed(q, z), rounds)], delta).epsilon == pytest.approx(expected, rel=4e-3)


# q, z, rounds, delta, epsilon: chords of the same profile on 2^16 to 2^19 points, one plain FFT without tilt, window or
# charged errors (an independent script); the last two grids agree to the digits given
RARE_JUMPS = [
    (1e-7, 1.0, 5000, 1e-9, 0.004457),
    (1e-6, 1.0, 1000, 1e-10, 0.13840),
    (1e-5, 1.5, 2000, 1e-9, 0.019809),
    (256e-7, 1.5, 2000, 1e7**-1.1, 0.030321),
    (1e-5, 1.5, 2000, 1e8**-1.1, 0.017715),
]


@pytest.mark.parametrize(("q", "z", "rounds", "delta", "expected"), RARE_JUMPS)
def test_a_rare_huge_loss_costs_no_more_than_it_must(q, z, rounds, delta, expected):
    """One tilt for small and huge losses alike gave 6 % to 580 % more."""
    pair = [(fixed(q, z), rounds)]
    certified = certified_epsilon(pair, delta)
    assert expected * (1 - 2e-4) <= certified.epsilon <= expected * (1 + 2e-3)
    assert attack_epsilon(pair, delta, certified.step) <= certified.epsilon


def test_rare_jumps_of_several_kinds():
    """Split over two almost equal kinds of round; and beside a kind that hardly matters."""
    q, z, rounds, delta, expected = RARE_JUMPS[0]
    halves = [(fixed(q, z), rounds // 2), (fixed(q, z * (1 + 1e-9)), rounds - rounds // 2)]
    assert certified_epsilon(halves, delta).epsilon == pytest.approx(expected, rel=2e-3)
    beside = certified_epsilon([(fixed(q, z), rounds), (fixed(q, 100.0), 10)], delta).epsilon
    assert expected * (1 - 2e-4) <= beside <= expected * (1 + 4e-3)


def test_the_parts_of_a_split_sum_add_up_to_it():
    """By plain convolution of all masses; what is missing is at most the pairs of jumps and the negligible ones."""
    losses = [np.array([0.0, 0.1, 0.6, 0.2, 0.06, 0.04]), np.array([0.1, 0.0, 0.65, 0.22, 0.03, 0.0])]
    with np.errstate(divide="ignore"):
        terms = [(Lattice(log_mass=np.log(mass), first=-2), count) for mass, count in zip(losses, (3, 2), strict=True)]

    def whole(parts) -> np.ndarray:
        total, first = np.ones(1), 0
        for lattice, count in parts:
            for _ in range(count):
                total, first = np.convolve(total, np.exp(lattice.log_mass)), first + lattice.first
        return np.pad(total, (first + 10, 30 - first - len(total)))

    for limit, parts_expected in ((0.4, 3), (0.15, 2), (0.5, 2), (0.0, 1)):
        parts = split_once(terms, limit)
        missing = whole(terms) - np.sum([whole(part) for part in parts], axis=0)
        assert len(parts) == parts_expected
        assert missing.min() >= -1e-15
        assert missing.sum() <= limit**2 + 1e-15


def test_a_sum_lost_in_errors_still_bounds():
    """Errors above delta even at the window's end: the window's end would be no bound, Chernoff's epsilon is."""
    round_, step, log_delta = fixed(0.01, 1.0), 0.05, math.log(1e-6)
    terms = [(discretise(round_, loss_reach([(round_, 10)], 1e-6), step), 10)]
    total = tilted_sum(terms, tail_tilt(terms, log_delta), 1 << 20)
    good, blur = _solve([total], log_delta, step)
    assert blur < 1e-6
    for end in (10, len(total.tilted)):
        short = replace(total, tilted=total.tilted[:end], error=2.0)
        for sums in ([short], [short, short]):
            epsilon, blur = _solve(sums, log_delta, step)
            assert epsilon >= good
            assert blur > 1e-3


@pytest.mark.parametrize(
    ("users", "sampled", "rounds", "z", "delta"), [(10_000, 256, 200, 2.0, 1e-5), (100_000, 1000, 100, 1.0, 1e-6)]
)
def test_is_below_the_truncated_poisson_bound(users, sampled, rounds, z, delta):
    """That event is a valid, looser description of fixed-size sampling."""
    accountant = PLDAccountant(NeighboringRelation.REPLACE_ONE, value_discretization_interval=1e-3)
    accountant.compose(TruncatedSubsampledGaussianDpEvent(users, 1.0, sampled, z), rounds)
    assert certified_epsilon([(fixed(sampled / users, z), rounds)], delta).epsilon <= accountant.get_epsilon(delta)


@given(
    q=st.floats(1e-6, 1.0),
    z=st.floats(0.3, 50.0),
    points=st.integers(1, 300),
    delta=st.sampled_from([1e-3, 1e-6, 1e-12]),
    kind=st.sampled_from([FixedSizeRound, PoissonRound]),
)
@settings(max_examples=80, deadline=None)
def test_a_grid_of_any_size_bounds_the_profile(q, z, points, delta, kind):
    """Would catch chords below the profile, a forgotten mass at infinity, or a lost centre."""
    round_ = kind(sampling_rate=q, noise_ratio=z / 2)
    reach = loss_reach([(round_, 1)], delta)
    step = reach / points
    lattice = discretise(round_, reach, step)
    losses, masses = lattice.values * step, np.exp(lattice.log_mass)
    at_infinity = math.exp(round_.log_delta(np.array([lattice.values[-1] * step]))[0])
    assert masses.sum() + at_infinity == pytest.approx(1, abs=1e-9)
    for epsilon in np.linspace(0, 1.5 * reach, 23):
        above = np.maximum(-np.expm1(np.minimum(epsilon - losses, 0)), 0)
        true = math.exp(round_.log_delta(np.array([epsilon]))[0])
        assert float(masses @ above) + at_infinity >= true * (1 - 1e-9)


@pytest.mark.parametrize("kind", [FixedSizeRound, PoissonRound])
def test_the_discrete_loss_is_its_own_mirror_image(kind):
    """Substitution is symmetric: the second neighbour sees e^-loss times the mass of the first."""
    lattice = discretise(kind(sampling_rate=0.1, noise_ratio=0.7), 8.0, 0.05)
    assert lattice.log_mass[::-1] == pytest.approx(lattice.log_mass - lattice.values * 0.05, rel=1e-9)


@pytest.mark.parametrize("kind", [FixedSizeRound, PoissonRound])
def test_two_rounds_bracket_the_exact_integral(kind):
    """delta(epsilon) of the concrete pair, twice, by integration over the plane."""
    q, mu, delta = 0.2, 1.5, 1e-3
    x, weight = np.linspace(-8, 9.5, 1201, retstep=True)
    present, absent = (mu, 0.0) if kind is FixedSizeRound else (mu / 2, -mu / 2)
    first = (1 - q) * norm.pdf(x) + q * norm.pdf(x, present)
    second = (1 - q) * norm.pdf(x) + q * norm.pdf(x, absent)
    one, other = np.outer(first, first), np.outer(second, second)

    def exact(left: np.ndarray, right: np.ndarray) -> float:
        def excess(epsilon: float) -> float:
            return float(np.maximum(left - np.exp(epsilon) * right, 0).sum()) * weight**2 - delta

        return brentq(excess, 0.1, 10, xtol=1e-6)

    by_order = exact(one, other), exact(other, one)
    rounds = [(kind(sampling_rate=q, noise_ratio=1 / mu), 2)]
    certified = certified_epsilon(rounds, delta)
    orders = attack_orders(rounds, certified.step, loss_reaches(rounds, delta))
    for truth, (first_losses, second_losses) in zip(by_order, orders, strict=True):
        one_tilt, other_tilt = best_tilts(first_losses, second_losses, delta, certified.step)
        tilts = one_tilt * certified.step, other_tilt * certified.step
        found = proven_epsilon(first_losses, second_losses, delta, *tilts)
        assert truth * (1 - 5e-3) <= found <= truth * (1 + 1e-4)
    assert attack_epsilon(rounds, delta, certified.step) == pytest.approx(max(by_order), rel=2e-3)
    assert max(by_order) * (1 - 1e-4) <= certified.epsilon
    if kind is PoissonRound:  # its dominating pair is a concrete one
        assert certified.epsilon == pytest.approx(max(by_order), rel=2e-3)


@given(
    q=st.floats(-8, -1e-3).map(lambda power: 10**power),
    z=st.floats(0.2, 30.0),
    rounds=st.integers(1, 3000),
    log_delta=st.floats(-27, -2),
    kind=st.sampled_from([FixedSizeRound, PoissonRound]),
)
@settings(max_examples=15, deadline=None)
def test_no_attack_beats_the_certificate(q, z, rounds, log_delta, kind):
    """Both ends are proven by separate arguments; a crossing means that one of them is wrong."""
    pair, delta = [(kind(sampling_rate=q, noise_ratio=z / 2), rounds)], math.exp(log_delta)
    certified = certified_epsilon(pair, delta)
    attack = attack_epsilon(pair, delta, certified.step)
    assert attack <= certified.epsilon
    if kind is PoissonRound and certified.epsilon > 1e-3:
        assert attack == pytest.approx(certified.epsilon, rel=5e-3)


@pytest.mark.parametrize("step", [0.3, 0.03, 0.003])
def test_an_attack_on_a_coarse_grid_only_proves_less(step):
    rounds = [(fixed(0.0256, 2.0), 200)]
    assert attack_epsilon(rounds, 1e-5, step) <= 2.3839 + 1e-4


@pytest.mark.parametrize(("count", "chance"), [(50, 0.3), (4000, 0.01)])
def test_tails_of_a_binomial_keep_their_relative_precision(count, chance):
    """Would catch wrap-around and the absolute error of a plain transform, which loses tails of 1e-15."""
    terms = [(Lattice(log_mass=np.log([1 - chance, chance]), first=0), count)]
    for log_tail in (-5.0, -15.0, -34.0):
        total = tilted_sum(terms, tail_tilt(terms, log_tail), 1 << 20)
        value = int(binom.isf(math.exp(log_tail), count, chance))
        values = total.first + np.arange(len(total.tilted))
        weights = np.exp(total.log_scale - total.tilt * values[values > value])
        tail, exact = float(total.tilted[values > value] @ weights), binom.sf(value, count, chance)
        assert tail == pytest.approx(exact, rel=1e-6)
        assert abs(tail - exact) <= total.error * weights.max() * math.exp(total.tilt)


def test_a_window_above_the_limit_is_refused():
    terms = [(Lattice(log_mass=np.log(np.full(1000, 1e-3)), first=0), 10_000)]
    with pytest.raises(WindowTooLarge, match="limit"):
        tilted_sum(terms, 1e-6, 1000)
