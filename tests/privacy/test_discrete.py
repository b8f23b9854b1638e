"""Whole-number sums and noise: the norm bound in exact arithmetic, the distance to rounded noise by summation."""

import math
from fractions import Fraction
from functools import reduce

import numpy as np
import pytest
import torch
from dp_accounting import GaussianDpEvent
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.func import vmap

from fedemb.core.params import flatten
from fedemb.core.rng import SecretNoise, SeededNoise, generator
from fedemb.privacy.discrete import DiscreteGaussian, GridClipping
from fedemb.privacy.event_types import NearDpEvent

EXTREME = [0.0, -0.0, 5e-324, -1e-310, 1e-45, 1e-30, 3.4e38, -3.4e38, 1e200, 1.7e308, math.nan, math.inf, -math.inf]
ENTRIES = st.one_of(st.floats(), st.floats(-10, 10), st.sampled_from(EXTREME))
CLIPPING = GridClipping.from_multiplier(clip_norm=0.37, noise_multiplier=0.62, bits=36)


def squares(whole):
    """||v||^2, in Python's own integers."""
    assert all(value.dtype == torch.int64 for value in whole.values())
    return sum(entry * entry for entry in flatten(whole).tolist())


def within_bound(whole, clipping):
    """||v|| <= C / g with the exact quotient of the two floats."""
    return squares(whole) <= (Fraction(clipping.clip_norm) / Fraction(clipping.grid)) ** 2


@given(st.lists(ENTRIES, min_size=1, max_size=40), st.floats(1e-6, 1e6), st.floats(0, 59), st.integers(0, 39))
def test_norm_never_exceeds_the_bound(entries, clip_norm, log_steps, cut):
    clipping = GridClipping(clip_norm=clip_norm, grid=clip_norm / (4 * 2**log_steps))
    values = torch.tensor(entries, dtype=torch.float64)
    whole, told = clipping({"a": values[:cut], "b": values[cut:].reshape(-1, 1)})
    assert [tuple(whole[name].shape) for name in ("a", "b")] == [(len(values[:cut]),), (len(values[cut:]), 1)]
    assert within_bound(whole, clipping)
    if not all(map(math.isfinite, entries)):
        assert not flatten(whole).any()
        assert not told.isfinite()
    elif math.hypot(*entries) < 1e100:
        assert float(told) == pytest.approx(math.hypot(*entries), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(5))
def test_long_updates_reach_the_bound_and_keep_their_direction(dtype, seed):
    """Within sqrt(d) / 2 steps and 2^-21 of it: a bound that is not reached would waste noise."""
    update = {"a": 3 * torch.randn(1000, generator=torch.Generator().manual_seed(seed)).to(dtype)}
    whole, _ = CLIPPING(update)
    assert within_bound(whole, CLIPPING)
    assert math.sqrt(squares(whole)) > CLIPPING.bound * (1 - 2**-21) - math.sqrt(1000)
    exact = update["a"].double() / update["a"].double().norm() * CLIPPING.clip_norm
    torch.testing.assert_close(whole["a"].double() * CLIPPING.unit, exact, rtol=2**-21, atol=CLIPPING.grid)


@pytest.mark.parametrize("seed", range(20))
def test_the_rounding_of_floats_never_reaches_the_bound(seed):
    """2^58 steps: a float64 of that size errs by up to 16 of them, and rounding three entries moves them by one."""
    clipping = GridClipping(clip_norm=0.37, grid=0.37 * 2.0**-58)
    draw = torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for length in (1.0, 1e3, 1e30):
        assert within_bound(clipping({"a": length * draw})[0], clipping)


def test_short_updates_are_rounded_to_the_nearest_step():
    clipping = GridClipping(clip_norm=1.0, grid=2.0**-10)
    steps = torch.tensor([0.0, 0.49, 0.51, -0.51, 1.5, 2.5, -2.5, 100.2])  # ties go to the even neighbour
    whole, told = clipping({"a": steps / 1024})
    assert whole["a"].tolist() == [0, 0, 1, -1, 2, 2, -2, 100]
    assert float(told) == pytest.approx(float(steps.double().norm()) / 1024, rel=1e-6)
    assert clipping.bound == 1024
    assert clipping.unit == 2.0**-10


