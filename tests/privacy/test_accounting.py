"""Prices against reference values, closed forms and dp-accounting; z is noise std / clip norm throughout."""

from __future__ import annotations

import math
import random

import pytest
from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    NonPrivateDpEvent,
    NoOpDpEvent,
    PoissonSampledDpEvent,
    SampledWithoutReplacementDpEvent,
    SelfComposedDpEvent,
    get_epsilon_gaussian,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from fedemb.privacy.accounting import affordable_rounds, default_delta, epsilon, spend
from fedemb.privacy.crosscheck import pld_epsilon, rdp_epsilon


def fixed(users: int, sampled: int, z: float) -> DpEvent:
    return SampledWithoutReplacementDpEvent(users, sampled, GaussianDpEvent(z / 2))


def poisson(users: int, sampled: int, z: float) -> DpEvent:
    return PoissonSampledDpEvent(sampled / users, GaussianDpEvent(z / 2))


# users, sampled, rounds, z, delta, certified, attack: computed by an independent implementation on a fine grid
REFERENCE = [
    (10_000, 256, 200, 2.0, 1e-5, 2.6790, 2.3839),
    (100_000, 1_000, 1_000, 2.0, 1e-6, 2.5128, 2.1245),
    (1_000_000, 10_000, 1_000, 4.0, 1e-7, 0.9251, 0.8106),
    (10_000, 10_000, 50, 20.0, 1e-5, 2.9432, 2.9432),
    (1_000, 1, 1, 1.0, 1e-4, 0.0431, 0.0431),
]


@pytest.mark.parametrize(("users", "sampled", "rounds", "z", "delta", "certified", "attack"), REFERENCE)
def test_reference_intervals(users, sampled, rounds, z, delta, certified, attack):
    """Would catch q = clients / users, a missing 2 in the sensitivity, and a max taken after composition."""
    spent = spend([(fixed(users, sampled, z), rounds)], delta)
    assert spent.epsilon == pytest.approx(certified, rel=0.005)
    assert spent.epsilon_attack == pytest.approx(attack, rel=0.005)
    assert spent.epsilon_attack <= spent.epsilon
    assert spent.delta == delta


def test_the_certificate_holds_against_an_adaptive_attack():
    """An attacker who picks v by what was seen so far reaches 2.3977, above the better order after composition."""
    assert epsilon([(fixed(10_000, 256, 2.0), 200)], 1e-5) > 2.3977


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [(1, 0.0615), (10, 0.1074), (100, 0.2841), (500, 0.6434), (1000, 0.9251), (2000, 1.3352), (5000, 2.1816)],
)
def test_reference_epsilon_by_rounds(rounds, expected):
    assert epsilon([(fixed(1_000_000, 10_000, 4.0), rounds)], 1e-7) == pytest.approx(expected, rel=0.005)


@pytest.mark.parametrize(("delta", "expected"), [(1e-6, 0.8272), (1e-8, 1.0150), (1e-10, 1.1770), (1e-12, 1.3217)])
def test_reference_epsilon_by_delta(delta, expected):
    assert epsilon([(fixed(1_000_000, 10_000, 4.0), 1000)], delta) == pytest.approx(expected, rel=0.005)


def test_tiny_epsilons_need_a_fine_grid():
    """A grid of 1e-4 says 0.0219, one of 1e-3 says 0.0635."""
    assert epsilon([(fixed(10_000_000, 1_000, 4.0), 5000)], 1e-8) == pytest.approx(0.0189, rel=0.005)


@pytest.mark.parametrize(
    ("z", "rounds", "delta"), [(20.0, 50, 1e-5), (1.0, 1, 1e-6), (4.0, 5000, 1e-12), (0.1, 3, 1e-9)]
)
def test_everybody_every_round_is_one_gaussian(z, rounds, delta):
    """Balle and Wang 2018: T rounds at s are one at s / sqrt(T)."""
    exact = get_epsilon_gaussian(z / 2 / math.sqrt(rounds), delta)
    for event in (fixed(500, 500, z), poisson(500, 500, z), GaussianDpEvent(z / 2)):
        spent = spend(SelfComposedDpEvent(event, rounds), delta)
        assert spent.epsilon == pytest.approx(exact, rel=1e-9)
        assert spent.epsilon_attack == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(
    ("users", "sampled", "rounds", "z", "delta", "expected"),
    [
        (10_000, 256, 200, 2.0, 1e-5, 1.4002),
        (100_000, 1_000, 1_000, 2.0, 1e-6, 1.3745),
        (1_000, 1, 1, 1.0, 1e-4, 0.0031),
    ],
)
def test_poisson_rounds_are_tight_and_agree_with_dp_accounting(users, sampled, rounds, z, delta, expected):
    spent = spend([(poisson(users, sampled, z), rounds)], delta)
    assert spent.epsilon == pytest.approx(expected, abs=6e-5, rel=0.002)
    assert spent.epsilon_attack == pytest.approx(spent.epsilon, rel=0.002)
    assert pld_epsilon([(poisson(users, sampled, z), rounds)], delta) == pytest.approx(spent.epsilon, rel=0.01)


