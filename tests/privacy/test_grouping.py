"""Groups of rounds: their worst cases bound, their mildest cases are bounded, and little is lost between."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedemb.privacy.accounting import spend
from fedemb.privacy.events import fixed_size_round, poisson_round
from fedemb.privacy.grouping import FEW_ROUNDS, MOST_GROUPS, grouped, mildest_case, worst_case
from fedemb.privacy.pairs import FixedSizeRound, PoissonRound
from fedemb.privacy.pld import certified_epsilon

EPSILONS = np.concatenate([[0.0], np.geomspace(1e-6, 60.0, 200)])
MEMBERS = st.lists(
    st.tuples(st.floats(-7, 0).map(lambda power: 10**power), st.floats(0.1, 30.0)), min_size=2, max_size=6
)


@given(members=MEMBERS, kind=st.sampled_from([FixedSizeRound, PoissonRound]))
@settings(max_examples=150, deadline=None)
def test_a_worst_case_has_the_largest_profile_everywhere(members, kind):
    """Would catch a rate that is lowered too far for the smaller noise, or the wrong end of either coordinate."""
    group = [(kind(sampling_rate=q, noise_ratio=s), 1) for q, s in members]
    worst, count = worst_case(group)
    assert count == len(group)
    for member, _ in group:
        own = member.log_delta(EPSILONS)
        exact = own > -200  # the logarithms of smaller values have lost their last digits
        assert (worst.log_delta(EPSILONS) >= own - 1e-8)[exact].all()


def test_a_fixed_size_worst_case_keeps_the_total_variation():
    """The rate falls where the noise does: the profile at 0 is the members' largest, not that of the largest rate."""
    group = [(FixedSizeRound(sampling_rate=0.01, noise_ratio=s), 1) for s in (1.0, 2.0)]
    wide = [(FixedSizeRound(sampling_rate=q, noise_ratio=s), 1) for q, s in ((0.01, 1.0), (0.015, 2.0))]
    assert worst_case(group)[0].sampling_rate == pytest.approx(0.01, rel=1e-9)
    assert 0.01 <= worst_case(wide)[0].sampling_rate < 0.011


@pytest.mark.parametrize("kind", [FixedSizeRound, PoissonRound])
@pytest.mark.parametrize("order", [0, 1])
def test_a_mildest_case_tells_less_than_any_member(kind, order):
    """The concrete pairs' profiles, by their masses on a fine grid, in either order."""
    edges = np.linspace(-20, 20, 40_001)
    middle = np.concatenate([[-20.0], (edges[1:] + edges[:-1]) / 2, [20.0]])

    def profile(round_, epsilon: float) -> float:
        masses = [np.exp(masses) for masses in round_.attack_log_masses(edges)]
        one, other = masses[order], masses[1 - order]
        return float(np.maximum(one - np.exp(epsilon) * other, 0)[np.isfinite(middle)].sum())

    group = [(kind(sampling_rate=q, noise_ratio=s), 1) for q, s in ((0.2, 0.9), (0.3, 1.1), (0.25, 0.7))]
    mildest, _ = mildest_case(group)
    for epsilon in (0.0, 0.1, 0.5, 1.0, 2.0):
        assert all(profile(mildest, epsilon) <= profile(member, epsilon) + 1e-6 for member, _ in group)


def schedule(kind: str, count: int, *, rate: float, low: float, high: float):
    """Rounds of one rate whose noise rises from `low` to `high` (z)."""
    noises = np.linspace(low, high, count)
    pair = FixedSizeRound if kind == "fixed" else PoissonRound
    return [(pair(sampling_rate=rate, noise_ratio=float(z) / 2), 1) for z in noises]


@pytest.mark.parametrize("kind", ["fixed", "poisson"])
@pytest.mark.parametrize(("rate", "low", "high"), [(0.0256, 1.0, 5.0), (1e-3, 0.6, 2.0), (0.002, 2.0, 8.0)])
def test_grouping_loses_less_than_half_a_percent(kind, rate, low, high):
    rounds = schedule(kind, 160, rate=rate, low=low, high=high)
    groups = grouped(rounds, 1e-6)
    assert 1 < len(groups) < 160
    assert sorted(id(item[0]) for group in groups for item in group) == sorted(id(item[0]) for item in rounds)
    exact = certified_epsilon(rounds, 1e-6).epsilon
    assert exact * (1 - 1e-3) <= certified_epsilon([worst_case(g) for g in groups], 1e-6).epsilon <= exact * 1.005


def test_a_cloud_of_rates_and_noises_is_grouped_too():
    random = np.random.default_rng(0)
    rates, noises = np.exp(random.uniform(np.log(1e-3), np.log(4e-3), 150)), random.uniform(1.5, 5.0, 150)
    rounds = [
        (FixedSizeRound(sampling_rate=float(q), noise_ratio=float(z) / 2), 1)
        for q, z in zip(rates, noises, strict=True)
    ]
    exact = certified_epsilon(rounds, 1e-6).epsilon
    found = certified_epsilon([worst_case(g) for g in grouped(rounds, 1e-6)], 1e-6).epsilon
    assert exact * (1 - 1e-3) <= found <= exact * 1.005


def test_kinds_never_share_a_group():
    rounds = schedule("fixed", 40, rate=0.01, low=1.0, high=2.0) + schedule("poisson", 40, rate=0.01, low=1.0, high=2.0)
    assert all(len({type(round_) for round_, _ in group}) == 1 for group in grouped(rounds, 1e-6))


def test_few_rounds_stay_alone():
    rounds = schedule("fixed", FEW_ROUNDS, rate=0.01, low=1.0, high=2.0)
    assert [worst_case(group) for group in grouped(rounds, 1e-6)] == rounds


@pytest.mark.parametrize("kind", ["fixed", "poisson"])
def test_thousands_of_settings_are_priced_in_groups(kind):
    """Certified above the attack, and between the prices of the mildest and of the harshest rounds for all."""
    noises = np.linspace(1.0, 2.0, 2_000)
    make = {
        "fixed": lambda z: fixed_size_round(users=10**6, users_per_round=3_600, noise_multiplier=z),
        "poisson": lambda z: poisson_round(sampling_rate=0.0036, noise_multiplier=z),
    }[kind]
    spent = spend([(make(float(z)), 1) for z in noises], 1e-6)
    # as many rounds in twenty steps, each priced with its largest and with its smallest noise
    low, high = (
        spend([(make(float(part[end])), len(part)) for part in np.array_split(noises, 20)], 1e-6) for end in (-1, 0)
    )
    assert low.epsilon * (1 - 1e-3) <= spent.epsilon <= high.epsilon * 1.005
    assert 0.85 * spent.epsilon <= spent.epsilon_attack <= spent.epsilon
    assert MOST_GROUPS <= 1024
