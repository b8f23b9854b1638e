"""A person with several user ids: every cohort of a small population, against the price of the round."""

from itertools import combinations, product

import numpy as np
import pytest
from dp_accounting import (
    ComposedDpEvent,
    GaussianDpEvent,
    NeighboringRelation,
    NonPrivateDpEvent,
    PoissonSampledDpEvent,
    SampledWithoutReplacementDpEvent,
    SelfComposedDpEvent,
)
from scipy.stats import norm

from fedemb.data.sampling import FixedSizeSampler, PoissonSampler
from fedemb.privacy.accounting import epsilon, spend
from fedemb.privacy.clipping import FlatClipping
from fedemb.privacy.event_types import CorrelatedGaussianDpEvent, NearDpEvent, PersonDpEvent, SeparatedDpEvent
from fedemb.privacy.events import from_plain, to_plain
from fedemb.privacy.gaussian import gaussian_epsilon
from fedemb.privacy.mechanism import Gaussian
from fedemb.privacy.persons import as_group, of_one_id, one_by_one, together
from fedemb.privacy.query import ClippedSum

N, IDS = 5, 2
GRID = np.linspace(-20, 20, 4_001)
EPSILONS = np.array([0.0, 0.1, 0.5, 1.0, 2.0, 4.0])


def cost(sampler, z, ids=IDS):
    """The event of one round of this sampler, clip norm 1, for a person of so many ids."""
    query = ClippedSum(
        clipping=FlatClipping(clip_norm=1.0),
        sum_updates=None,
        planned_clients=2,
    )
    mechanism = Gaussian.from_multiplier(noise_multiplier=z, bound=query.bound)
    event = sampler.event(mechanism.event(query.sensitivity(NeighboringRelation.REPLACE_ONE)), 0)
    return event if ids == 1 else PersonDpEvent(event, ids)


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
        (FixedSizeSampler(num_users=N, users_per_round=1, seed=0), fixed_cohorts(1)),
        (FixedSizeSampler(num_users=N, users_per_round=2, seed=0), fixed_cohorts(2)),
        (PoissonSampler(num_users=N, users_per_round=1, seed=0), poisson_cohorts(1 / N)),
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
    for e, delta in zip(EPSILONS.tolist(), worst.tolist(), strict=True):
        if delta > 1e-8:
            assert spend(cost(sampler, z), delta).epsilon_attack <= e + 1e-6


def test_the_price_of_one_id_is_too_low_for_two():
    """What the bound is for: the same round priced as if the person had one id."""
    z, sampler = 2.0, FixedSizeSampler(num_users=N, users_per_round=2, seed=0)
    left, right = (output(fixed_cohorts(2), (mine, mine, 1, 1, 1), z) for mine in (-1, 1))
    assert not all(within(hockey_stick(left, right), cost(sampler, z, ids=1)))


ROUND = SampledWithoutReplacementDpEvent(1000, 100, GaussianDpEvent(1.0))
FORMS = [
    (GaussianDpEvent(3.0), GaussianDpEvent(1.0)),
    (ROUND, SampledWithoutReplacementDpEvent(1000, 300, GaussianDpEvent(1 / 3))),
    (
        SampledWithoutReplacementDpEvent(10, 5, GaussianDpEvent(1.0)),
        SampledWithoutReplacementDpEvent(10, 10, GaussianDpEvent(1 / 3)),
    ),
    (PoissonSampledDpEvent(1.0, GaussianDpEvent(3.0)), PoissonSampledDpEvent(1.0, GaussianDpEvent(1.0))),
    (
        SeparatedDpEvent(4, 100, 10, CorrelatedGaussianDpEvent(3.0, 5)),
        SeparatedDpEvent(4, 100, 10, CorrelatedGaussianDpEvent(1.0, 5)),
    ),
    (NearDpEvent(GaussianDpEvent(3.0), 1e-9), NearDpEvent(GaussianDpEvent(1.0), 1e-9)),
    (NonPrivateDpEvent(), NonPrivateDpEvent()),
]


@pytest.mark.parametrize(("one", "three"), FORMS)
def test_three_ids_together(one, three):
    assert together(one, 3) == three
    wrapped = ComposedDpEvent([SelfComposedDpEvent(one, 7)])
    assert together(wrapped, 3) == ComposedDpEvent([SelfComposedDpEvent(three, 7)])