@pytest.mark.parametrize(
    ("users", "sampled", "rounds", "z", "delta", "expected"),
    [
        (10_000, 256, 200, 2.0, 1e-5, 4.4337),
        (100_000, 1_000, 1_000, 2.0, 1e-6, 4.0212),
        (10_000, 10_000, 50, 20.0, 1e-5, 3.1890),
    ],
)
def test_rdp_is_a_looser_bound_by_the_known_amount(users, sampled, rounds, z, delta, expected):
    """Would catch the flip of dp-accounting's convention: twice the noise ratio gives 1.72 in the first row."""
    rdp = rdp_epsilon([(fixed(users, sampled, z), rounds)], delta)
    assert rdp == pytest.approx(expected, rel=0.005)
    assert epsilon([(fixed(users, sampled, z), rounds)], delta) <= rdp


def test_rdp_follows_a_flipped_convention(monkeypatch):
    """An accountant that reads Gaussian(2 s) as s must give the same epsilon."""
    from fedemb.privacy import crosscheck

    events = [(fixed(10_000, 256, 2.0), 200)]
    now = rdp_epsilon(events, 1e-5)

    class Flipped(crosscheck.RdpAccountant):
        def compose(self, event, count=1):
            return super().compose(crosscheck._rescaled(event, 0.5), count)

    monkeypatch.setattr(crosscheck, "RdpAccountant", Flipped)
    assert rdp_epsilon(events, 1e-5) == pytest.approx(now, rel=1e-9)


def test_cross_checks_refuse_what_they_do_not_know():
    with pytest.raises(ValueError, match="RdpAccountant cannot price"):
        rdp_epsilon([(poisson(100, 10, 1.0), 1)], 1e-5)
    with pytest.raises(ValueError, match="PLDAccountant cannot price"):
        pld_epsilon([(fixed(100, 10, 1.0), 1)], 1e-5)
    assert rdp_epsilon([(fixed(100, 10, 0.0), 1)], 1e-5) == math.inf


def test_without_noise_epsilon_is_infinite():
    for event in (NonPrivateDpEvent(), GaussianDpEvent(0.0), fixed(100, 10, 0.0), poisson(100, 10, 0.0)):
        spent = spend([(fixed(100, 10, 1.0), 5), (event, 1)], 1e-5)
        assert spent.epsilon == spent.epsilon_attack == math.inf


def test_nothing_costs_nothing():
    for events in (NoOpDpEvent(), [], [(fixed(100, 10, 1.0), 0)], ComposedDpEvent([])):
        assert spend(events, 1e-5).epsilon == 0


def test_a_delta_that_covers_failure_outright_costs_nothing():
    """Sampled with chance 1e-7 once: delta = 1e-6 covers even publication of the user."""
    assert spend([(fixed(10_000_000, 1, 0.5), 1)], 1e-6).epsilon == 0


def test_lists_in_any_form_and_order_cost_the_same():
    one, two, three = fixed(1000, 50, 3.0), fixed(1000, 80, 5.0), poisson(1000, 20, 2.0)
    events = [(one, 30), (two, 20), (three, 10), (GaussianDpEvent(4.0), 1)]
    expected = spend(events, 1e-5)
    random.Random(1).shuffle(events)
    assert spend(events, 1e-5).epsilon == pytest.approx(expected.epsilon, rel=1e-9)
    flat = [(event, 1) for event, count in events for _ in range(count)]
    assert spend(flat, 1e-5).epsilon == pytest.approx(expected.epsilon, rel=1e-9)
    nested = ComposedDpEvent([SelfComposedDpEvent(event, count) for event, count in events])
    assert spend(nested, 1e-5).epsilon_attack == pytest.approx(expected.epsilon_attack, rel=1e-9)


def test_equal_rounds_that_look_different_cost_the_same():
    """Homogeneous = heterogeneous with settings that differ by 1e-9."""
    same = epsilon([(fixed(10_000, 256, 2.0), 200)], 1e-5)
    split = epsilon([(fixed(10_000, 256, 2.0), 80), (fixed(10_000, 256, 2.0 + 1e-9), 120)], 1e-5)
    assert split == pytest.approx(same, rel=1e-3)


def test_a_mixture_lies_between_its_parts():
    wide, narrow = (fixed(10_000, 256, 2.0), 100), (poisson(10_000, 256, 2.0), 100)
    mixed = spend([wide, narrow], 1e-5)
    assert max(epsilon([wide], 1e-5), epsilon([narrow], 1e-5)) < mixed.epsilon
    assert epsilon([(narrow[0], 200)], 1e-5) < mixed.epsilon < epsilon([(wide[0], 200)], 1e-5)
    assert 0.8 * mixed.epsilon < mixed.epsilon_attack <= mixed.epsilon


