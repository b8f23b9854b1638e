"""The scaling to millions of users against reference values and against its own limit."""

from __future__ import annotations

import math

import pytest
from dp_accounting import get_epsilon_gaussian

from fedemb.privacy.extrapolation import Simulation, cheapest_deployment, deploy, least_epsilon, signal_floor

RUN = Simulation(users_per_round=256, noise_multiplier=0.62, rounds=200)

# users, target epsilon, kappa, users a round: by an independent implementation, delta = users^-1.1
REFERENCE = [
    (10**4, 8, 3.55, 909),
    (10**5, 8, 1.39, 356),
    (10**5, 4, 1.83, 467),
    (10**5, 2, 2.37, 605),
    (10**5, 1, 3.11, 796),
    (10**6, 8, 1.14, 292),
    (10**6, 4, 1.46, 373),
    (10**6, 2, 1.76, 450),
    (10**6, 1, 2.03, 519),
    (10**7, 8, 1.02, 261),
    (10**7, 4, 1.26, 322),
    (10**7, 2, 1.46, 373),
    (10**7, 1, 1.62, 414),
]


@pytest.mark.parametrize(("users", "target", "kappa", "users_per_round"), REFERENCE)
def test_reference_deployments(users, target, kappa, users_per_round):
    """The target is crossed within 1 % of the reference's users per round."""
    more = deploy(RUN, users=users, users_per_round=math.ceil(1.01 * users_per_round))
    fewer = deploy(RUN, users=users, users_per_round=math.floor(0.99 * users_per_round))
    assert more.epsilon <= target < fewer.epsilon
    assert more.noise_multiplier / 0.62 == pytest.approx(kappa, rel=0.02)
    assert more.delta == pytest.approx(users**-1.1)


@pytest.mark.parametrize(("users", "mu"), [(10**4, 1.168), (10**5, 0.1168), (10**6, 0.0117), (10**7, 0.0012)])
def test_reference_floor(users, mu):
    assert signal_floor(RUN, users=users) == pytest.approx(mu, rel=0.03)


@pytest.mark.parametrize(("users", "target"), [(10**4, 8.0), (10**4, 5.0), (10**5, 2.0), (10**6, 1.0)])
def test_the_cheapest_deployment_is_the_first_that_fits(users, target):
    found = cheapest_deployment(RUN, users=users, target_epsilon=target)
    assert found is not None
    fewer = min(found.users_per_round - 1, math.floor(found.users_per_round / 1.003))
    assert found.epsilon <= target < deploy(RUN, users=users, users_per_round=fewer).epsilon


def test_whole_virtual_clients_are_deployed():
    found = cheapest_deployment(RUN, users=10**5, target_epsilon=2.0)
    assert found is not None
    grouped = cheapest_deployment(RUN, users=10**5, target_epsilon=2.0, users_per_client=8)
    assert grouped is not None
    assert grouped.users_per_round % 8 == 0
    assert 0 <= grouped.users_per_round - found.users_per_round < 8


@pytest.mark.parametrize("target", [4, 2, 1])
def test_targets_below_the_floor_are_unreachable(target):
    assert cheapest_deployment(RUN, users=10**4, target_epsilon=target) is None


def test_a_run_that_meets_the_target_stays_as_it_is():
    found = cheapest_deployment(RUN, users=10**7, target_epsilon=50.0)
    assert found is not None
    assert (found.users_per_round, found.noise_multiplier) == (256, 0.62)


def test_the_least_epsilon_is_that_of_the_floor():
    """Everybody every round: a Gaussian with mu*, in closed form; no smaller cohort is cheaper."""
    least = least_epsilon(RUN, users=10**4)
    exact = get_epsilon_gaussian(1 / signal_floor(RUN, users=10**4), least.delta)
    assert least.epsilon == pytest.approx(exact, rel=1e-6)
    costs = [deploy(RUN, users=10**4, users_per_round=number).epsilon for number in (256, 1000, 4000, 9999, 10**4)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-2] == pytest.approx(costs[-1], rel=1e-3)


def test_the_run_of_the_omniglot_recipe_at_a_million_users():
    """M = 32,000 and z = 2.5 for 400 rounds, the same signal-to-noise as 64 users and z = 0.005, is 3.84."""
    run = Simulation(users_per_round=64, noise_multiplier=0.005, rounds=400)
    found = deploy(run, users=10**6, users_per_round=32_000)
    assert found.noise_multiplier == pytest.approx(2.5)
    assert found.epsilon == pytest.approx(3.84, rel=0.01)


def test_impossible_extrapolations_are_refused():
    with pytest.raises(ValueError, match="users_per_round must be at most users"):
        deploy(RUN, users=1000, users_per_round=1001)
    with pytest.raises(ValueError, match="users must be an integer of at least 256"):
        cheapest_deployment(RUN, users=200, target_epsilon=1.0)
    with pytest.raises(ValueError, match="noise_multiplier"):
        Simulation(users_per_round=256, noise_multiplier=0.0, rounds=200)
