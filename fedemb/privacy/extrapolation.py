"""What a simulated run would cost at a population of millions, with the same noise on the average update.

M0 users a round and noise multiplier z0 become M = kappa M0 and z = kappa z0: the noise on the mean, z C / M, and with
it the utility that the simulation measured, stays (more users a round only lower the sampling variance), while the
sampling rate at N users falls. Beyond z of about 3 nothing more is gained: epsilon approaches that of one Gaussian
with mu* = 2 M0 sqrt(T) / (N z0), for every kappa. Such an epsilon is about a deployment that did not happen.
Source: the scaling of McMahan et al. 2018 (arXiv:1710.06963) and of Xu et al. 2023 (arXiv:2211.10844).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedemb.core import check
from fedemb.privacy.accounting import default_delta, epsilon
from fedemb.privacy.events import fixed_size_round


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """The run whose signal-to-noise ratio is kept: M0 users a round, noise multiplier z0 > 0, T rounds."""

    users_per_round: int
    noise_multiplier: float
    rounds: int

    def __post_init__(self) -> None:
        check.at_least("users_per_round", self.users_per_round, 1)
        check.positive("noise_multiplier", self.noise_multiplier)
        check.at_least("rounds", self.rounds, 1)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """The same signal-to-noise ratio at N users. epsilon: certified, at delta, substitute-one, fixed-size sampling."""

    users: int
    users_per_round: int
    noise_multiplier: float
    rounds: int
    epsilon: float
    delta: float


def deploy(simulation: Simulation, *, users: int, users_per_round: int, delta: float | None = None) -> Deployment:
    """The simulation at N = users with kappa = users_per_round / M0. delta: N^-1.1 by default."""
    delta = default_delta(users) if delta is None else delta
    noise_multiplier = simulation.noise_multiplier * users_per_round / simulation.users_per_round
    event = fixed_size_round(users=users, users_per_round=users_per_round, noise_multiplier=noise_multiplier)
    return Deployment(
        users=users,
        users_per_round=users_per_round,
        noise_multiplier=noise_multiplier,
        rounds=simulation.rounds,
        epsilon=epsilon([(event, simulation.rounds)], delta),
        delta=delta,
    )


def cheapest_deployment(
    simulation: Simulation, *, users: int, target_epsilon: float, delta: float | None = None, users_per_client: int = 1
) -> Deployment | None:
    """The deployment at N = users that meets the target with the fewest users a round, at least M0; None if none does.

    Users per round grow by multiples of users_per_client, up to all users, where epsilon is least.
    Raises: ValueError if the population is smaller than M0.
    """
    check.positive("target_epsilon", target_epsilon)
    check.at_least("users_per_client", users_per_client, 1)
    check.at_least("users", users, simulation.users_per_round)

    def at(clients: int) -> Deployment:
        return deploy(simulation, users=users, users_per_round=clients * users_per_client, delta=delta)

    fewest, most = math.ceil(simulation.users_per_round / users_per_client), users // users_per_client
    if fewest > most:
        return None
    best = at(fewest)
    if best.epsilon <= target_epsilon:
        return best
    best = at(most)
    if best.epsilon > target_epsilon:
        return None
    while most - fewest > 1:
        middle = (fewest + most) // 2
        found = at(middle)
        if found.epsilon <= target_epsilon:
            best, most = found, middle
        else:
            fewest = middle
    return best


def least_epsilon(simulation: Simulation, *, users: int, delta: float | None = None) -> Deployment:
    """The least epsilon that this signal-to-noise ratio can have at N users: everybody takes part in every round."""
    return deploy(simulation, users=users, users_per_round=users, delta=delta)


def signal_floor(simulation: Simulation, *, users: int) -> float:
    """mu* = 2 M0 sqrt(T) / (N z0): no number of users a round gives less than (mu*)-Gaussian DP at N users."""
    check.at_least("users", users, 1)
    ratio = simulation.users_per_round / users / simulation.noise_multiplier
    return 2 * ratio * math.sqrt(simulation.rounds)