def test_several_releases_of_one_cohort_are_one_gaussian():
    """1 / s^2 adds up: s = 5 / 3 and 5 / 4 are s = 1, and 9 times s = 3 is s = 1."""
    expected = epsilon([(fixed(10_000, 256, 2.0), 50)], 1e-5)
    for release in (
        ComposedDpEvent([GaussianDpEvent(5 / 3), GaussianDpEvent(5 / 4)]),
        SelfComposedDpEvent(GaussianDpEvent(3.0), 9),
    ):
        event = SampledWithoutReplacementDpEvent(10_000, 256, release)
        assert epsilon([(event, 50)], 1e-5) == pytest.approx(expected, rel=1e-6)


@given(
    users=st.integers(2_000, 1_000_000),
    share=st.floats(1e-3, 0.3),
    rounds=st.integers(1, 2000),
    z=st.floats(0.7, 20.0),
    kind=st.sampled_from([fixed, poisson]),
)
@settings(max_examples=12, deadline=None)
def test_monotone_in_every_argument(users, share, rounds, z, kind):
    """Up in users per round and rounds; down in noise, population and delta. The bound itself is within 1e-3."""
    sampled = max(1, int(users * share))
    base = epsilon([(kind(users, sampled, z), rounds)], 1e-6) * (1 + 1e-3)
    assert epsilon([(kind(users, sampled, 1.1 * z), rounds)], 1e-6) <= base
    assert epsilon([(kind(2 * users, sampled, z), rounds)], 1e-6) <= base
    assert epsilon([(kind(users, max(1, sampled // 2), z), rounds)], 1e-6) <= base
    assert epsilon([(kind(users, sampled, z), max(1, rounds // 2))], 1e-6) <= base
    assert epsilon([(kind(users, sampled, z), rounds)], 1e-5) <= base


@pytest.mark.parametrize("kind", [fixed, poisson])
@pytest.mark.parametrize(
    ("users", "sampled", "rounds", "z", "delta"),
    [
        (10_000_000, 1, 5000, 0.1, 1e-12),
        (10_000_000, 1, 5000, 50.0, 1e-12),
        (10_000_000, 9_999_999, 5000, 0.1, 1e-12),
        (10_000_000, 9_999_999, 5000, 50.0, 1e-12),
        (10_000, 50, 5000, 0.01, 1e-5),
        (10_000, 5_000, 100, 1e4, 1e-5),
        (10, 9, 100_000, 1.0, 0.5),
    ],
)
def test_extremes_give_an_interval(kind, users, sampled, rounds, z, delta):
    spent = spend([(kind(users, sampled, z), rounds)], delta)
    assert 0 <= spent.epsilon_attack <= spent.epsilon < math.inf


@pytest.mark.parametrize("delta", [0.0, 1e-13, 1.0, -1e-5, math.nan])
def test_unusable_deltas_are_refused(delta):
    with pytest.raises(ValueError, match=r"delta must lie in \[1e-12, 1\)"):
        spend([(fixed(100, 10, 1.0), 1)], delta)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (LaplaceDpEvent(1.0), "no certified price"),
        (PoissonSampledDpEvent(0.1, SelfComposedDpEvent(GaussianDpEvent(1.0), 2)), "no certified price"),
        (SampledWithoutReplacementDpEvent(10, 11, GaussianDpEvent(1.0)), "11 of 10"),
        (PoissonSampledDpEvent(1.5, GaussianDpEvent(1.0)), "sampling_rate"),
        (GaussianDpEvent(math.nan), "noise over sensitivity"),
    ],
)
def test_events_without_a_price_are_refused(event, words):
    with pytest.raises(ValueError, match=words):
        spend(event, 1e-5)


def test_default_delta_is_below_one_in_users():
    assert default_delta(10_000) == pytest.approx(10**-4.4)
    assert all(default_delta(users) < 1 / users for users in (2, 3856, 10**7))
    with pytest.raises(
        ValueError, match=r"^users=1000000000000 gives delta = users \*\* -1.1 = 6.31e-14: set delta= to"
    ):
        default_delta(10**12)
    with pytest.raises(ValueError, match="users"):
        default_delta(1)


def test_affordable_rounds_is_the_last_that_fits():
    """Against a plain search from below, with something spent already."""
    event, spent = fixed(1000, 100, 4.0), [(fixed(1000, 50, 6.0), 7), (GaussianDpEvent(9.0), 1)]
    found = affordable_rounds(spent, lambda count: [(event, count)], delta=1e-5, target_epsilon=2.0, limit=500)
    slow = next(n for n in range(500) if epsilon([*spent, (event, n + 1)], 1e-5) > 2.0)
    assert found == slow > 5
    assert (
        affordable_rounds(spent, lambda count: [(event, count)], delta=1e-5, target_epsilon=2.0, limit=found - 1)
        == found - 1
    )
    assert affordable_rounds(spent, lambda count: [(event, count)], delta=1e-5, target_epsilon=0.1, limit=500) == 0
    assert (
        affordable_rounds([], lambda count: [(NonPrivateDpEvent(), count)], delta=1e-5, target_epsilon=8.0, limit=500)
        == 0
    )