@pytest.mark.parametrize("entries", [100, 10_000, 99_999])
@pytest.mark.parametrize("above", [1e-6, 1e-3, 0.3])
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_entries_that_all_round_up_stay_within_the_bound(entries, above, step):
    """C / g = (step + 1/2 + above) sqrt(d): scaled to the bound, every entry would be rounded up, beyond it."""
    bound = (step + 0.5 + above) * math.sqrt(entries)
    clipping = GridClipping(clip_norm=bound, grid=1.0)
    for length in (bound, 2 * bound, 1e30):
        whole, _ = clipping({"a": torch.full((entries,), length / math.sqrt(entries), dtype=torch.float64)})
        assert within_bound(whole, clipping)
    for entry in (step + 0.5, math.nextafter(step + 0.5, math.inf), step + 1.0):
        whole, _ = clipping({"a": torch.full((entries,), entry, dtype=torch.float64)})
        assert within_bound(whole, clipping)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_broken_updates_are_zero(broken, dtype):
    update = {"a": torch.tensor([1.0, broken], dtype=dtype), "b": torch.ones(3, dtype=dtype)}
    whole, told = CLIPPING(update)
    assert not flatten(whole).any()
    assert not told.isfinite()


def test_denormal_zero_and_missing_entries_are_zero():
    for values in ([0.0, -0.0], [5e-324, -5e-324], [1e-310, 1e-170]):
        whole, _ = CLIPPING({"a": torch.tensor(values, dtype=torch.float64)})
        assert whole["a"].tolist() == [0, 0]
    assert CLIPPING({})[0] == {}


def test_a_chunk_under_vmap_equals_one_after_the_other():
    draw = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    draw[1], draw[2], draw[3, 0], draw[4, 2] = 1e-9, 0.0, math.nan, math.inf
    chunk = {"a": draw, "b": draw[:, :2].reshape(7, 2, 1) * 3}
    together, norms = vmap(CLIPPING)(chunk)
    for client in range(7):
        alone, told = CLIPPING({name: value[client] for name, value in chunk.items()})
        assert all(torch.equal(alone[name], together[name][client]) for name in chunk)
        torch.testing.assert_close(told, norms[client], equal_nan=True, rtol=1e-15, atol=0)
    assert together["a"].any(dim=1).tolist() == [True, True, False, False, False, True, True]


def test_the_rounding_of_d_entries_counts_each_client_alone_under_vmap():
    """d is the size of one update, not of the chunk: with 1600 entries, 11 steps would be too short to round."""
    clipping = GridClipping(clip_norm=11.0, grid=1.0)
    whole, _ = vmap(clipping)({"a": torch.full((64, 25), 3.0)})
    assert whole["a"].unique().tolist() == [2]  # (11 - 5 / 2) / 5 = 1.7


def test_the_argument_is_left_alone():
    update = {"a": torch.tensor([30.0, 40.0])}
    CLIPPING(update)
    assert update["a"].tolist() == [30.0, 40.0]


