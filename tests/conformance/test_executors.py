"""Every executor with every kind of client work, and our other parts, by the checks that plug-in authors run."""

import pytest
import torch
from flower_grid import OverFlower
from ranks import in_parts, world
from recorders import Playback
from small import (
    COUNTS,
    RAGGED,
    SIZE,
    make_cohort,
    make_load,
    make_stream,
    make_task,
    make_users,
    make_work,
    work_variants,
)

from fedemb.core.params import flatten
from fedemb.data.sampling import FixedSizeSampler, PoissonSampler
from fedemb.data.synthetic import SyntheticUsers
from fedemb.data.users import ExampleAsUser
from fedemb.execution.auto import Auto
from fedemb.execution.executor import Sequential
from fedemb.execution.launch import CudaGraphs
from fedemb.execution.vectorised import Vectorised
from fedemb.privacy.clipping import FlatClipping
from fedemb.tasks.heads import CosineHead
from fedemb.testing import check_executor, check_sampler, check_task, check_user_dataset, check_work

WORKS = work_variants()
EXECUTORS = {"sequential": Sequential(), "vectorised": Vectorised(), "flower": OverFlower(nodes=2)}
MANY = {
    "longest first": Vectorised(examples=lambda client: -client.seed),
    "recorded": Vectorised(kernels=CudaGraphs(recorder=Playback())),
}
AUTO = {"sequential": Sequential(), "vectorised": Vectorised()}


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("work", WORKS)
def test_every_executor_equals_sequential_for_every_work(executor, work):
    shared = WORKS[work].task.init(1)
    _, exact = Sequential().clipped_sum(WORKS[work], FlatClipping(clip_norm=1.0), shared, RAGGED, make_stream())
    lengths = sorted(float(value) for value in exact.norms if value > 0)
    clip_norm = (lengths[0] * lengths[-1]) ** 0.5  # at least one update is clipped and one is not
    assert lengths[0] < 0.99 * lengths[-1]
    assert clip_norm > 1e-2  # far above the tolerance
    check_executor(EXECUTORS[executor], WORKS[work], shared, RAGGED, make_load(), clip_norm=clip_norm)


@pytest.mark.parametrize("work", ["adam-headfirst-cosine-frozen", "momentum-joint-softmax-all"])
@pytest.mark.parametrize("chosen", [None, *AUTO])
def test_auto_equals_sequential_before_and_after_its_choice(chosen, work):
    auto = Auto(candidates=AUTO, clients=3)
    if chosen is not None:
        seconds = {name: 1.0 if name == chosen else 2.0 for name in AUTO}
        measured = [{"round": round, "seconds": seconds} for round in (-3, -2, -1)]
        auto.restore({"measured": measured, "candidates": {}})
    assert auto.chosen == chosen
    check_executor(auto, WORKS[work], WORKS[work].task.init(1), RAGGED, make_load(), clip_norm=0.1)


@pytest.mark.parametrize("work", ["adam-headfirst-cosine-frozen", "momentum-joint-softmax-all"])
@pytest.mark.parametrize("how", MANY)
def test_many_at_once_equal_sequential_however_they_run(how, work):
    check_executor(MANY[how], WORKS[work], WORKS[work].task.init(1), RAGGED, make_load(), clip_norm=0.1)


@pytest.fixture(scope="module", params=[1, 2, 3])
def ranks(request):
    with world(request.param):
        yield request.param


@pytest.mark.parametrize("work", ["adam-headfirst-cosine-frozen", "momentum-joint-softmax-all"])
def test_any_number_of_ranks_equals_sequential(ranks, work):
    check_executor(in_parts(), WORKS[work], WORKS[work].task.init(1), RAGGED, make_load(), clip_norm=0.1)


@pytest.mark.parametrize("work", WORKS)
def test_every_work_keeps_the_contract(work):
    client = RAGGED.clients[0]
    check_work(WORKS[work], WORKS[work].task.init(1), client, make_load()(client))


@pytest.mark.parametrize("task", [make_task(), make_task(head=CosineHead()), make_task(frozen=("conv.*",))])
def test_every_task_keeps_the_contract(task):
    batches = make_load()(RAGGED.clients[3])
    check_task(task, {name: value[0] for name, value in batches.items()})


@pytest.mark.parametrize(
    "users",
    [
        make_users(),
        make_users((0,)),
        ExampleAsUser(make_users()),
        SyntheticUsers(num_users=5, examples_per_user=3, min_examples=0, classes=4, seed=1, image_shape=(3, SIZE, 6)),
    ],
)
def test_every_data_set_keeps_the_contract(users):
    check_user_dataset(users)


@pytest.mark.parametrize(
    "sampler",
    [
        FixedSizeSampler(num_users=12, users_per_round=8, users_per_client=2, seed=3),
        FixedSizeSampler(num_users=12, users_per_round=12, seed=3),
        PoissonSampler(num_users=12, users_per_round=2.5, seed=3),
    ],
)
def test_every_sampler_keeps_the_contract(sampler):
    check_sampler(sampler, num_users=12)


def test_two_executors_agree_over_many_clients_in_double_precision():
    """One user a client, all users at once: agreement far below the 1e-5 of single precision."""
    work = make_work()
    shared = {name: value.double() for name, value in work.task.init(0).items()}
    cohort, load = make_cohort(*([user] for user in range(len(COUNTS)))), make_stream(dtype=torch.float64)
    sums = [e.clipped_sum(work, FlatClipping(clip_norm=0.3), shared, cohort, load)[0] for e in EXECUTORS.values()]
    for total in sums[1:]:
        torch.testing.assert_close(flatten(total), flatten(sums[0]), rtol=0, atol=1e-12)
