"""Cohorts: who is in them, with which probability, and what they cost. Frequencies are tested at alpha = 1e-6."""

import tracemalloc
from collections import Counter
from itertools import combinations, permutations, product

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent, SampledWithoutReplacementDpEvent
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedemb.data.sampling import FixedSizeSampler, PoissonSampler

ALPHA = 1e-6


def users_of(cohort):
    return [user for client in cohort.clients for user in client.users]


def chi_square(counts, expected):
    """(statistic, threshold at ALPHA) of the counts of a multinomial."""
    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    assert counts.sum() == pytest.approx(expected.sum())
    return ((counts - expected) ** 2 / expected).sum(), stats.chi2.isf(ALPHA, len(counts) - 1)


def power_against(probabilities, tilted, draws):
    """Probability that the chi-square test sees `draws` draws from `tilted` instead of `probabilities`."""
    noncentrality = draws * ((np.asarray(tilted) - probabilities) ** 2 / probabilities).sum()
    degrees = len(probabilities) - 1
    return stats.ncx2.sf(stats.chi2.isf(ALPHA, degrees), degrees, noncentrality)


def test_every_user_of_a_small_population_is_in_at_most_one_group():
    for num_users in range(1, 7):
        for users_per_round in range(1, num_users + 1):
            for users_per_client in (k for k in range(1, users_per_round + 1) if users_per_round % k == 0):
                sampler = FixedSizeSampler(
                    num_users=num_users, users_per_round=users_per_round, users_per_client=users_per_client, seed=0
                )
                for round in range(20):
                    cohort = sampler.cohort(round)
                    assert cohort.round == round
                    assert len(cohort.clients) == sampler.planned_clients == users_per_round / users_per_client
                    assert all(client.round == round for client in cohort.clients)
                    assert all(len(client.users) == users_per_client for client in cohort.clients)
                    users = users_of(cohort)
                    assert len(set(users)) == users_per_round
                    assert set(users) <= set(range(num_users))


