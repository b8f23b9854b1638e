"""Local fine-tuning against hand arithmetic on one-pixel images, and what may and may not leave a client."""

import numpy as np
import pytest
import torch
from small import RAGGED, Drift, Line, make_load, make_task, make_work

from fedemb.client.finetune import HeadFirst, Joint
from fedemb.core.optim import SGD, Adam
from fedemb.core.params import flatten
from fedemb.core.schedule import WarmupCosine
from fedemb.core.types import VirtualClient
from fedemb.tasks.embedding import EmbeddingTask
from fedemb.tasks.heads import SoftmaxHead

RATE = 0.1
PIXELS, LABELS = np.array([1.0, -2.0, 0.5]), np.array([0, 1, 1])
BATCH = {
    "image": torch.tensor(PIXELS, dtype=torch.float64).reshape(3, 1, 1, 1),
    "label": torch.tensor(LABELS),
    "classes": torch.tensor([2, 2, 2]),
    "mask": torch.ones(3, dtype=torch.float64),
}
START = {
    "embedding.weight": torch.tensor([[0.5]], dtype=torch.float64),
    "embedding.bias": torch.tensor([0.1], dtype=torch.float64),
}
CLIENT = VirtualClient(round=3, seed=41, users=(1, 2))


def one_pixel_work(**others):
    """embedding = w x + b, logits = h e with a head of two rows."""
    task = EmbeddingTask(backbone=Line(1, 1), head=SoftmaxHead(), embedding_width=1, local_classes=2)
    return make_work(task=task, learning_rate=RATE, **{"optimizer": SGD(), **others})


def gradients(w, b, head):
    """d(mean cross-entropy) / d(w, b, head), by the chain rule on paper: dL/dlogits = (p - y) / n."""
    e = w * PIXELS + b
    logits = e[:, None] * head[None, :]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    error = (p - np.eye(2)[LABELS]) / len(LABELS)
    d_e = error @ head
    return d_e @ PIXELS, d_e.sum(), error.T @ e


def test_one_sgd_step_by_hand():
    work = one_pixel_work(head_lr_scale=30.0)
    before = work.begin(START, CLIENT)
    head = before.params["head.weight"].numpy().ravel().copy()
    after = work.step(START, before, BATCH)
    d_w, d_b, d_head = gradients(0.5, 0.1, head)
    assert abs(d_w) > 1e-2
    update = work.finish(START, after)
    assert float(update["embedding.weight"]) == pytest.approx(-RATE * d_w, rel=1e-12)
    assert float(update["embedding.bias"]) == pytest.approx(-RATE * d_b, rel=1e-12)
    moved = (after.params["head.weight"] - before.params["head.weight"]).numpy().ravel()
    assert moved == pytest.approx(-RATE * 30.0 * d_head, rel=1e-10)


def test_two_steps_by_hand_use_the_moved_head_and_backbone():
    work = one_pixel_work(head_lr_scale=5.0)
    state = work.begin(START, CLIENT)
    w, b, head = 0.5, 0.1, state.params["head.weight"].numpy().ravel().copy()
    for _ in range(2):
        state = work.step(START, state, BATCH)
        d_w, d_b, d_head = gradients(w, b, head)
        w, b, head = w - RATE * d_w, b - RATE * d_b, head - 5 * RATE * d_head
    update = work.finish(START, state)
    assert float(update["embedding.weight"]) == pytest.approx(w - 0.5, rel=1e-12)
    assert float(update["embedding.bias"]) == pytest.approx(b - 0.1, rel=1e-12)
    assert float(state.step) == 2


def test_momentum_by_hand():
    """A constant gradient g: the velocity is g, then 0.9 g + g."""
    work = make_work(task=Drift(pixels=1), optimizer=SGD(momentum=0.9), learning_rate=RATE)
    shared = {"w": torch.zeros(1)}
    batch = {"image": torch.tensor([[2.0]]), "mask": torch.ones(1)}
    state = work.step(shared, work.begin(shared, CLIENT), batch)
    assert float(work.finish(shared, state)["w"]) == pytest.approx(0.2)
    state = work.step(shared, state, batch)
    assert float(work.finish(shared, state)["w"]) == pytest.approx(0.2 + 0.38)


def test_client_adam_moves_every_parameter_by_the_rate_at_first():
    """Bias correction makes the first direction +-1, whatever the size of the gradient; the head scaled on top."""
    work = one_pixel_work(optimizer=Adam(), head_lr_scale=7.0)
    before = work.begin(START, CLIENT)
    d_w, d_b, d_head = gradients(0.5, 0.1, before.params["head.weight"].numpy().ravel())
    after = work.step(START, before, BATCH)
    update = work.finish(START, after)
    assert float(update["embedding.weight"]) == pytest.approx(-RATE * np.sign(d_w), rel=1e-4)
    assert float(update["embedding.bias"]) == pytest.approx(-RATE * np.sign(d_b), rel=1e-4)
    moved = (after.params["head.weight"] - before.params["head.weight"]).numpy().ravel()
    assert moved == pytest.approx(-7 * RATE * np.sign(d_head), rel=1e-4)


