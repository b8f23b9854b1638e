"""What a simulated run would cost at a population of millions, with the same noise on the average update.

M0 users a round and noise multiplier z0 become M = kappa M0 and z = kappa z0: the noise on the mean, z C / M, and with
it the utility that the simulation measured, stays (more users a round only lower the sampling variance), while the
sampling rate at N users falls. Beyond z of about 3 nothing more is gained: epsilon approaches that of one Gaussian
with mu* = 2 M0 sqrt(T) / (N z0), for every kappa. Such an epsilon is about a deployment that did not happen.
Source: the scaling of McMahan et al. 2018 (arXiv:1710.06963) and of Xu et al. 2023 (arXiv:2211.10844).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from fedemb.core import check
from fedemb.privacy.accounting import default_delta, epsilon
from fedemb.privacy.events import fixed_size_round

POPULATIONS = (10**4, 10**5, 10**6, 10**7, 10**8)
TARGETS = (8.0, 4.0, 2.0, 1.0)
_TOLERANCE = 0.003


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
    return Deployment(
        users=users,
        users_per_round=users_per_round,
        noise_multiplier=noise_multiplier,
        rounds=simulation.rounds,
        epsilon=_epsilon(users, users_per_round, noise_multiplier, simulation.rounds, delta),
        delta=delta,
    )


@cache
def _epsilon(users: int, users_per_round: int, noise_multiplier: float, rounds: int, delta: float) -> float:
    """Certified; the searches for several targets, and runs of one noise, ask for the same ones again."""
    event = fixed_size_round(users=users, users_per_round=users_per_round, noise_multiplier=noise_multiplier)
    return epsilon([(event, rounds)], delta)


def cheapest_deployment(
    simulation: Simulation, *, users: int, target_epsilon: float, delta: float | None = None, users_per_client: int = 1
) -> Deployment | None:
    """The deployment at N = users that meets the target with the fewest users a round, to 0.3 %; None if none does.

    Users per round are multiples of users_per_client, at least M0 and at most all users, where epsilon is least.
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
    short = at(fewest)
    if short.epsilon <= target_epsilon:
        return short
    best = at(most)
    if best.epsilon > target_epsilon:
        return None
    turn = 0
    while most - fewest > max(1, _TOLERANCE * fewest):
        middle = _between(fewest, most, _share(short.epsilon, best.epsilon, target_epsilon) if turn % 3 else 0.5)
        found, turn = at(middle), turn + 1
        if found.epsilon <= target_epsilon:
            best, most = found, middle
        else:
            short, fewest = found, middle
    return best


def _share(short: float, enough: float, target: float) -> float:
    """Where a target lies between two epsilons, in logarithms; a little beyond, so that both ends move."""
    if not 0 < enough < short < math.inf:
        return 0.5
    return min(0.999, math.log(short / target) / math.log(short / enough) * (1 + _TOLERANCE) + _TOLERANCE)


def _between(fewest: int, most: int, share: float) -> int:
    """The whole number strictly between two, at this share of the way in logarithms."""
    middle = round(math.exp(math.log(fewest) + share * math.log(most / fewest)))
    return min(max(middle, fewest + 1), most - 1)


def least_epsilon(simulation: Simulation, *, users: int, delta: float | None = None) -> Deployment:
    """The least epsilon that this signal-to-noise ratio can have at N users: everybody takes part in every round."""
    return deploy(simulation, users=users, users_per_round=users, delta=delta)


def signal_floor(simulation: Simulation, *, users: int) -> float:
    """mu* = 2 M0 sqrt(T) / (N z0): no number of users a round gives less than (mu*)-Gaussian DP at N users."""
    check.at_least("users", users, 1)
    ratio = simulation.users_per_round / users / simulation.noise_multiplier
    return 2 * ratio * math.sqrt(simulation.rounds)


@dataclass(frozen=True, kw_only=True)
class Prospect:
    """What the signal-to-noise ratio of a simulation can cost at N users.

    floor: mu*, which no number of users a round goes below. least: with everybody in every round.
    deployments: target epsilon -> the deployment that meets it with the fewest users a round, None where none does.
    """

    users: int
    delta: float
    floor: float
    least: Deployment
    deployments: dict[float, Deployment | None]


def prospect(
    simulation: Simulation,
    *,
    users: int,
    targets: Sequence[float] = TARGETS,
    delta: float | None = None,
    users_per_client: int = 1,
) -> Prospect:
    """All targets at one population of at least M0 users. delta: N^-1.1 by default."""
    least = least_epsilon(simulation, users=users, delta=delta)
    return Prospect(
        users=users,
        delta=least.delta,
        floor=signal_floor(simulation, users=users),
        least=least,
        deployments={
            target: cheapest_deployment(
                simulation, users=users, target_epsilon=target, delta=delta, users_per_client=users_per_client
            )
            for target in targets
        },
    )
