"""The cost of one user's participations against enumeration of all patterns, and the prices that follow."""

from itertools import combinations, pairwise, product

import numpy as np
import pytest
from dp_accounting import (
    ComposedDpEvent,
    GaussianDpEvent,
    NonPrivateDpEvent,
    SampledWithoutReplacementDpEvent,
    SelfComposedDpEvent,
    get_epsilon_gaussian,
)
from matrices import dense

from fedemb.privacy.accounting import epsilon, spend
from fedemb.privacy.banded import BandedToeplitz
from fedemb.privacy.event_types import CorrelatedGaussianDpEvent, SeparatedDpEvent
from fedemb.privacy.participation import Rows, precision, squared_sensitivity
from fedemb.privacy.strategy import Tree

BANDS = [BandedToeplitz.of(c) for c in ((1.0,), (2.0, 1.0), (3.0, 2.0, 1.5))]
STRATEGIES = [*BANDS, Tree(rounds_per_tree=2), Tree(rounds_per_tree=4)]


def patterns(rounds, separation):
    """All sets of rounds that are `separation` apart in pairs."""
    for size in range(len(rounds) + 1):
        for chosen in combinations(rounds, size):
            if all(later - earlier >= separation for earlier, later in pairwise(chosen)):
                yield chosen


def enumerated(matrix, charges, separation):
    """Largest sum_r c_r (C u)_r^2 over patterns and signs: each charge of a row is another look at it."""
    rounds = matrix.shape[1]
    repeats = np.array([charges.get(round, 0) for round in range(rounds)])
    worst = 0.0
    for chosen in patterns(sorted(charges), separation):
        for signs in product((1, -1), repeat=len(chosen)):
            user = np.zeros(rounds)
            user[list(chosen)] = signs
            worst = max(worst, float(repeats @ (matrix @ user) ** 2))
    return worst


def separated(ratio, span, separation, charges, shortest=1.0):
    """Events with counts."""
    release = CorrelatedGaussianDpEvent(ratio, span, shortest)
    return [(SeparatedDpEvent(round, 2 * separation + 1, 2, release), count) for round, count in charges.items()]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("extra", [0, 1, 2])
