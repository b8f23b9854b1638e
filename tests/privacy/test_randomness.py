"""The tests of cohorts and noise: uniform p-values where all is well, small ones where it is not."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats
from small import make_cohort

from fedemb.core.types import Cohort
from fedemb.data.cyclic import CyclicSampler
from fedemb.data.sampling import FixedSizeSampler, PoissonSampler
from fedemb.privacy.randomness import Attendance, inclusion_p_value, largest_correlation, reuse_p_value

COHORTS = 100


def p_value(sampler, rate):
    return inclusion_p_value(Attendance.of(map(sampler.cohort, range(COHORTS)), sampler.num_users), rate)


@pytest.mark.parametrize("kind", ["fixed", "poisson"])
@pytest.mark.parametrize("per_round", [1, 10, 30, 40])
def test_false_alarms_are_as_rare_as_they_should_be(kind, per_round):
    """60 samplers at the claimed rate: 3 p-values below 0.05 expected, more than 12 with a chance below 1e-4."""
    made = {"fixed": FixedSizeSampler, "poisson": PoissonSampler}[kind]
    samplers = [made(num_users=40, users_per_round=per_round, seed=seed) for seed in range(60)]
    assert sum(p_value(sampler, per_round / 40) < 0.05 for sampler in samplers) <= 12


def test_a_rate_of_clients_for_one_of_users_is_seen():
    sampler = FixedSizeSampler(num_users=40, users_per_round=8, users_per_client=2, seed=0)
    assert p_value(sampler, 8 / 40) > 0.01
    assert p_value(sampler, 4 / 40) < 1e-9
    assert p_value(sampler, 6 / 40) < 1e-3


def test_turns_are_no_sample():
    """Everybody equally often is too even."""
    assert p_value(CyclicSampler(num_users=40, users_per_round=8, order=0, seed=0), 8 / 40) < 1e-9


def test_one_user_who_is_drawn_more_often_is_seen():
    counts = 20 + np.random.default_rng(0).integers(-4, 5, 1000)
    counts[7] = 60
    attended = Attendance(cohorts=200, users=1000, counts=counts, repeated=0, shortest_gap=1)
    assert inclusion_p_value(attended, 0.1) < 1e-6


def test_attendance_by_hand():
    rounds = [make_cohort((0, 1), (1, 2), round=0), make_cohort((3,), round=1), make_cohort((0,), round=2)]
    attended = Attendance.of(rounds, 5)
    assert (attended.counts.tolist(), attended.users) == ([2, 2, 1, 1], 5)  # of users 0 to 3; user 4 had no seat
    assert attended.rate == 6 / (5 * 3)
    assert (attended.cohorts, attended.repeated, attended.shortest_gap) == (3, 1, 2)
    assert Attendance.of(rounds[:2], 5).shortest_gap is None
    assert Attendance.of([Cohort(round=0, clients=())], 5).counts.sum() == 0


def test_users_who_are_never_drawn_count_all_the_same():
    """Half of these are: without them, the others' counts of mostly one would look too even."""
    sampler = FixedSizeSampler(num_users=1000, users_per_round=10, seed=0)
    assert p_value(sampler, 10 / 1000) > 0.01


def test_memory_follows_the_seats_and_not_the_users():
    sampler = FixedSizeSampler(num_users=10**9, users_per_round=100, seed=0)
    cohorts = [sampler.cohort(round) for round in range(20)]
    tracemalloc.start()
    found = inclusion_p_value(Attendance.of(cohorts, 10**9), 1e-7)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found > 1e-6
    assert peak < 2e6  # bytes; one number a user would be 8e9


def test_fresh_noise_gives_p_values_that_do_not_cluster_at_zero():
    found = [reuse_p_value(np.random.default_rng(seed).normal(size=(10, 200))) for seed in range(200)]
    assert sum(value < 0.05 for value in found) <= 24  # 10 expected; more with a chance below 1e-4
    assert stats.binom.sf(24, 200, 0.05) < 1e-4


@pytest.mark.parametrize("share", [1.0, -1.0, 0.5])
def test_noise_of_another_round_is_seen_whole_or_in_part_or_turned(share):
    noise = np.random.default_rng(1).normal(size=(30, 500))
    noise[17] = share * noise[4] + (1 - abs(share)) * noise[17]
    assert reuse_p_value(noise) < 1e-6


def test_correlations_by_hand():
    noise = np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0], [-3.0, 3.0, 0.0]])
    assert largest_correlation(noise[:2]) == pytest.approx(0.5)
    assert largest_correlation(noise) == pytest.approx(1.0)


def test_no_noise_is_the_same_every_round():
    assert reuse_p_value(np.zeros((4, 100))) == 0


def test_one_round_cannot_repeat():
    assert reuse_p_value(np.random.default_rng(2).normal(size=(1, 100))) == 1
