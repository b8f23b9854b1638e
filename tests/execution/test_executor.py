"""The reference executor against bare arithmetic: what the others are compared with must itself be right."""

import math
from functools import partial

import pytest
import torch
from small import RAGGED, Drift, make_cohort, make_load, make_stream, make_task, make_users, make_work

from fedemb.core.optim import SGD
from fedemb.core.params import flatten, norm
from fedemb.core.types import Cohort
from fedemb.data.users import InMemoryUsers
from fedemb.execution.executor import Sequential, zero_sum
from fedemb.execution.vectorised import Vectorised
from fedemb.privacy.clipping import FlatClipping
from fedemb.privacy.discrete import GridClipping
from fedemb.tasks.heads import CosineHead

GRID = GridClipping(clip_norm=1.0, grid=2.0**-30)
EXECUTORS = [Sequential(), Vectorised()]


def flat_user(n, level):
    """n images whose pixels are all `level`; ScalePixels makes them level / 128 - 1."""
    return {"image": torch.full((n, 1, 2, 2), level, dtype=torch.uint8), "label": torch.zeros(n, dtype=torch.int64)}


def drift_work(strength=1.0, rate=1.0):
    return make_work(task=Drift(strength=strength, pixels=4), optimizer=SGD(), learning_rate=rate)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_sum_by_hand(executor):
    """w has 4 entries; a client moves each by the sum over its images of (level / 128 - 1)."""
    users = InMemoryUsers([flat_user(1, 192), flat_user(3, 0), flat_user(0, 0), flat_user(12, 255)])
    cohort = make_cohort((0,), (1, 2), (2,), (3,))
    total, exact = executor.clipped_sum(
        drift_work(), FlatClipping(clip_norm=4.0), {"w": torch.zeros(4)}, cohort, make_stream(users)
    )
    # moves: +0.5, -3, 0, 12 * 127/128; norms are twice that; only the second and the fourth exceed C = 4 (entries +-2).
    torch.testing.assert_close(total["w"], torch.full((4,), 0.5 - 2 + 2, dtype=torch.float64), rtol=0, atol=2e-6)
    torch.testing.assert_close(exact.norms.double(), torch.tensor([1.0, 6.0, 0.0, 23.8125]).double(), atol=1e-5, rtol=0)
    assert exact.examples.tolist() == [1, 3, 0, 12]
    # loss = -(w . pixels) summed over a batch; times its examples: client 1 has one batch at w = 0, so 0.
    assert exact.losses[:2].tolist() == [0, 0]
    assert math.isnan(exact.losses[2])
    # client 3: 8 images at w = 0, then 4 images at w = 8 * 127/128 each of 4 pixels 127/128; mean over 12 examples.
    assert exact.losses[3] == pytest.approx(-(4 * 4 * 8 * (127 / 128) ** 2) * 4 / 12)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("victim", range(3))