@pytest.mark.parametrize("optimizer", [SGD(), SGD(momentum=0.9), Adam()])
def test_head_first_moves_one_part_at_a_time_bit_for_bit(optimizer):
    """Momentum gathered in one phase must not move the part that rests in the other."""
    work = make_work(optimizer=optimizer, phases=HeadFirst(head_only_steps=2), head_lr_scale=10.0)
    shared = work.task.init(0)
    state, batches = work.begin(shared, RAGGED.clients[0]), make_load(batch_size=4)(RAGGED.clients[0])
    assert len(batches["mask"]) == 5
    for step in range(5):
        new = work.step(shared, state, {name: value[step] for name, value in batches.items()})
        moved = {name for name in new.params if not torch.equal(new.params[name], state.params[name])}
        backbone = set(shared)
        assert moved == ({"head.weight"} if step < 2 else backbone), f"step {step}"
        state = new


def test_joint_moves_everything_from_the_first_step():
    work = make_work(phases=Joint())
    shared = work.task.init(0)
    state, batches = work.begin(shared, RAGGED.clients[0]), make_load()(RAGGED.clients[0])
    new = work.step(shared, state, {name: value[0] for name, value in batches.items()})
    assert all(not torch.equal(new.params[name], state.params[name]) for name in new.params)


@pytest.mark.parametrize(
    ("frozen", "leaving"),
    [
        ((), {"conv.weight", "conv.bias", "norm.weight", "norm.bias", "embedding.weight", "embedding.bias"}),
        (("conv.*", "*.bias"), {"norm.weight", "embedding.weight"}),
    ],
)
def test_only_shared_names_leave(frozen, leaving):
    """The head would tell who the client is; a frozen layer's update would be zeros plus noise."""
    work = make_work(task=make_task(frozen=frozen))
    shared = work.task.init(0)
    state = work.begin(shared, RAGGED.clients[0])
    for batch in [{name: value[0] for name, value in make_load()(RAGGED.clients[0]).items()}]:
        state = work.step(shared, state, batch)
    assert set(work.finish(shared, state)) == leaving
    assert set(state.params) == leaving | {"head.weight"}
    assert all(value.any() for value in work.finish(shared, state).values())


def test_frozen_layers_still_take_part_in_the_forward_pass():
    work = make_work(task=make_task(frozen=("conv.*",)))
    shared = work.task.init(0)
    batch = {name: value[0] for name, value in make_load()(RAGGED.clients[0]).items()}
    other = {**shared, "conv.weight": -shared["conv.weight"]}
    losses = [float(work.step(s, work.begin(s, RAGGED.clients[0]), batch).loss) for s in (shared, other)]
    assert losses[0] != losses[1]


def test_begin_draws_from_the_seed_only():
    """A head that depended on users, round or global state would make results depend on who else takes part."""
    work = make_work()
    shared = work.task.init(0)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    head = work.begin(shared, CLIENT).params["head.weight"]
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    same = work.begin(shared, VirtualClient(round=9, seed=41, users=(7,))).params["head.weight"]
    other = work.begin(shared, VirtualClient(round=3, seed=42, users=(1, 2))).params["head.weight"]
    assert torch.equal(head, same)
    assert not torch.equal(head, other)


def test_begin_starts_from_the_global_backbone_and_empty_memory():
    work = make_work(optimizer=SGD(momentum=0.9))
    shared = work.task.init(0)
    state = work.begin(shared, CLIENT)
    assert all(torch.equal(state.params[name], shared[name]) for name in shared)
    assert not flatten(state.slots["velocity"]).any()
    assert [float(value) for value in state[3:]] == [0, 0, 0]


def test_rate_follows_the_schedule_by_round():
    """Warm-up over 4 rounds: round 1 trains at half of the rate; the last at the final fraction."""
    work = one_pixel_work(schedule=WarmupCosine(rounds=10, warmup_rounds=4, final_fraction=0.2))
    rates = [float(work.begin(START, VirtualClient(round=r, seed=1, users=())).rate) for r in (0, 1, 3, 7, 10)]
    assert rates == pytest.approx([RATE / 4, RATE / 2, RATE, RATE * 0.6, RATE * 0.2])


@pytest.mark.parametrize("bad", [{"learning_rate": float("nan")}, {"learning_rate": 0.0}, {"head_lr_scale": -1.0}])
def test_bad_numbers_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        make_work(**bad)


def test_head_first_needs_a_step():
    with pytest.raises(ValueError, match="head_only_steps"):
        HeadFirst(head_only_steps=0)
