"""Sensitivity through the whole query, with the real sampler, batches and clients: bounded by 2C, and attained.

Neighbours: one user's data replaced by anything, the number of users the same, the same seeds.
"""

import pytest
import torch
from dp_accounting import NeighboringRelation
from small import CLASSES, SIZE, Drift, make_stream, make_work

from fedemb.core.optim import SGD
from fedemb.core.params import norm, sub
from fedemb.core.types import Cohort
from fedemb.data.sampling import FixedSizeSampler, PoissonSampler
from fedemb.data.users import InMemoryUsers
from fedemb.execution.executor import Sequential
from fedemb.execution.vectorised import Vectorised
from fedemb.privacy.adaptive import AdaptiveClippedSum
from fedemb.privacy.clipping import FlatClipping, PerLayerClipping
from fedemb.privacy.query import ClippedSum

N, M, C = 12, 8, 0.3
SUBSTITUTE_ONE = NeighboringRelation.REPLACE_ONE


def images(n, level=None, label=0, seed=0):
    """One user's data: n random images, or n of one grey level."""
    drawn = torch.randint(256, (n, 1, SIZE, SIZE), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return {"image": drawn if level is None else torch.full_like(drawn, level), "label": torch.full((n,), label)}


def mixed_labels(n, seed):
    """A user who brings more identities than the head has rows."""
    return {**images(n, seed=seed), "label": 100 + torch.arange(n) % (CLASSES + 2)}


SUBSTITUTES = {
    "random": images(5, label=77, seed=9),
    "nothing": images(0),
    "black": images(9, level=0),
    "white": images(9, level=255, label=50),
    "one image": images(1, label=3, seed=4),
    "far more images": images(70, label=50, seed=5),
    "many identities": mixed_labels(20, seed=6),
}


def population(substitute=None, user=None):
    everyone = [images(3 + u % 3, label=u, seed=u) for u in range(N)]
    if user is not None:
        everyone[user] = substitute
    return InMemoryUsers(everyone)


def flat(**settings):
    return ClippedSum(clipping=FlatClipping(clip_norm=C), **settings)


def boundless(**settings):
    return ClippedSum(clipping=FlatClipping(clip_norm=1e9), **settings)


def per_layer(**settings):
    return ClippedSum(clipping=PerLayerClipping(clip_norm=C), **settings)


def adaptive(**settings):
    return AdaptiveClippedSum(clip_norm=C, noise_multiplier=1.0, **settings)


QUERIES = [flat, per_layer, adaptive]
# One object for all tests: `Vectorised` captures a work's kernels once, which takes longer than many rounds.
WORK = make_work(learning_rate=1.0, head_lr_scale=5.0)  # a rate that makes every update longer than C


def query(work, users, executor, kind=flat, **settings):
    load = make_stream(users)
    return kind(
        planned_clients=4,
        sum_updates=lambda clipping, shared, cohort: executor.clipped_sum(work, clipping, shared, cohort, load),
        **settings,
    )


def answer(work, users, cohort, executor, kind=flat):
    asked = query(work, users, executor, kind)
    return asked.answer(asked.init(), work.task.init(3), cohort)[0]


@pytest.mark.parametrize("executor", [Sequential(), Vectorised()])
@pytest.mark.parametrize("substitute", SUBSTITUTES)
@pytest.mark.parametrize("users_per_client", [1, 4])
@pytest.mark.parametrize("kind", QUERIES)
def test_random_neighbours_stay_within_the_sensitivity(executor, substitute, users_per_client, kind):
    sampler = FixedSizeSampler(num_users=N, users_per_round=M, users_per_client=users_per_client, seed=1)
    moved = []
    for round in range(2):
        cohort = sampler.cohort(round)
        left = answer(WORK, population(), cohort, executor, kind)
        for user in (cohort.clients[0].users[0], cohort.clients[-1].users[-1]):
            right = answer(WORK, population(SUBSTITUTES[substitute], user), cohort, executor, kind)
            moved.append(float(norm(sub(left, right))))
    asked = query(WORK, population(), executor, kind)
    bound = asked.sensitivity(SUBSTITUTE_ONE)
    assert bound == 2 * asked.bound
    assert asked.bound == C or kind is adaptive
    assert max(moved) <= bound
    assert max(moved) > 0.05 * bound or users_per_client == 1  # alone, a user of one identity has no gradient


@pytest.mark.parametrize("executor", [Sequential(), Vectorised()])
@pytest.mark.parametrize("users_per_client", [1, 4])
@pytest.mark.parametrize("kind", [flat, per_layer])
def test_an_adversarial_pair_attains_the_sensitivity(executor, users_per_client, kind):
    """Opposite updates of norm >= C reach 2C: half of it as the sensitivity would be false, and is caught here."""
    work = make_work(task=Drift(strength=1e3), optimizer=SGD(momentum=0.9))
    sampler = FixedSizeSampler(num_users=N, users_per_round=M, users_per_client=users_per_client, seed=1)
    cohort, grey = sampler.cohort(0), images(3, level=128)  # grey is exactly 0 after ScalePixels: no update

    def release(level, user):
        everyone = [grey] * N
        everyone[user] = images(3, level=level)
        return answer(work, InMemoryUsers(everyone), cohort, executor, kind)

    user = cohort.clients[1].users[-1]
    moved = float(norm(sub(release(0, user), release(255, user))))
    assert 0.99 * 2 * C <= moved <= 2 * C


@pytest.mark.parametrize("users_per_client", [1, 2, 4])
@pytest.mark.parametrize("user", range(N))
def test_a_neighbour_changes_one_virtual_client_at_most(users_per_client, user):
    """Two clients that hold the user, or a batch or seed that depends on other clients' data, would move more."""
    work = make_work(task=Drift(strength=1.0))
    sampler = FixedSizeSampler(num_users=N, users_per_round=M, users_per_client=users_per_client, seed=2)
    for round in range(3):
        cohort = sampler.cohort(round)
        alone = [Cohort(round=round, clients=(client,)) for client in cohort.clients]
        left, right = (
            [answer(work, users, part, Sequential(), boundless)["w"] for part in alone]
            for users in (population(), population(images(70, seed=8), user))
        )
        changed = sum(not torch.equal(a, b) for a, b in zip(left, right, strict=True))
        drawn = sum(user in client.users for client in cohort.clients)
        assert changed == drawn <= 1


def test_poisson_neighbours_attain_the_sensitivity_too():
    work = make_work(task=Drift(strength=1e3))
    sampler = PoissonSampler(num_users=N, users_per_round=6, seed=1)
    cohort = sampler.cohort(0)
    user = cohort.clients[0].users[0]
    left, right = (answer(work, population(images(3, level=level), user), cohort, Vectorised()) for level in (0, 255))
    assert 0.99 * 2 * C <= float(norm(sub(left, right))) <= 2 * C


@pytest.mark.parametrize("relation", [r for r in NeighboringRelation if r is not SUBSTITUTE_ONE])
def test_other_relations_are_refused(relation):
    with pytest.raises(ValueError, match="substitute-one"):
        query(make_work(), population(), Sequential()).sensitivity(relation)


def test_too_many_clients_for_exact_sums_are_refused():
    with pytest.raises(ValueError, match=r"40000 virtual clients .* \(at most 32768\)"):
        ClippedSum(clipping=FlatClipping(clip_norm=C), planned_clients=40000, sum_updates=None)


@pytest.mark.parametrize("clip_norm", [0.0, -1.0, float("nan"), float("inf")])
def test_clip_norm_must_be_positive(clip_norm):
    with pytest.raises(ValueError, match="clip_norm"):
        ClippedSum(
            clipping=FlatClipping(clip_norm=clip_norm),
            planned_clients=4,
            sum_updates=lambda c, shared, cohort: ({}, None),
        )
