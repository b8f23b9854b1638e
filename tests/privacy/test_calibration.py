"""Calibration against reference values, and as the inverse of accounting."""

from __future__ import annotations

import pytest

from fedemb.privacy.accounting import epsilon
from fedemb.privacy.calibration import solve_noise_multiplier, solve_rounds, solve_users_per_round
from fedemb.privacy.events import fixed_size_round, poisson_round

# users, users a round, rounds, delta, target, noise multiplier: by an independent implementation on a fine grid
REFERENCE = [
    (10_000, 256, 200, 1e-5, 8.0, 1.2814),
    (100_000, 1_000, 1_000, 1e-6, 2.0, 2.2511),
    (100_000, 1_000, 1_000, 1e-6, 4.0, 1.6364),
    (1_000_000, 10_000, 2_000, 1e-7, 1.0, 4.9902),
    (1_000_000, 10_000, 2_000, 1e-7, 2.0, 3.0066),
    (1_000_000, 10_000, 2_000, 1e-7, 8.0, 1.4830),
    (10_000_000, 100_000, 5_000, 1e-8, 2.0, 4.5549),
]


def event(users: int, users_per_round: int, noise_multiplier: float):
    return fixed_size_round(users=users, users_per_round=users_per_round, noise_multiplier=noise_multiplier)


@pytest.mark.parametrize(("users", "sampled", "rounds", "delta", "target", "expected"), REFERENCE)
def test_reference_noise(users, sampled, rounds, delta, target, expected):
    found = solve_noise_multiplier(
        lambda z: event(users, sampled, z), rounds=rounds, delta=delta, target_epsilon=target
    )
    assert found == pytest.approx(expected, rel=0.005)
    assert epsilon([(event(users, sampled, found), rounds)], delta) <= target
    assert epsilon([(event(users, sampled, 0.995 * found), rounds)], delta) > target


def test_poisson_noise_is_found_too():
    def round_event(noise_multiplier: float):
        return poisson_round(sampling_rate=0.0256, noise_multiplier=noise_multiplier)

    found = solve_noise_multiplier(round_event, rounds=200, delta=1e-5, target_epsilon=1.4002)
    assert found == pytest.approx(2.0, rel=1e-3)


def test_rounds_are_the_most_that_fit():
    found = solve_rounds(event(10_000, 256, 2.0), delta=1e-5, target_epsilon=2.0)
    assert (
        epsilon([(event(10_000, 256, 2.0), found)], 1e-5) <= 2.0 < epsilon([(event(10_000, 256, 2.0), found + 1)], 1e-5)
    )


@pytest.mark.parametrize("users_per_client", [1, 8, 1000])
def test_users_per_round_are_the_most_that_fit(users_per_client):
    def cost(users_per_round: int) -> float:
        return epsilon([(event(100_000, users_per_round, 3.0), 300)], 1e-6)

    found = solve_users_per_round(
        lambda users_per_round: event(100_000, users_per_round, 3.0),
        users=100_000,
        users_per_client=users_per_client,
        rounds=300,
        delta=1e-6,
        target_epsilon=2.0,
    )
    assert found % users_per_client == 0
    assert cost(found) <= 2.0 < cost(found + users_per_client)


def test_everybody_may_take_part_if_the_noise_allows_it():
    found = solve_users_per_round(
        lambda n: event(1000, n, 200.0), users=1000, users_per_client=8, rounds=10, delta=1e-4, target_epsilon=1.0
    )
    assert found == 1000


def test_targets_out_of_reach_are_refused():
    with pytest.raises(ValueError, match=r"target_epsilon=0.1 .*single round: raise noise_multiplier"):
        solve_rounds(event(1000, 500, 0.5), delta=1e-5, target_epsilon=0.1)
    with pytest.raises(ValueError, match="one virtual client a round: raise noise_multiplier"):
        solve_users_per_round(
            lambda n: event(1000, n, 0.5), users=1000, users_per_client=500, rounds=9, delta=1e-5, target_epsilon=0.1
        )
    with pytest.raises(ValueError, match="a million: lower rounds"):
        solve_noise_multiplier(lambda z: event(10, 9, 1e-9), rounds=1, delta=1e-5, target_epsilon=0.1)
    with pytest.raises(ValueError, match="a million rounds cost at most"):
        solve_rounds(event(10_000_000, 1, 50.0), delta=0.5, target_epsilon=5.0)
    with pytest.raises(ValueError, match="target_epsilon"):
        solve_rounds(event(1000, 500, 0.5), delta=1e-5, target_epsilon=0.0)
