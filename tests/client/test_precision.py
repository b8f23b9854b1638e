"""bfloat16 where products are taken, float32 where things add up."""

from functools import partial

import pytest
import torch
from small import RAGGED, Drift, make_load, make_task, make_work, work_variants
from torch import nn

from fedemb.client.finetune import FineTune
from fedemb.client.precision import Bfloat16, Full
from fedemb.core.optim import SGD
from fedemb.core.params import flatten, norm, sub
from fedemb.core.types import VirtualClient
from fedemb.execution.executor import Sequential
from fedemb.execution.vectorised import Vectorised
from fedemb.privacy.clipping import FlatClipping

CLIENT = VirtualClient(round=0, seed=5, users=(0,))
WORKS = work_variants()


def low(work):
    return FineTune(**{**vars(work), "precision": Bfloat16()})


def moved(work, batch, start):
    shared = {name: torch.full_like(value, start) for name, value in work.task.init(0).items()}
    return work.finish(shared, work.step(shared, work.begin(shared, CLIENT), batch))


@pytest.mark.parametrize(("precision", "pixel"), [(Full(), 1.01), (Bfloat16(), 1.0078125)])
def test_products_are_rounded_and_parameters_are_not(precision, pixel):
    """1.01 = 1 + 1.28 / 128 is 1 + 1/128 in bfloat16. Two images move w = 1 by 0.01 * 2 pixels, a bit more than the
    least step of bfloat16 there, 1/128 up: parameters of that type would come out as 1 + 2/128 or 1 + 3/128."""
    work = FineTune(task=Drift(pixels=4), optimizer=SGD(), learning_rate=0.01, precision=precision)
    batch = {"image": torch.full((2, 4), 1.01), "mask": torch.ones(2)}
    update = moved(work, batch, 1.0)["w"]
    assert update.dtype == torch.float32
    torch.testing.assert_close(update, torch.full((4,), 0.01 * 2 * pixel), rtol=0, atol=2e-7)


@pytest.mark.parametrize("name", ["sgd-joint-softmax-all", "momentum-headfirst-cosine-frozen", "adam-joint-cosine-all"])
def test_state_and_loss_stay_in_float32(name):
    work, load = low(WORKS[name]), make_load()
    shared, batches = work.task.init(0), load(RAGGED.clients[0])
    state = work.begin(shared, RAGGED.clients[0])
    state = work.step(shared, state, {name: value[0] for name, value in batches.items()})
    kept = [*state.params.values(), *(v for slot in state.slots.values() for v in slot.values()), *state[2:]]
    assert {value.dtype for value in kept} == {torch.float32}
    assert {value.dtype for value in work.finish(shared, state).values()} == {torch.float32}


@pytest.mark.parametrize("name", ["sgd-joint-softmax-all", "adam-headfirst-cosine-frozen", "momentum-joint-cosine-all"])
def test_many_at_once_equal_one_after_the_other_as_far_as_bfloat16_goes(name):
    """Bounds: 2 % of the sum's norm between executors, which add up products in other orders before they are rounded;
    5 % from full precision, and not zero, as bfloat16 rounds by up to 0.4 % each time. Adam turns signs around where
    gradients vanish: 10 % and 20 %."""
    work, clipping = WORKS[name], FlatClipping(clip_norm=1.0)
    shared, stream = work.task.init(1), partial(map, make_load())
    full, _ = Sequential().clipped_sum(work, clipping, shared, RAGGED, stream)
    one, exact = Sequential().clipped_sum(low(work), clipping, shared, RAGGED, stream)
    many, found = Vectorised().clipped_sum(low(work), clipping, shared, RAGGED, stream)
    between, beyond = (0.1, 0.2) if name.startswith("adam") else (0.02, 0.05)
    length = float(norm(full))
    assert float(norm(sub(many, one))) <= between * length
    assert 0 < float(norm(sub(one, full))) <= beyond * length
    assert flatten(one).dtype == flatten(many).dtype == torch.float64
    assert exact.norms.dtype == found.norms.dtype == torch.float64
    assert found.examples.tolist() == exact.examples.tolist()


def test_the_clip_holds_in_bfloat16():
    """The bound is on what is sent: rounding before it cannot loosen it."""
    work = low(make_work(task=make_task(backbone=nn.Sequential(nn.Flatten(), nn.Linear(64, 4))), learning_rate=10.0))
    for executor in (Sequential(), Vectorised()):
        total, found = executor.clipped_sum(
            work, FlatClipping(clip_norm=0.25), work.task.init(0), RAGGED, partial(map, make_load())
        )
        assert float(norm(total)) <= 4 * 0.25
        assert float(found.norms.max()) > 0.25  # somebody was clipped