def test_sums_are_exact_in_any_order():
    """Entries near 2^58 have no float64 of their own: the sum must be that of Python's integers."""
    clipping = GridClipping(clip_norm=1.0, grid=2.0**-58)
    draw = torch.randn(8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole, _ = vmap(clipping)({"a": draw})
    noise = torch.randint(-(2**40), 2**40, (8, 6), generator=torch.Generator().manual_seed(1))
    vectors = whole["a"] + noise
    exact = [sum(column) for column in vectors.T.tolist()]
    assert clipping.most_clients == 8
    assert vectors.sum(0).tolist() == vectors.flip(0).sum(0).tolist() == exact
    assert [int(x) for x in vectors.double().sum(0)] != exact


@pytest.mark.parametrize("bits", [20, 36, 50])
def test_the_largest_sum_and_noise_fit_64_bits(bits):
    clipping = GridClipping.from_multiplier(clip_norm=0.5, noise_multiplier=0.62, bits=bits)
    clients = clipping.most_clients
    assert clients * Fraction(clipping.bound) <= 2**61 < (clients + 1) * Fraction(clipping.bound)
    assert clients * Fraction(clipping.bound) + 16 * 2**56 < 2**62


@pytest.mark.parametrize("noise_multiplier", [1e-3, 0.62, 2.0, 5.004])
@pytest.mark.parametrize("bits", [10, 36, 45])
def test_a_grid_for_2_to_the_bits_makes_the_std_just_that(noise_multiplier, bits):
    clipping = GridClipping.from_multiplier(clip_norm=0.37, noise_multiplier=noise_multiplier, bits=bits)
    assert clipping.grid == pytest.approx(noise_multiplier * 0.37 / 2**bits, rel=1e-15)
    mechanism = DiscreteGaussian.from_multiplier(
        noise_multiplier=noise_multiplier, bound=clipping.bound, entries=453_632
    )
    assert mechanism.std == 2**bits
    assert mechanism.std * clipping.unit == pytest.approx(noise_multiplier * 0.37, rel=1e-15)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: GridClipping(clip_norm=0.0, grid=1.0), "clip_norm"),
        (lambda: GridClipping(clip_norm=1.0, grid=math.nan), "grid"),
        (lambda: GridClipping(clip_norm=1.0, grid=2.0**-62), "lower the bits"),
        (lambda: GridClipping(clip_norm=1e300, grid=1e-300), "lower the bits"),
        (lambda: GridClipping.from_multiplier(clip_norm=1.0, noise_multiplier=0.0, bits=36), "noise_multiplier"),
        (lambda: GridClipping.from_multiplier(clip_norm=1.0, noise_multiplier=1.0, bits=2.5), "bits"),
        (lambda: GridClipping.from_multiplier(clip_norm=1.0, noise_multiplier=1.0, bits=5000), "grid"),
        (lambda: GridClipping(clip_norm=10.0, grid=1.0)({"a": torch.ones(400)}), "raise the bits"),
        (lambda: GridClipping(clip_norm=0.3, grid=1.0)({"a": torch.ones(1)}), "raise the bits"),
        (lambda: CLIPPING({"a": torch.ones(1).expand(2**30 + 1)}), "at most 2\\^30"),
        (lambda: DiscreteGaussian(std=0.0, entries=1), "std"),
        (lambda: DiscreteGaussian(std=1.5, entries=1), "std"),
        (lambda: DiscreteGaussian(std=2.0**57, entries=1), "std"),
        (lambda: DiscreteGaussian(std=math.inf, entries=1), "std"),
        (lambda: DiscreteGaussian(std=4.0, entries=0), "entries"),
        (lambda: DiscreteGaussian.from_multiplier(noise_multiplier=0.1, bound=2.0, entries=1), "change the bits"),
        (lambda: DiscreteGaussian.from_multiplier(noise_multiplier=0.0, bound=2.0, entries=1), "noise_multiplier"),
        (lambda: DiscreteGaussian.from_multiplier(noise_multiplier=1e200, bound=1e200, entries=1), "noise_multiplier"),
        (lambda: DiscreteGaussian(std=4.0, entries=3).init({"a": torch.ones(4)}), "3 entries.* 4"),
        (lambda: DiscreteGaussian(std=4.0, entries=3).event(0.0), "sensitivity"),
    ],
)
def test_bad_input_is_one_line(make, says):
    with pytest.raises(ValueError, match=says) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("value", "says"), [(torch.zeros(3), "float32"), (torch.zeros(4, dtype=torch.int64), "3 entries.* 4")]
)
def test_a_wrong_answer_draws_no_noise(value, says):
    with pytest.raises(ValueError, match=says):
        DiscreteGaussian(std=4.0, entries=3).release({"a": value}, {}, None)


def test_release_adds_integers_to_every_entry():
    value = {"b": torch.full((2, 3), 2**60), "a": torch.tensor(5), "c": torch.zeros(0, dtype=torch.int64)}
    mechanism = DiscreteGaussian(std=2.0**36, entries=7)
    assert mechanism.init(value) == {}
    noisy, state = mechanism.release(value, {}, SeededNoise(generator(0, "noise", 0)))
    assert state == {}
    assert {name: tensor.shape for name, tensor in noisy.items()} == {n: v.shape for n, v in value.items()}
    assert all(tensor.dtype == torch.int64 for tensor in noisy.values())
    noise = torch.cat([(noisy[name] - value[name]).flatten() for name in value])
    assert len(set(noise.tolist())) == 7
    assert 0 < noise.abs().min() < noise.abs().max() < 2**40
    assert value["a"] == 5


def test_noise_does_not_depend_on_the_order_of_the_names():
    value = {"a": torch.zeros(3, dtype=torch.int64), "b": torch.zeros(2, dtype=torch.int64)}
    one, other = (
        DiscreteGaussian(std=64.0, entries=5).release(v, {}, SeededNoise(generator(0, "noise", 0)))[0]
        for v in (value, dict(reversed(value.items())))
    )
    assert all(torch.equal(one[name], other[name]) for name in value)


def test_a_sum_beyond_64_bits_wraps_around():
    """Post-processing of the exact sum: nothing saturates, nothing raises."""
    value = {"a": torch.full((1000,), 2**63 - 1)}
    noisy, _ = DiscreteGaussian(std=64.0, entries=1000).release(value, {}, SecretNoise())
    assert (noisy["a"] > 0).any()
    assert (noisy["a"] < 0).any()


def test_the_event_is_near_that_of_the_gaussian_on_the_plain_sum():
    """z / 2 for the sensitivity 2 C / g, as for the clip norm C and noise in floats."""
    mechanism = DiscreteGaussian.from_multiplier(noise_multiplier=0.62, bound=CLIPPING.bound, entries=453_632)
    event = mechanism.event(2 * CLIPPING.bound)
    assert isinstance(event, NearDpEvent)
    assert isinstance(event.event, GaussianDpEvent)
    assert event.event.noise_multiplier == pytest.approx(0.31, rel=1e-15)
    assert event.total_variation == mechanism.total_variation == pytest.approx(1.189e-20, rel=1e-3)


