"""Released noise as a distribution, from the source, through the mechanism and through the whole engine.

n = 1e5 draws, fixed seeds, alpha = 1e-6 a check; a std that is off by 2 % is accepted with probability below 1e-4.
"""

from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch
from distribution import DRAWS, STD_RATIO, Idle, is_normal, right_scale, seeded, uncorrelated
from scipy import stats
from small import make_cohort

from fedemb.core.optim import SGD
from fedemb.core.rng import SecretNoise
from fedemb.data.sampling import FixedSizeSampler, PoissonSampler
from fedemb.execution.executor import Sequential
from fedemb.execution.vectorised import Vectorised
from fedemb.privacy.clipping import FlatClipping
from fedemb.privacy.ledger import Ledger
from fedemb.privacy.mechanism import Gaussian
from fedemb.privacy.query import ClippedSum
from fedemb.server.optimizer import FedOpt
from fedemb.server.plan import Plan, RunState
from fedemb.server.round import run_round

Z, C = 0.62, 0.5
STD = 0.31  # z C, on the sum


def secret(round):
    return SecretNoise()


def test_stated_power():
    """The scale check itself, from the chi-square distribution: size below 1e-6, power above 0.999 at 2 %."""
    low, high = (DRAWS * ratio**2 for ratio in STD_RATIO)
    accepted = lambda scale: np.diff(stats.chi2.cdf([low / scale**2, high / scale**2], DRAWS))[0]  # noqa: E731
    assert 1 - accepted(1.0) < 1e-6
    assert accepted(0.98) < 1e-3
    assert accepted(1.02) < 1e-3


@pytest.mark.parametrize("source", [seeded, secret])
def test_released_noise_is_normal_with_std_z_times_c(source):
    value = {"a": torch.full((DRAWS // 2,), 7.0), "b": torch.full((DRAWS // 100, 50), -3.0)}
    mechanism = Gaussian.from_multiplier(noise_multiplier=Z, bound=C)
    noisy, _ = mechanism.release(value, {}, source(0))
    noise = torch.cat([(noisy[name] - value[name]).flatten() for name in value])
    assert is_normal(noise, STD)


@pytest.mark.parametrize("source", [seeded, secret])
@pytest.mark.parametrize("wrong", [0.98, 1.02])
def test_noise_off_by_two_per_cent_is_rejected(source, wrong):
    noisy, _ = Gaussian(std=wrong * STD).release({"a": torch.zeros(DRAWS)}, {}, source(0))
    assert not right_scale(noisy["a"], STD)


@pytest.mark.parametrize("wrong", ["uniform", "laplace", "shifted", "rounded"])
def test_noise_of_another_shape_is_rejected(wrong):
    """All but the shifted one have exactly the right scale: the Kolmogorov-Smirnov part must see them."""
    rng = np.random.default_rng(0)
    draws = {
        "uniform": rng.uniform(-(3**0.5), 3**0.5, DRAWS),
        "laplace": rng.laplace(0, 0.5**0.5, DRAWS),
        "shifted": rng.normal(0.02, 1, DRAWS),
        "rounded": np.round(rng.normal(0, 1, DRAWS), 1),
    }[wrong]
    assert not is_normal(STD * draws, STD)


@pytest.mark.parametrize("source", [seeded, secret])
def test_noise_is_independent_across_names_rounds_and_neighbouring_entries(source):
    value = {"a": torch.zeros(DRAWS), "b": torch.zeros(DRAWS)}
    draws = [Gaussian(std=STD).release(value, {}, source(round))[0][name] for round in range(3) for name in value]
    for left, right in combinations(draws, 2):
        assert uncorrelated(left, right)
        assert uncorrelated(left.abs(), right.abs())  # equal up to the sign would pass the line above
    for draw in draws:
        assert uncorrelated(draw[1:], draw[:-1])
        assert uncorrelated(draw[: DRAWS // 2], draw[DRAWS // 2 :])  # the two halves of Box and Muller's pairs


def run(sampler, executor, rounds, *, server_lr, noise=seeded, mechanism=None):
    """Final parameters after `rounds` rounds from zero."""
    load = partial(map, lambda _: {"mask": torch.ones(1, 2)})
    plan = Plan(
        sampler=sampler,
        query=ClippedSum(
            clipping=FlatClipping(clip_norm=C),
            planned_clients=4,
            sum_updates=lambda c, shared, cohort: executor.clipped_sum(Idle(), c, shared, cohort, load),
        ),
        mechanism=mechanism or Gaussian.from_multiplier(noise_multiplier=Z, bound=C),
        server=FedOpt(optimizer=SGD(), learning_rate=server_lr, planned_clients=sampler.planned_clients),
        noise_rng=noise,
    )
    zero = {"a": torch.zeros(DRAWS // 2), "b": torch.zeros(500, DRAWS // 1000)}
    state, steps = RunState(round=0, server=plan.server.init(zero, zero), query={}, noise={}, ledger=Ledger()), []
    for _ in range(rounds):
        before = state.server.params
        state, _ = run_round(plan, state)
        after = state.server.params
        steps.append(torch.cat([(after[name] - before[name]).flatten() for name in zero]).double())
    return torch.cat([state.server.params[name].flatten() for name in zero]).double(), steps


FIXED = FixedSizeSampler(num_users=20, users_per_round=8, users_per_client=2, seed=4)  # m = 4
POISSON = PoissonSampler(num_users=20, users_per_round=2.5, seed=4)  # q N = 2.5


@pytest.mark.parametrize("executor", [Sequential(), Vectorised()])
@pytest.mark.parametrize(("sampler", "denominator"), [(FIXED, 4), (POISSON, 2.5)])
def test_variance_through_the_engine(executor, sampler, denominator):
    """T (lr std / m)^2: catches a missing or realised denominator, noise per client, and noise used twice."""
    rounds, server_lr = 5, 0.7
    realised = {len(sampler.cohort(round).clients) for round in range(rounds)}
    assert realised == {4} if sampler is FIXED else len(realised) > 1
    final, steps = run(sampler, executor, rounds, server_lr=server_lr)
    one = server_lr * STD / denominator
    assert is_normal(final, rounds**0.5 * one)
    assert all(is_normal(step, one) for step in steps)
    assert all(uncorrelated(left, right) for left, right in combinations(steps, 2))


def test_engine_off_by_two_per_cent_is_rejected():
    final, _ = run(FIXED, Vectorised(), 3, server_lr=0.7, mechanism=Gaussian(std=0.98 * STD))
    assert not right_scale(final, 3**0.5 * 0.7 * STD / 4)


def test_noise_reused_across_rounds_is_rejected():
    """The same draw three times has a third of the independent rounds' precision: variance 9 instead of 3."""
    final, steps = run(FIXED, Vectorised(), 3, server_lr=0.7, noise=lambda round: seeded(0))
    assert not right_scale(final, 3**0.5 * 0.7 * STD / 4)
    assert not uncorrelated(steps[0], steps[1])


def test_an_empty_cohort_still_releases_full_noise():
    """A round that Poisson sampling left empty must look like any other."""
    sampler = PoissonSampler(num_users=20, users_per_round=0.01, seed=4)
    assert sampler.cohort(0) == make_cohort()
    final, _ = run(sampler, Vectorised(), 1, server_lr=1.0)
    assert is_normal(final, STD / 0.01)
