"""One averaged gradient a client, against PyTorch's own over all examples at once."""

import pytest
import torch
from small import COUNTS, RAGGED, WIDTH, Conv, make_cohort, make_load, make_stream, make_task, make_users

from fedemb.client.finetune import FineTune
from fedemb.client.gradient import AverageGradient
from fedemb.core.optim import SGD
from fedemb.execution.executor import Sequential
from fedemb.execution.vectorised import Vectorised
from fedemb.privacy.clipping import FlatClipping
from fedemb.tasks.global_head import GlobalHeadTask
from fedemb.tasks.heads import SoftmaxHead
from fedemb.testing import check_executor, check_work

TASK = make_task()
WORK, SHARED = AverageGradient(task=TASK), TASK.init(1)


def update(work, client, **batches):
    state = work.begin(SHARED, client)
    loaded = make_load(**batches)(client)
    for step in range(len(loaded["mask"])):
        state = work.step(SHARED, state, {name: value[step] for name, value in loaded.items()})
    return work.finish(SHARED, state), state


@pytest.mark.parametrize("batch_size", [3, 8, 64])
def test_it_is_the_gradient_of_the_mean_over_all_examples_whatever_the_batches(batch_size):
    """20 examples in 7, 3 or 1 batches, the last one padded: a mean of means would weigh it too much."""
    client = RAGGED.clients[0]
    whole = {name: value[0] for name, value in make_load(batch_size=20)(client).items()}
    leaves = {name: value.clone().requires_grad_() for name, value in SHARED.items()}
    loss = TASK.loss({**leaves, **TASK.init_local(client.seed)}, whole)
    loss.backward()
    found, state = update(WORK, client, batch_size=batch_size)
    assert found.keys() == SHARED.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, -leaves[name].grad, rtol=1e-4, atol=1e-6)
    assert float(state.examples) == 20
    assert float(state.loss) == pytest.approx(20 * float(loss.detach()), rel=1e-5)


def test_it_is_one_sgd_step_at_rate_one():
    client, one_batch = RAGGED.clients[3], {"batch_size": 64}
    step = FineTune(task=TASK, optimizer=SGD(), learning_rate=1.0)
    torch.testing.assert_close(update(WORK, client, **one_batch)[0], update(step, client, **one_batch)[0])


def test_keeps_the_contract():
    check_work(WORK, SHARED, RAGGED.clients[0], make_load()(RAGGED.clients[0]))
    frozen = AverageGradient(task=make_task(frozen=("conv.*",)))
    check_work(frozen, SHARED, RAGGED.clients[0], make_load()(RAGGED.clients[0]))
    assert "conv.weight" not in frozen.finish(SHARED, frozen.begin(SHARED, RAGGED.clients[0]))


@pytest.mark.parametrize("clip_norm", [1e3, 0.05])
def test_vectorised_equals_sequential(clip_norm):
    check_executor(Vectorised(), WORK, SHARED, RAGGED, make_load(), clip_norm=clip_norm)


def test_single_users_of_one_class_have_a_gradient_with_a_global_head():
    """With a local head they have none, as the loss over one class is 0: a user's gradient needs all classes."""
    cohort = make_cohort(*([user] for user in range(len(COUNTS))))
    task = GlobalHeadTask(backbone=Conv(), head=SoftmaxHead(), embedding_width=WIDTH, classes=5)
    for used, norms in ((task, True), (TASK, False)):
        work, clip = AverageGradient(task=used), FlatClipping(clip_norm=1e-3)
        _, found = Sequential().clipped_sum(work, clip, used.init(1), cohort, make_stream(make_users()))
        assert (found.norms > 0).tolist() == [norms and count > 0 for count in COUNTS]
