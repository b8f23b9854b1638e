"""A person with several user ids: every cohort of a small population, against the price of the round."""

from itertools import combinations, product

import numpy as np
import pytest
from dp_accounting import NeighboringRelation
from scipy.stats import norm

from fedemb.data.sampling import FixedSizeSampler, PoissonSampler
from fedemb.privacy.accounting import epsilon
from fedemb.privacy.clipping import FlatClipping
from fedemb.privacy.mechanism import Gaussian
from fedemb.privacy.query import ClippedSum

N, IDS = 5, 2
GRID = np.linspace(-20, 20, 4_001)
EPSILONS = np.array([0.0, 0.1, 0.5, 1.0, 2.0, 4.0])


def cost(sampler, z):
    """The event of one round of this sampler, clip norm 1."""
    query = ClippedSum(
        clipping=FlatClipping(clip_norm=1.0),
        sum_updates=None,
        planned_clients=2,
        clients_per_user=sampler.ids_per_user,
    )
    mechanism = Gaussian.from_multiplier(noise_multiplier=z, bound=query.bound)
    return sampler.event(mechanism.event(query.sensitivity(NeighboringRelation.REPLACE_ONE)), 0)


def within(deltas, event):
    """Is an attack that reaches these deltas at EPSILONS allowed by what the event is priced at?"""
    reached = zip(EPSILONS.tolist(), deltas.tolist(), strict=True)
    return [epsilon(event, delta) >= e - 1e-6 for e, delta in reached if delta > 1e-8]


def output(cohorts, updates, z):
    """The density of the noised sum on the grid. cohorts: (probability, ids)."""
    return sum(chance * norm.pdf(GRID, loc=sum(updates[i] for i in ids), scale=z) for chance, ids in cohorts)


def hockey_stick(left, right):
    """H at every epsilon."""
    return np.array([np.maximum(left - np.exp(e) * right, 0).sum() * (GRID[1] - GRID[0]) for e in EPSILONS])


def fixed_cohorts(m):
    chosen = list(combinations(range(N), m))
    return [(1 / len(chosen), ids) for ids in chosen]


def poisson_cohorts(q):
    sets = [ids for size in range(N + 1) for ids in combinations(range(N), size)]
    return [(q ** len(ids) * (1 - q) ** (N - len(ids)), ids) for ids in sets]


@pytest.mark.parametrize("z", [0.7, 2.0])
@pytest.mark.parametrize(
    ("sampler", "cohorts"),
    [
        (FixedSizeSampler(num_users=N, users_per_round=1, ids_per_user=IDS, seed=0), fixed_cohorts(1)),
        (FixedSizeSampler(num_users=N, users_per_round=2, ids_per_user=IDS, seed=0), fixed_cohorts(2)),
        (PoissonSampler(num_users=N, users_per_round=1, ids_per_user=IDS, seed=0), poisson_cohorts(1 / N)),
    ],
)
def test_no_pair_of_neighbours_exceeds_the_price(sampler, cohorts, z):
    """The person has ids 0 and 1; everybody's updates are -1 or 1."""
    worst = np.zeros(len(EPSILONS))
    for mine, others in product(product((-1, 1), repeat=IDS), product((-1, 1), repeat=N - IDS)):
        for theirs in product((-1, 1), repeat=IDS):
            left, right = output(cohorts, (*mine, *others), z), output(cohorts, (*theirs, *others), z)
            worst = np.maximum(worst, hockey_stick(left, right))
    assert all(within(worst, cost(sampler, z)))


def test_the_price_of_one_id_is_too_low_for_two():
    """What the bound is for: the same round priced as if the person had one id."""
    z, sampler = 2.0, FixedSizeSampler(num_users=N, users_per_round=2, seed=0)
    left, right = (output(fixed_cohorts(2), (mine, mine, 1, 1, 1), z) for mine in (-1, 1))
    assert not all(within(hockey_stick(left, right), cost(sampler, z)))