@given(st.data())
def test_users_are_disjoint_in_a_cohort_of_any_size(data):
    num_users = data.draw(st.integers(1, 10**9))
    users_per_client = data.draw(st.integers(1, min(9, num_users)))
    clients = data.draw(st.integers(1, min(300, num_users // users_per_client)))
    sampler = FixedSizeSampler(
        num_users=num_users,
        users_per_round=clients * users_per_client,
        users_per_client=users_per_client,
        seed=data.draw(st.integers(0)),
    )
    users = users_of(sampler.cohort(data.draw(st.integers(0, 10**6))))
    assert len(set(users)) == len(users) == clients * users_per_client
    assert 0 <= min(users) <= max(users) < num_users


def test_all_ordered_cohorts_are_equally_likely():
    """Exactly uniform membership, order and hence grouping: all 24 ordered draws of 3 from 4."""
    sampler = FixedSizeSampler(num_users=4, users_per_round=3, seed=1)
    outcomes = list(permutations(range(4), 3))
    rounds = 12_000
    seen = Counter(tuple(users_of(sampler.cohort(round))) for round in range(rounds))
    statistic, threshold = chi_square([seen[outcome] for outcome in outcomes], [rounds / 24] * 24)
    assert statistic < threshold
    tilted = np.full(24, 1 / 24) * np.where(np.arange(24) % 2, 1.1, 0.9)
    assert power_against(np.full(24, 1 / 24), tilted, rounds) > 0.99


@pytest.mark.parametrize(("num_users", "users_per_round"), [(20_000, 600), (1_000_000, 600)])
def test_inclusion_frequency_is_the_same_for_all_users(num_users, users_per_round):
    """The two cases take different algorithms in NumPy: more and fewer than one user in fifty."""
    sampler = FixedSizeSampler(num_users=num_users, users_per_round=users_per_round, users_per_client=8, seed=2)
    blocks, rounds = 50, 250
    drawn = np.concatenate([users_of(sampler.cohort(round)) for round in range(rounds)])
    counts = np.bincount(drawn * blocks // num_users, minlength=blocks)
    statistic, threshold = chi_square(counts, [len(drawn) / blocks] * blocks)
    shrink = (num_users - users_per_round) / (num_users - 1)  # variance without to variance with replacement
    assert statistic / shrink < threshold
    tilted = np.full(blocks, 1 / blocks) * np.where(np.arange(blocks) % 2, 1.04, 0.96)
    assert power_against(np.full(blocks, 1 / blocks), tilted, len(drawn)) > 0.99


def test_all_groupings_are_equally_likely():
    """Six users in groups of two have 15 perfect matchings; a grouping by id would show one of them only."""
    sampler = FixedSizeSampler(num_users=6, users_per_round=6, users_per_client=2, seed=3)
    rounds = 9_000
    seen = Counter(
        frozenset(frozenset(client.users) for client in sampler.cohort(round).clients) for round in range(rounds)
    )
    assert len(seen) == 15
    statistic, threshold = chi_square(list(seen.values()), [rounds / 15] * 15)
    assert statistic < threshold
    tilted = np.full(15, 1 / 15) * np.where(np.arange(15) < 5, 1.2, 0.9)
    assert power_against(np.full(15, 1 / 15), tilted, rounds) > 0.99


def test_co_membership_has_the_same_probability_for_every_pair():
    """Two of N = 6 users share a group of k = 2 with probability M/N * (k-1)/(N-1) = 4/6 * 1/5 = 2/15."""
    sampler = FixedSizeSampler(num_users=6, users_per_round=4, users_per_client=2, seed=4)
    rounds = 9_000
    seen = Counter(frozenset(client.users) for round in range(rounds) for client in sampler.cohort(round).clients)
    deviation = np.sqrt(rounds * 2 / 15 * 13 / 15)
    for pair in combinations(range(6), 2):
        assert abs(seen[frozenset(pair)] - rounds * 2 / 15) < 5.5 * deviation


@pytest.mark.parametrize("kind", [FixedSizeSampler, PoissonSampler])
def test_a_cohort_is_a_function_of_seed_and_round_alone(kind):
    sampler, again = (kind(num_users=1000, users_per_round=50, seed=5) for _ in range(2))
    forward = [sampler.cohort(round) for round in range(10)]
    backward = [again.cohort(round) for round in reversed(range(10))][::-1]
    assert forward == backward
    assert len({tuple(users_of(cohort)) for cohort in forward}) == 10
    assert kind(num_users=1000, users_per_round=50, seed=6).cohort(0) != forward[0]


def test_client_seeds_depend_on_the_slot_only():
    """Not on the users drawn nor their number: a seed that did would carry data into the local randomness."""
    few = FixedSizeSampler(num_users=100, users_per_round=64, users_per_client=2, seed=7)
    many = FixedSizeSampler(num_users=10**6, users_per_round=128, users_per_client=4, seed=7)
    seeds = {}
    for round in range(20):
        seeds[round] = [client.seed for client in few.cohort(round).clients]
        assert seeds[round] == [client.seed for client in many.cohort(round).clients]
    flat = [seed for row in seeds.values() for seed in row]
    assert len(set(flat)) == len(flat) == 20 * 32
    assert all(0 <= seed < 2**63 for seed in flat)
    assert max(flat) > 2**62  # all 63 bits are used


def test_poisson_includes_each_user_independently():
    """All 8 subsets of 3 users have their product probability, the empty one included."""
    probability, rounds = 0.3, 12_000
    sampler = PoissonSampler.from_probability(num_users=3, sampling_probability=probability, seed=8)
    seen = Counter(tuple(sorted(users_of(sampler.cohort(round)))) for round in range(rounds))
    subsets = [tuple(user for user in range(3) if chosen[user]) for chosen in product([False, True], repeat=3)]
    expected = [probability ** len(s) * (1 - probability) ** (3 - len(s)) for s in subsets]
    statistic, threshold = chi_square([seen[s] for s in subsets], np.multiply(expected, rounds))
    assert statistic < threshold
    # Three users drawn as one with probability 0.3 would pass a test of the mean: this one sees less than that.
    together = np.multiply(expected, 0.9) + 0.1 * np.array([0.7, 0, 0, 0, 0, 0, 0, 0.3])
    assert power_against(np.array(expected), together, rounds) > 0.99


def test_poisson_cohort_sizes_are_binomial():
    sampler = PoissonSampler(num_users=200, users_per_round=20, seed=9)
    rounds = 6_000
    sizes = np.bincount([len(sampler.cohort(round).clients) for round in range(rounds)], minlength=201)
    cells = [(0, 12), (13, 15), (16, 17), (18, 19), (20, 21), (22, 23), (24, 26), (27, 200)]
    law = stats.binom(200, 0.1)
    expected = np.array([law.cdf(high) - law.cdf(low - 1) for low, high in cells])
    statistic, threshold = chi_square([sizes[low : high + 1].sum() for low, high in cells], rounds * expected)
    assert statistic < threshold
    poisson = stats.poisson(23)  # an expectation that is 15% too high
    wrong = np.array([poisson.cdf(high) - poisson.cdf(low - 1) for low, high in cells])
    assert power_against(expected, wrong / wrong.sum(), rounds) > 0.99


def test_poisson_clients_hold_one_user_and_the_denominator_is_planned():
    sampler = PoissonSampler(num_users=1000, users_per_round=2.5, seed=10)
    cohorts = [sampler.cohort(round) for round in range(200)]
    assert all(len(client.users) == 1 for cohort in cohorts for client in cohort.clients)
    assert any(len(cohort.clients) == 0 for cohort in cohorts)  # probability of none at all: (1 - e^-2.5)^200 = 4e-8
    assert sampler.planned_clients == 2.5
    assert sampler.sampling_probability == 0.0025
    everyone = PoissonSampler(num_users=5, users_per_round=5, seed=0)
    assert sorted(users_of(everyone.cohort(0))) == [0, 1, 2, 3, 4]


def test_fixed_event_has_the_rate_of_users_not_of_clients():
    sampler = FixedSizeSampler(num_users=1000, users_per_round=64, users_per_client=8, seed=0)
    release = GaussianDpEvent(0.5)
    assert sampler.event(release, 3) == SampledWithoutReplacementDpEvent(1000, 64, release)
    assert sampler.planned_clients == 8
    assert sampler.relation is NeighboringRelation.REPLACE_ONE


def test_poisson_event():
    sampler = PoissonSampler(num_users=1000, users_per_round=64, seed=0)
    release = GaussianDpEvent(0.5)
    assert sampler.event(release, 3) == PoissonSampledDpEvent(0.064, release)
    assert sampler.relation is NeighboringRelation.REPLACE_ONE


@pytest.mark.parametrize(("num_users", "users_per_round"), [(10**9, 1000), (60_000, 1200)])
def test_memory_does_not_grow_with_the_number_of_users(num_users, users_per_round):
    samplers = [
        FixedSizeSampler(num_users=num_users, users_per_round=users_per_round, seed=0),
        PoissonSampler(num_users=num_users, users_per_round=users_per_round, seed=0),
    ]
    tracemalloc.start()
    for sampler in samplers:
        sampler.cohort(0)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2000 * users_per_round


@pytest.mark.parametrize(
    ("kind", "changed", "message"),
    [
        (FixedSizeSampler, {"users_per_round": 101}, "at most the number of users.*=101 num_users=100.*fewer"),
        (FixedSizeSampler, {"users_per_client": 3}, "users_per_client must divide.*=3 users_per_round=16.*multiple"),
        (FixedSizeSampler, {"users_per_round": 0}, "users_per_round must be .* at least 1, got users_per_round=0"),
        (FixedSizeSampler, {"users_per_round": 2.5}, "users_per_round must be an integer"),
        (FixedSizeSampler, {"users_per_client": -1}, "users_per_client must be"),
        (FixedSizeSampler, {"num_users": 0}, "num_users must be"),
        (PoissonSampler, {"users_per_round": 100.5}, "at most the number of users"),
        (PoissonSampler, {"users_per_round": 0}, "users_per_round must be .*above 0"),
        (PoissonSampler, {"users_per_round": float("nan")}, "users_per_round must be a finite number"),
        (
            PoissonSampler,
            {"users_per_client": 2},
            "users_per_client=1, got users_per_client=2.*shift every later group",
        ),
    ],
)
def test_impossible_settings_are_refused_in_one_line(kind, changed, message):
    with pytest.raises(ValueError, match=message) as caught:
        kind(**{"num_users": 100, "users_per_round": 16, "seed": 0, **changed})
    assert "\n" not in str(caught.value)


def test_a_negative_round_is_refused():
    for kind in (FixedSizeSampler, PoissonSampler):
        with pytest.raises(ValueError, match="round must be"):
            kind(num_users=3, users_per_round=1, seed=0).cohort(-1)