@pytest.mark.parametrize("rounds", [1, 4, 8])
def test_once_charged_rows_cost_what_enumeration_says(strategy, extra, rounds):
    """Columns that the end cuts off are priced as whole ones; with room after the last round the price is exact."""
    separation = strategy.span + extra
    charges = dict.fromkeys(range(rounds), 1)
    bound = squared_sensitivity(charges, range(rounds), span=strategy.span, separation=separation)
    assert bound == -(-rounds // separation)
    assert enumerated(dense(strategy, rounds), charges, separation) <= bound + 1e-12
    if strategy in BANDS:
        longer = np.vstack([dense(strategy, rounds + strategy.span)[:, :rounds]])
        whole = max((longer[:, list(chosen)].sum(1) ** 2).sum() for chosen in patterns(range(rounds), separation))
        assert whole == pytest.approx(bound)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_repeated_rows_cost_at_least_what_enumeration_says(strategy):
    """Crashes that repeat the last rounds, in every mix of charges 1, 2 and 3."""
    rounds, random = 7, np.random.default_rng(0)
    for _ in range(40):
        charges = dict(enumerate(random.integers(1, 4, rounds).tolist()))
        for separation in (strategy.span, strategy.span + 1):
            bound = squared_sensitivity(charges, range(rounds), span=strategy.span, separation=separation)
            assert enumerated(dense(strategy, rounds), charges, separation) <= bound + 1e-12
            tops = [max(charges.get(row, 0) for row in range(j, j + strategy.span)) for j in range(rounds)]
            assert bound == max(sum(tops[j] for j in chosen) for chosen in patterns(range(rounds), separation))


def test_repeated_rows_without_a_band_are_exact():
    charges = {0: 1, 1: 3, 2: 1, 3: 2, 4: 2}
    assert squared_sensitivity(charges, range(5), span=1, separation=2) == 5  # 1 and 3, or 1 and 4
    assert enumerated(np.eye(5), charges, 2) == 5


def test_a_crash_costs_the_rounds_that_can_see_it():
    """Span 3, separation 5, rows 4 and 5 of 10 twice: a participation in 2 .. 5 costs 2, and one 5 rounds later 1."""
    charges = {**dict.fromkeys(range(10), 1), 4: 2, 5: 2}
    assert squared_sensitivity(charges, range(10), span=3, separation=5) == 3
    assert squared_sensitivity(charges, range(10), span=3, separation=1) == 10 + 4


def test_gaps_between_charged_rounds_are_time_too():
    assert squared_sensitivity({0: 1, 10: 1}, [0, 10], span=1, separation=10) == 2
    assert squared_sensitivity({0: 1, 9: 1}, [0, 9], span=1, separation=10) == 1


def test_rows_of_a_later_kind_are_charged_for_earlier_answers():
    """A participation in round 1 enters row 2, which has another, smaller noise: it must not go unpaid."""
    first, second = (Rows(noise_ratio=s, span=2, separation=4, longest_gap=5, shortest=1.0) for s in (4.0, 1.0))
    assert precision({first: {0: 1, 1: 1}, second: {2: 1, 3: 1}}) == pytest.approx(1 / 16 + 1)
    # rounds 1 and 5 are 4 apart: both enter rows of the second kind, 2 and 5
    assert precision({first: {0: 1, 1: 1}, second: {2: 1, 3: 1, 4: 1, 5: 1}}) == pytest.approx(1 / 16 + 2)


def test_long_runs():
    charges = dict.fromkeys(range(100_000), 1)
    assert squared_sensitivity(charges, range(100_000), span=50, separation=100) == 1000


def test_reference_prices():
    """z = 8, three participations: s = 4. Tree of 2048 rounds, 12 levels, z = 7 before the division by sqrt(12)."""
    assert epsilon(separated(4.0, 100, 100, dict.fromkeys(range(300), 1)), 1e-6) == pytest.approx(1.9254, abs=5e-5)
    tree = Tree(rounds_per_tree=2048)
    assert tree.levels == 12
    rows = separated(7 / 2 / 12**0.5, tree.span, 2048, dict.fromkeys(range(2048), 1), tree.shortest)
    assert epsilon(rows, 1e-7) == pytest.approx(5.2877, abs=5e-5)
    assert epsilon(rows, 1e-7) == pytest.approx(get_epsilon_gaussian(7 / 2 / 12**0.5, 1e-7), rel=1e-9)


def test_independent_noise_costs_a_user_its_own_rounds_only():
    events = [(SeparatedDpEvent(round, 10, 1, GaussianDpEvent(4.0)), 1) for round in range(30)]
    assert spend(events, 1e-6).epsilon == pytest.approx(1.9254, abs=5e-5)
    assert spend([(GaussianDpEvent(4.0), 3)], 1e-6).epsilon == pytest.approx(spend(events, 1e-6).epsilon, rel=1e-12)


def test_the_attack_claims_what_the_users_of_the_first_round_went_through():
    """Everybody again within 11 rounds: of 30 rounds, three for certain; of 30 with a span of 10, two run out."""
    certain = get_epsilon_gaussian(4.0 / 3**0.5, 1e-6), get_epsilon_gaussian(4.0 / 2**0.5, 1e-6)
    plain = [(SeparatedDpEvent(round, 21, 2, GaussianDpEvent(4.0)), 1) for round in range(30)]
    assert spend(plain, 1e-6).epsilon_attack == pytest.approx(certain[0], rel=1e-9)
    banded = separated(4.0, 10, 10, dict.fromkeys(range(30), 1))
    assert spend(banded, 1e-6).epsilon_attack == pytest.approx(certain[1], rel=1e-9)
    assert spend(separated(4.0, 10, 10, dict.fromkeys(range(30), 1), 0.0), 1e-6).epsilon_attack == 0
    assert spend(separated(4.0, 10, 10, dict.fromkeys(range(9), 1)), 1e-6).epsilon_attack == 0
    assert spend(separated(4.0, 1, 10, {0: 1, 25: 1}), 1e-6).epsilon_attack == pytest.approx(
        get_epsilon_gaussian(4.0, 1e-6), rel=1e-9
    )


def test_runs_are_priced_each_for_itself_and_added_up():
    """The same rounds of two runs are four participations, in whatever form the other run stands in the list."""
    run = separated(4.0, 5, 5, dict.fromkeys(range(10), 1))
    other = ComposedDpEvent([SelfComposedDpEvent(event, count) for event, count in run])
    expected = get_epsilon_gaussian(4.0 / 4**0.5, 1e-6)
    assert epsilon([*run, (other, 1)], 1e-6) == pytest.approx(expected, rel=1e-9)
    assert epsilon([(other, 2)], 1e-6) == pytest.approx(expected, rel=1e-9)
    assert epsilon([(ComposedDpEvent([other, *(event for event, _ in run)]), 1)], 1e-6) == pytest.approx(expected)


def test_crashes_of_two_runs_do_not_hide_each_other():
    """Row 0 twice in one run, row 1 twice in the other: 2 + 2, while rows counted in common would say 3."""
    one, two = (separated(4.0, 1, 2, charges) for charges in ({0: 2, 1: 1}, {0: 1, 1: 2}))
    events = [*one, (ComposedDpEvent([SelfComposedDpEvent(event, count) for event, count in two]), 1)]
    assert epsilon(events, 1e-6) == pytest.approx(get_epsilon_gaussian(4.0 / 4**0.5, 1e-6), rel=1e-9)


def test_separated_and_sampled_rounds_mix():
    sampled = (SampledWithoutReplacementDpEvent(1000, 50, GaussianDpEvent(2.0)), 20)
    run = separated(4.0, 5, 5, dict.fromkeys(range(10), 1))
    mixed, same = spend([*run, sampled], 1e-6), spend([(GaussianDpEvent(4.0), 2), sampled], 1e-6)
    assert mixed.epsilon == pytest.approx(same.epsilon, rel=1e-9)
    assert 0 < mixed.epsilon_attack < same.epsilon_attack  # the last participation may not have run out


def test_noise_of_zero_and_no_noise_are_not_private():
    for release in (GaussianDpEvent(0.0), CorrelatedGaussianDpEvent(0.0, 2), NonPrivateDpEvent()):
        assert spend([(SeparatedDpEvent(0, 5, 1, release), 1)], 1e-5).epsilon == float("inf")


def test_correlated_noise_without_separation_is_refused_with_the_remedy():
    release = CorrelatedGaussianDpEvent(1.0, 16)
    for event in (release, SampledWithoutReplacementDpEvent(100, 10, release), SelfComposedDpEvent(release, 3)):
        with pytest.raises(ValueError, match="take sampler=cyclic with users_per_round <= N/16"):
            epsilon(event, 1e-5)


def test_both_ends_meet_where_everybody_takes_part_again_after_equally_many_rounds():
    """M divides N: the users of the first round take part as often as anybody can."""
    found = spend([(SeparatedDpEvent(round, 100, 10, GaussianDpEvent(4.0)), 1) for round in range(30)], 1e-6)
    assert found.epsilon_attack == pytest.approx(found.epsilon, rel=1e-9)