def test_non_finite_update_keeps_its_slot_and_adds_nothing(executor, value, victim):
    users = InMemoryUsers([flat_user(2, 192), flat_user(2, 0), flat_user(1, 255)])
    clean = make_load(users)
    cohort = make_cohort((0,), (1,), (2,))

    def load(client):
        batches = clean(client)
        if client.users != (victim,):
            return batches
        image = batches["image"].clone()
        image[0, 0, 0, 0, 0] = value  # one pixel is enough to make one entry of the update non-finite
        return {**batches, "image": image}

    total, exact = executor.clipped_sum(
        drift_work(), FlatClipping(clip_norm=100.0), {"w": torch.zeros(4)}, cohort, partial(map, load)
    )
    moves = [1.0, -2.0, 127 / 128]
    moves[victim] = 0.0
    torch.testing.assert_close(total["w"], torch.full((4,), sum(moves), dtype=torch.float64), rtol=0, atol=1e-4)
    assert len(exact.norms) == 3
    assert [bool(length.isfinite()) for length in exact.norms] == [slot != victim for slot in range(3)]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_client_whose_training_explodes_adds_nothing(executor):
    """The overflow happens inside the local steps, not in the data."""
    work = make_work(task=make_task(head=CosineHead()), learning_rate=1e38)
    total, exact = executor.clipped_sum(work, FlatClipping(clip_norm=1.0), work.task.init(0), RAGGED, make_stream())
    finite = exact.norms.isfinite()
    assert not finite[0]
    assert len(exact.norms) == 5
    assert all(bool(value.isfinite().all()) for value in total.values())
    assert float(norm(total)) <= float(finite.sum())


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_batch_of_masked_examples_takes_no_step(executor):
    """Momentum would go on moving the model on a batch without a single real example."""
    work = make_work(learning_rate=0.5)
    whole = make_load()(RAGGED.clients[0])

    def with_gap(client):
        gap = {name: value[:1] for name, value in whole.items()} | {"mask": torch.zeros(1, 8)}
        return {name: torch.cat([whole[name][:1], gap[name], whole[name][1:]]) for name in whole}

    shared, cohort = work.task.init(0), make_cohort((3, 10))
    plain, exact = Sequential().clipped_sum(
        work, FlatClipping(clip_norm=1e3), shared, cohort, partial(map, lambda client: whole)
    )
    assert exact.norms[0] > 0.1
    gapped, _ = executor.clipped_sum(work, FlatClipping(clip_norm=1e3), shared, cohort, partial(map, with_gap))
    torch.testing.assert_close(flatten(gapped), flatten(plain), rtol=0, atol=1e-5)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_the_global_parameters_are_left_alone(executor):
    work = make_work()
    shared = work.task.init(0)
    before = {name: value.clone() for name, value in shared.items()}
    executor.clipped_sum(work, FlatClipping(clip_norm=1.0), shared, RAGGED, make_stream())
    assert all(torch.equal(shared[name], before[name]) for name in before)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_client_of_users_without_examples_sends_zero(executor):
    work = make_work()
    total, exact = executor.clipped_sum(
        work, FlatClipping(clip_norm=1.0), work.task.init(0), make_cohort((1, 6), (1,)), make_stream(make_users())
    )
    assert float(norm(total)) == 0
    assert exact.norms.tolist() == exact.examples.tolist() == [0, 0]


def test_zero_sum_has_the_names_of_an_update():
    """Neither the head nor a frozen layer may appear in what is released."""
    work = make_work(task=make_task(frozen=("conv.*",)))
    for clipping, dtype in ((FlatClipping(clip_norm=1.0), torch.float64), (GRID, torch.int64)):
        zero = zero_sum(work, work.task.init(0), clipping)
        assert sorted(zero) == ["embedding.bias", "embedding.weight", "norm.bias", "norm.weight"]
        assert all(value.dtype == dtype and not value.any() for value in zero.values())


@pytest.mark.parametrize("executor", EXECUTORS)
def test_sums_on_a_grid_are_exact(executor):
    """int64 sums do not depend on the order of the clients, and all executors add up the same integers."""
    work = make_work()
    shared = work.task.init(0)
    total, _ = executor.clipped_sum(work, GRID, shared, RAGGED, make_stream())
    backwards = Cohort(round=RAGGED.round, clients=RAGGED.clients[::-1])
    other, _ = executor.clipped_sum(work, GRID, shared, backwards, make_stream())
    assert all(value.dtype == torch.int64 for value in total.values())
    if isinstance(executor, Sequential):  # a chunk's kernels round by their size and order
        assert all(torch.equal(total[name], other[name]) for name in total)
    plain, _ = Sequential().clipped_sum(work, FlatClipping(clip_norm=1.0), shared, RAGGED, make_stream())
    scaled = {name: value.double() * GRID.unit for name, value in total.items()}
    torch.testing.assert_close(scaled, plain, rtol=1e-4, atol=1e-5)