def test_total_variation_is_a_chance():
    assert DiscreteGaussian(std=1.0, entries=10**6).total_variation == 1.0


class Laws:
    """Discrete and rounded Gaussian by summation over 15 sigma and by quadrature in a cell (20 nodes)."""

    def __init__(self, sigma):
        self.k = k = np.arange(-15 * sigma - 2, 15 * sigma + 3)
        nodes, weights = np.polynomial.legendre.leggauss(20)
        u = nodes[:, None] / 2
        self.log_cell = np.log((weights[:, None] / 2 * np.exp(-(2 * k * u + u**2) / (2 * sigma**2))).sum(0))
        density = np.exp(-(k**2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
        self.log_theta = math.log(density.sum())
        self.discrete, self.rounded = density / density.sum(), density * np.exp(self.log_cell)
        self.log_ratio = self.log_cell + self.log_theta

    @property
    def divergence(self):
        """KL(rounded, discrete), from terms that are all positive."""
        return float((self.rounded * (np.expm1(-self.log_ratio) + self.log_ratio)).sum())

    @property
    def distance(self):
        return float((self.discrete * np.abs(np.expm1(self.log_ratio))).sum() / 2)


SIGMAS = [1, 2, 3, 4, 8, 16, 32, 64]


@pytest.mark.parametrize("sigma", SIGMAS)
def test_laws_of_this_file(sigma):
    """Against the normal distribution function, to which the steps of the proof do not lead."""
    laws = Laws(sigma)
    wanted = np.diff(stats.norm.cdf(np.append(laws.k - 0.5, laws.k[-1] + 0.5), scale=sigma))
    np.testing.assert_allclose(laws.rounded, wanted, atol=1e-14)
    assert laws.distance == pytest.approx(np.abs(wanted - laws.discrete).sum() / 2, rel=1e-6, abs=1e-14)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_steps_of_the_proof(sigma):
    laws = Laws(sigma)
    assert (laws.log_cell >= -1 / (24 * sigma**2) - 1e-15).all()
    assert (laws.log_cell <= laws.k**2 / (24 * sigma**4) + 1e-15).all()
    assert -1e-14 <= laws.log_theta <= 1e-8 / sigma**2 + 1e-14
    assert (laws.rounded * laws.k**4).sum() <= (3.30 * sigma**2) ** 2
    assert (laws.rounded * laws.log_ratio**2).sum() <= 0.0208 / sigma**4
    assert laws.divergence <= 0.0109 / sigma**4


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("entries", [1, 100, 453_632])
def test_total_variation_covers_the_distance(sigma, entries):
    """The true distance of one entry, and Pinsker's bound for many; of the right size, so that a lost factor shows."""
    laws, claimed = Laws(sigma), DiscreteGaussian(std=float(sigma), entries=entries).total_variation
    pinsker = math.sqrt(entries * laws.divergence / 2)
    assert min(1.0, pinsker) <= claimed <= 3 * pinsker
    if entries == 1:
        assert laws.distance <= claimed <= 6 * laws.distance


@pytest.mark.parametrize("entries", [2, 3])
def test_total_variation_of_vectors_by_summation(entries):
    laws = Laws(1)
    inside = np.abs(laws.k) <= 9
    p, r = laws.discrete[inside], laws.rounded[inside]
    distance = np.abs(reduce(np.multiply.outer, [p] * entries) - reduce(np.multiply.outer, [r] * entries)).sum() / 2
    assert 0.2 <= distance / DiscreteGaussian(std=1.0, entries=entries).total_variation <= 1


@pytest.mark.parametrize("sigma", [1, 2, 8])
@pytest.mark.parametrize("ratio", [1, 2])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0, 5.0])
def test_the_event_covers_the_exact_privacy_loss(sigma, ratio, epsilon):
    """delta(epsilon) of noise shifted by the sensitivity, by summation, against Gaussian delta + (1 + e^eps) tau."""
    shift = ratio * sigma
    k = np.arange(-20 * sigma, 20 * sigma + shift + 1)
    weight = np.exp(-(k**2) / (2 * sigma**2))
    moved = np.exp(-((k - shift) ** 2) / (2 * sigma**2))
    exact = np.maximum(moved - math.exp(epsilon) * weight, 0).sum() / weight.sum()
    event = DiscreteGaussian(std=float(sigma), entries=1).event(float(shift))
    s = event.event.noise_multiplier
    gaussian = stats.norm.cdf(0.5 / s - epsilon * s) - math.exp(epsilon) * stats.norm.cdf(-0.5 / s - epsilon * s)
    assert exact <= gaussian + (1 + math.exp(epsilon)) * event.total_variation
    assert exact >= 0.5 * gaussian - event.total_variation
