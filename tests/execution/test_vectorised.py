"""Chunks, padding and stacking of the vectorised executor."""

from functools import partial

import pytest
import torch
from small import RAGGED, make_cohort, make_load, make_users, make_work

from fedemb.client.finetune import FineTune
from fedemb.core.optim import SGD, Adam
from fedemb.core.params import flatten
from fedemb.execution.executor import Sequential
from fedemb.execution.memory import client_bytes
from fedemb.execution.vectorised import Vectorised, select, stack_states
from fedemb.privacy.clipping import FlatClipping

WORK = make_work()
LOAD = make_load()
STREAM = partial(map, LOAD)


def chunked(size, cohort):
    """An executor whose memory setting holds `size` and a half clients like the first one."""
    first = cohort.clients[0]
    needed = client_bytes(WORK, WORK.task.init(0), first, LOAD(first))
    return Vectorised(memory_gib=(size + 0.5) * needed / 2**30)


@pytest.fixture
def chunk_sizes(monkeypatch):
    """How many clients each chunk held."""
    sizes, train = [], Vectorised._train

    def spy(self, work, shared, clients, batches):
        sizes.append(len(clients))
        return train(self, work, shared, clients, batches)

    monkeypatch.setattr(Vectorised, "_train", spy)
    return sizes


@pytest.mark.parametrize(("size", "chunks"), [(1, [1] * 5), (2, [2, 2, 2]), (3, [3, 3]), (4, [3, 3]), (5, [5])])
def test_every_chunk_size_gives_the_same_sum(size, chunks, chunk_sizes):
    """A lost last chunk, or clients counted twice where chunks meet."""
    shared = WORK.task.init(0)
    wanted, exact = Sequential().clipped_sum(WORK, FlatClipping(clip_norm=0.3), shared, RAGGED, STREAM)
    total, found = chunked(size, RAGGED).clipped_sum(WORK, FlatClipping(clip_norm=0.3), shared, RAGGED, STREAM)
    assert chunk_sizes == chunks
    torch.testing.assert_close(flatten(total), flatten(wanted), rtol=0, atol=1e-6)
    torch.testing.assert_close(found.norms, exact.norms, rtol=0, atol=1e-5)
    assert found.examples.tolist() == exact.examples.tolist() == [20, 0, 1, 16, 11]


class Noted(FlatClipping):
    """Keeps the updates as they come."""

    def add_to(self, total, updates):
        vars(self).setdefault("seen", []).append({name: value.clone() for name, value in updates.items()})
        return super().add_to(total, updates)


def test_where_sizes_are_private_a_neighbours_steps_move_nobody_by_even_a_rounding():
    """A resting neighbour must not choose the kernels: those for a whole chunk round differently."""
    found, work = [], make_work(optimizer=SGD())
    for count in (12, 8):  # 3 steps, as the first client has, or 2
        users, clipping = make_users(counts=[12, 12, count, count]), Noted(clip_norm=0.5)
        by = partial(map, make_load(users))
        Vectorised().clipped_sum(work, clipping, work.task.init(1), make_cohort((0, 1), (2, 3)), by)
        [updates] = vars(clipping)["seen"]
        found.append(updates)
    alone, beside = found
    assert all(torch.equal(alone[name][0], beside[name][0]) for name in alone)
    assert not all(torch.equal(alone[name][1], beside[name][1]) for name in alone)


class Restless(FineTune):
    """Sends 1 even where no step was taken."""

    def finish(self, shared, state):
        return {name: value + 1.0 for name, value in super().finish(shared, state).items()}


def test_clients_that_fill_up_a_chunk_send_nothing_whatever_the_work(chunk_sizes):
    work = Restless(task=WORK.task, optimizer=WORK.optimizer, learning_rate=0.05)
    shared, clipping = work.task.init(0), FlatClipping(clip_norm=0.3)
    wanted, _ = Sequential().clipped_sum(work, clipping, shared, RAGGED, STREAM)
    total, found = chunked(2, RAGGED).clipped_sum(work, clipping, shared, RAGGED, STREAM)
    assert chunk_sizes == [2, 2, 2]
    torch.testing.assert_close(flatten(total), flatten(wanted), rtol=0, atol=1e-6)
    assert len(found.norms) == len(found.losses) == 5


def test_chunk_sizes_do_not_depend_on_data(chunk_sizes):
    """Kernels round by chunk size: the number of images of one user must not change what other clients send."""
    sizes = []
    for first in (0, 1, 3):  # users with 20, 0 and 16 examples
        cohort = make_cohort((first,), (3,), (4,))
        chunked(2, cohort).clipped_sum(WORK, FlatClipping(clip_norm=1.0), WORK.task.init(0), cohort, STREAM)
        sizes.append(list(chunk_sizes))
        chunk_sizes.clear()
    assert sizes == [[2, 2]] * 3


def test_each_client_is_loaded_once():
    loaded = []

    def load(client):
        loaded.append(client)
        return LOAD(client)

    chunked(2, RAGGED).clipped_sum(WORK, FlatClipping(clip_norm=1.0), WORK.task.init(0), RAGGED, partial(map, load))
    assert loaded == list(RAGGED.clients)


def test_one_client_runs_whatever_the_bound(chunk_sizes):
    Vectorised(memory_gib=1e-12).clipped_sum(WORK, FlatClipping(clip_norm=1.0), WORK.task.init(0), RAGGED, STREAM)
    assert chunk_sizes == [1] * 5


@pytest.mark.parametrize("cohort", [make_cohort(), make_cohort((3,)), make_cohort((1,)), make_cohort((1,), (6,))])
def test_no_client_one_client_and_clients_without_examples(cohort):
    shared = WORK.task.init(0)
    wanted, exact = Sequential().clipped_sum(WORK, FlatClipping(clip_norm=1.0), shared, cohort, STREAM)
    total, found = Vectorised().clipped_sum(WORK, FlatClipping(clip_norm=1.0), shared, cohort, STREAM)
    torch.testing.assert_close(flatten(total), flatten(wanted), rtol=0, atol=1e-6)
    assert found.examples.tolist() == exact.examples.tolist()


def test_select_keeps_every_part_of_an_idle_state():
    """An Adam counter that runs on during padding would change the next real step."""
    work = make_work(optimizer=Adam())
    shared, client = work.task.init(0), RAGGED.clients[0]
    old = work.begin(shared, client)
    new = work.step(shared, old, {name: value[0] for name, value in LOAD(client).items()})
    for active, wanted in ((True, new), (False, old)):
        kept = select(torch.tensor(active), new, old)
        assert torch.equal(flatten(kept.params), flatten(wanted.params))
        assert all(torch.equal(flatten(kept.slots[s]), flatten(wanted.slots[s])) for s in ("mean", "square", "step"))
        assert [float(value) for value in kept[2:]] == [float(value) for value in wanted[2:]]


def test_stack_states_keeps_the_order_of_clients():
    shared = WORK.task.init(0)
    states = [WORK.begin(shared, client) for client in RAGGED.clients]
    stacked = stack_states(states)
    for slot, state in enumerate(states):
        assert torch.equal(stacked.params["head.weight"][slot], state.params["head.weight"])
    assert stacked.step.shape == (5,)


@pytest.mark.parametrize("memory_gib", [0.0, -1.0, float("nan")])
def test_memory_bound_must_be_positive(memory_gib):
    with pytest.raises(ValueError, match="memory_gib"):
        Vectorised(memory_gib=memory_gib)