def test_two_ids_by_poisson_are_drawn_with_the_chance_of_either():
    event = together(PoissonSampledDpEvent(0.1, GaussianDpEvent(2.0)), 2)
    assert event.sampling_probability == pytest.approx(0.19)
    assert event.event == GaussianDpEvent(1.0)


def test_the_better_bound_counts():
    """Together: exact where both ids take part for certain. One by one: much better where both are rarely drawn."""
    certain = [(PersonDpEvent(GaussianDpEvent(10.0), 2), 4)]
    assert epsilon(certain, 1e-5) == pytest.approx(gaussian_epsilon(10 / 2 / 2, 1e-5))
    rare = [(PersonDpEvent(SampledWithoutReplacementDpEvent(10_000, 100, GaussianDpEvent(1.0)), 4), 100)]
    joint = epsilon([(together(of_one_id(event), 4), count) for event, count in rare], 1e-5)
    assert epsilon(rare, 1e-5) < 0.1 * joint


@pytest.mark.parametrize("ids", [2, 3, 5])
def test_one_by_one_is_group_privacy(ids):
    """Of a Gaussian: the delta' that it spends, with its epsilon, adds up to at most delta."""
    spent = []

    def price(delta):
        spent.append((delta, gaussian_epsilon(4.0, delta)))
        return spent[-1][1]

    found = one_by_one(price, 1e-5, ids, least=1e-12)
    delta, single = spent[-1]
    assert found == ids * single
    assert delta * sum(np.exp(step * single) for step in range(ids)) == pytest.approx(1e-5, rel=2e-3)
    assert found >= gaussian_epsilon(4.0 / ids, 1e-5)  # the truth of ids that always take part together


def test_one_by_one_gives_up_where_delta_is_out_of_reach():
    assert one_by_one(lambda delta: 300.0, 1e-5, 4, least=1e-12) == np.inf
    assert one_by_one(lambda delta: 20.0, 1e-5, 4, least=1e-12) == np.inf
    assert one_by_one(lambda delta: np.inf, 1e-5, 2, least=1e-12) == np.inf
    assert one_by_one(lambda delta: 0.0, 1e-5, 2, least=1e-12) == 0


def test_a_start_about_single_ids_is_priced_for_the_person_too():
    """The ledger of the start names no ids: its rounds are priced for those of the run that follows."""
    start = ComposedDpEvent([SelfComposedDpEvent(GaussianDpEvent(20.0), 100)])
    run = PersonDpEvent(ROUND, 2)
    both = epsilon([(start, 1), (run, 10)], 1e-5)
    assert both > epsilon([(PersonDpEvent(GaussianDpEvent(20.0), 2), 100)], 1e-5) > 2 * epsilon([(start, 1)], 1e-5)


def test_persons_have_a_form_in_the_ledger():
    event = PersonDpEvent(SeparatedDpEvent(4, 100, 10, GaussianDpEvent(0.5)), 3)
    assert from_plain(to_plain(event)) == event
    for wrong in ({"kind": "person", "ids": 1, "event": to_plain(ROUND)}, {"kind": "person", "ids": 2}):
        with pytest.raises(ValueError, match="not an event"):
            from_plain(wrong)
    with pytest.raises(ValueError, match="a person of persons"):
        PersonDpEvent(event, 2)


@pytest.mark.parametrize("ids", [1, 3])
def test_a_group_of_users_moves_a_gaussian_as_often(ids):
    """20 examples of one user, each in 3 releases with ids of their own: 60 times the sensitivity, in closed form."""
    event = GaussianDpEvent(50.0) if ids == 1 else PersonDpEvent(GaussianDpEvent(50.0), ids)
    wanted = gaussian_epsilon(50.0 / (20 * ids) / np.sqrt(4), 1e-5)
    assert epsilon(as_group([(event, 4)], 20), 1e-5) == pytest.approx(wanted, rel=1e-9)
    assert epsilon(as_group([(event, 4)], 1), 1e-5) == pytest.approx(epsilon([(event, 4)], 1e-5), rel=1e-9)
