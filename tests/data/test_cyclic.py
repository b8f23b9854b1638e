"""All users in turn: who is in which round, how far apart, and what a round costs."""

import tracemalloc
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, NeighboringRelation
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedemb.data.cyclic import CyclicSampler, Permutation
from fedemb.privacy.event_types import CorrelatedGaussianDpEvent, SeparatedDpEvent

ALPHA = 1e-6


def users_of(cohort):
    return [user for client in cohort.clients for user in client.users]


def sampler_of(num_users, users_per_round, **others):
    return CyclicSampler(
        **{"num_users": num_users, "users_per_round": users_per_round, "order": 0, "seed": 1, **others}
    )


@pytest.mark.parametrize("size", [*range(1, 40), 63, 64, 65, 1000, 4097])
def test_the_order_is_a_permutation(size):
    for seed in range(3):
        numbers = Permutation(size=size, seed=seed)(np.arange(size, dtype=np.uint64))
        assert sorted(numbers.tolist()) == list(range(size))


@given(st.integers(1, 10**12), st.integers(0, 10), st.data())
def test_the_order_stays_in_range_and_repeats_nobody(size, seed, data):
    first = data.draw(st.integers(0, size - 1))
    places = np.arange(first, min(size, first + 200), dtype=np.uint64)
    numbers = Permutation(size=size, seed=seed)(places).tolist()
    assert len(set(numbers)) == len(numbers) == len(places)
    assert max(numbers) < size


def test_every_user_is_as_likely_at_every_place():
    """Over 4000 orders of 12 users, for the first, a middle and the last place; rejects a tilt of 20 %."""
    size, orders = 12, 4000
    table = np.array([Permutation(size=size, seed=seed)(np.arange(size, dtype=np.uint64)) for seed in range(orders)])
    threshold = stats.chi2.isf(ALPHA, size - 1)
    for place in (0, 5, 11):
        counts = np.bincount(table[:, place].astype(int), minlength=size)
        assert ((counts - orders / size) ** 2 / (orders / size)).sum() < threshold
    assert stats.ncx2.sf(threshold, size - 1, orders * 0.2**2) > 0.99


def test_neighbours_in_the_order_are_no_neighbours_by_id():
    numbers = Permutation(size=10_000, seed=0)(np.arange(10_000, dtype=np.uint64)).astype(float)
    bound = stats.norm.isf(ALPHA / 2) / 100
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < bound
    assert abs(np.corrcoef(numbers, np.arange(10_000))[0, 1]) < bound


@pytest.mark.parametrize(
    ("num_users", "users_per_round"), [(12, 3), (12, 12), (13, 3), (17, 5), (7, 4), (5, 1), (1, 1)]
)
def test_everybody_once_a_cycle_and_far_apart(num_users, users_per_round):
    """Exact separation of floor(N / M), and a return after one round more at the latest."""
    sampler, rounds = sampler_of(num_users, users_per_round), 60
    turns = [user for round in range(rounds) for user in sorted(users_of(sampler.cohort(round)))]
    assert all(len(set(users_of(sampler.cohort(round)))) == users_per_round for round in range(rounds))
    seen = defaultdict(list)
    for position, user in enumerate(turns):
        seen[user].append(position // users_per_round)
    assert sampler.separation == num_users // users_per_round
    gaps = {later - earlier for taken in seen.values() for earlier, later in pairwise(taken)}
    assert min(gaps) == sampler.separation
    assert max(gaps) <= sampler.separation + 1
    assert len(seen) == num_users
    for first in range(0, rounds * users_per_round - num_users + 1, num_users):
        if num_users % users_per_round == 0:
            assert sorted(turns[first : first + num_users]) == list(range(num_users))
    counts = Counter(turns)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_cohort_is_a_function_of_the_round():
    sampler, again = (sampler_of(1000, 48, users_per_client=4) for _ in range(2))
    forward = [sampler.cohort(round) for round in range(30)]
    assert forward == [again.cohort(round) for round in reversed(range(30))][::-1]
    assert all(
        len(client.users) == 4 and client.round == cohort.round for cohort in forward for client in cohort.clients
    )
    assert sampler.planned_clients == len(forward[0].clients) == 12


def test_another_seed_regroups_the_same_users_and_another_order_takes_others():
    """A resumed run has a fresh seed in release mode: its users must still come in the order that was priced."""
    one, reseeded, reordered = sampler_of(1000, 50), sampler_of(1000, 50, seed=2), sampler_of(1000, 50, order=1)
    assert users_of(one.cohort(3)) != users_of(reseeded.cohort(3))
    assert sorted(users_of(one.cohort(3))) == sorted(users_of(reseeded.cohort(3)))
    assert sorted(users_of(one.cohort(3))) != sorted(users_of(reordered.cohort(3)))


def test_users_are_shuffled_afresh_in_every_cycle():
    """Groups by place in the order would put the same users together in every cycle."""
    sampler = sampler_of(60, 30, users_per_client=3)
    groups = [{frozenset(client.users) for client in sampler.cohort(round).clients} for round in (0, 2, 4)]
    assert len(groups[0] & groups[1]) <= 1
    assert len(groups[1] & groups[2]) <= 1


def test_rounds_past_the_cap_are_refused():
    sampler = sampler_of(100, 30, participations=2)  # separation 3
    counts = Counter(user for round in range(6) for user in users_of(sampler.cohort(round)))
    assert max(counts.values()) == 2
    for ask in (sampler.cohort, lambda round: sampler.event(GaussianDpEvent(1.0), round)):
        ask(5)
        with pytest.raises(ValueError, match=r"participations=2 allows rounds=1 \.\. 6"):
            ask(6)


def test_the_event_names_round_and_separation():
    sampler, release = sampler_of(1000, 64), CorrelatedGaussianDpEvent(0.5, 15)
    assert sampler.event(release, 7) == SeparatedDpEvent(7, 1000, 64, release)
    assert sampler.relation is NeighboringRelation.REPLACE_ONE
    with pytest.raises(ValueError, match="users_per_round <= N/16"):
        sampler.event(CorrelatedGaussianDpEvent(0.5, 16), 0)


def test_memory_does_not_grow_with_the_number_of_users():
    sampler = sampler_of(10**8, 1000)
    sampler.cohort(0)
    tracemalloc.start()
    users = users_of(sampler.cohort(123_456))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(users)) == 1000
    assert peak < 2e6


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_users": 0}, "num_users"),
        ({"users_per_round": 0}, "users_per_round"),
        ({"users_per_round": 101}, "at most the number of users"),
        ({"users_per_client": 3}, "users_per_client must divide"),
        ({"participations": 0}, "participations"),
        ({"order": -1}, "order"),
    ],
)
def test_unusable_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        sampler_of(**{"num_users": 100, "users_per_round": 10, **settings})
    with pytest.raises(ValueError, match="round"):
        sampler_of(100, 10).cohort(-1)
