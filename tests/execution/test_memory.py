"""The count behind the chunk size: a lower bound by hand, an upper bound on what a step really holds."""

import torch
from small import RAGGED, Drift, make_cohort, make_load, make_work

from fedemb.core.optim import SGD
from fedemb.execution.memory import client_bytes


def test_count_covers_data_state_and_gradient():
    """32-bit floats: batches of 8 images of 64 pixels; w, its gradient and the updated w have 64 entries each."""
    work = make_work(task=Drift(), optimizer=SGD())
    client = RAGGED.clients[0]
    counted = client_bytes(work, {"w": torch.zeros(64)}, client, make_load()(client))
    assert counted >= 8 * 64 * 4 + 3 * 64 * 4


def test_count_grows_with_the_batch():
    work, client = make_work(), RAGGED.clients[0]
    shared = work.task.init(0)
    small, large = (client_bytes(work, shared, client, make_load(batch_size=b)(client)) for b in (2, 16))
    images, conv_maps = 14 * 64 * 4, 14 * 4 * 64 * 4  # 14 images more: their pixels and one layer's activations
    assert large - small > images + conv_maps


def test_count_depends_on_shapes_and_not_on_data():
    work, client = make_work(), RAGGED.clients[0]
    shared, batches = work.task.init(0), make_load()(client)
    empty = {name: value[:0] for name, value in batches.items()}
    assert client_bytes(work, shared, client, batches) == client_bytes(work, shared, client, empty)


def test_counting_leaves_the_parameters_alone():
    work, client = make_work(), make_cohort((1,)).clients[0]
    shared = work.task.init(0)
    before = {name: value.clone() for name, value in shared.items()}
    client_bytes(work, shared, client, make_load()(client))
    assert all(torch.equal(shared[name], before[name]) for name in before)
