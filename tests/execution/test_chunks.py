"""Who works side by side: how much of a ragged cohort is padding, counted and by hand."""

from functools import partial

import pytest
import torch
from small import RAGGED, Line, make_load, make_task, make_work

from fedemb.core.params import flatten
from fedemb.data.batching import Batcher
from fedemb.execution.chunks import equal_chunks, longest_first, widths
from fedemb.execution.distributed import Distributed
from fedemb.execution.executor import Sequential
from fedemb.execution.memory import client_bytes
from fedemb.execution.place import Place
from fedemb.execution.vectorised import Vectorised
from fedemb.privacy.clipping import FlatClipping

WORK, LOAD, CLIPPING = make_work(task=make_task(backbone=Line())), make_load(), FlatClipping(clip_norm=0.3)
STREAM = partial(map, LOAD)
EXAMPLES = dict(zip((client.seed for client in RAGGED.clients), (20, 0, 1, 16, 11), strict=True))


class Counting(Place):
    """Counts steps of clients that come by, and those that hold an example."""

    def __init__(self):
        self.all = self.real = 0

    def gib(self):
        return 1.0

    def bring(self, batch):
        self.all += len(batch["mask"])
        self.real += int(batch["mask"].any(dim=1).sum())
        return batch


def examples(client):
    return EXAMPLES[client.seed]


def settings(size):
    """Of an executor with so many clients in a chunk, whose steps are counted: (settings, counts)."""
    needed = client_bytes(WORK, WORK.task.init(0), RAGGED.clients[0], LOAD(RAGGED.clients[0]))
    counts = Counting()
    return {"memory_gib": (size + 0.5) * needed / 2**30, "place": lambda device: counts}, counts


@pytest.mark.parametrize(
    ("clients", "most", "size"), [(5, 1, 1), (5, 2, 2), (5, 4, 3), (5, 5, 5), (5, 99, 5), (6, 4, 3), (1, 0, 1)]
)
def test_chunks_are_equal_and_as_few_as_fit(clients, most, size):
    """5 clients, at most 4 together: two chunks of 3 waste one place, chunks of 4 would waste three."""
    assert equal_chunks(clients, most) == size


@pytest.mark.parametrize(
    ("size", "in_order", "by_size"),
    [
        (5, 5 * 3, 5 + 3 + 2),  # one chunk of 3, 2, 2, 1, 0 steps: all five, half (3), a quarter (2)
        (2, 2 * 3 + 2 * 2 + 2 * 2, (2 + 2 + 1) + (2 + 1) + 0),  # steps 3 0 | 1 2 | 2 and one to fill up; 3 2 | 2 1 | 0
        (1, 8, 8),
    ],
)
def test_little_is_padded_where_sizes_may_be_followed(size, in_order, by_size):
    """Batches of 8 make 3, 0, 1, 2 and 2 steps of 20, 0, 1, 16 and 11 examples: 8 real ones."""
    shared = WORK.task.init(0)
    wanted, exact = Sequential().clipped_sum(WORK, CLIPPING, shared, RAGGED, STREAM)
    for follow, steps in ((None, in_order), (examples, by_size)):
        given, counts = settings(size)
        executor = Vectorised(**given, examples=follow)
        total, found = executor.clipped_sum(WORK, CLIPPING, shared, RAGGED, STREAM)
        assert (counts.all, counts.real) == (steps, 8)
        torch.testing.assert_close(flatten(total), flatten(wanted), rtol=0, atol=1e-6)
        assert found.examples.tolist() == exact.examples.tolist() == [20, 0, 1, 16, 11]
        torch.testing.assert_close(found.norms, exact.norms, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.losses, exact.losses, rtol=0, atol=1e-5, equal_nan=True)


def test_it_works_within_another_executor():
    given, counts = settings(5)
    executor = Distributed(inner=Vectorised(**given, examples=examples))
    _, found = executor.clipped_sum(WORK, CLIPPING, WORK.task.init(0), RAGGED, STREAM)
    assert counts.all == 10
    assert found.examples.tolist() == [20, 0, 1, 16, 11]


def test_wrong_sizes_cost_time_and_nothing_else():
    shared = WORK.task.init(0)
    wanted, _ = Sequential().clipped_sum(WORK, CLIPPING, shared, RAGGED, STREAM)
    executor = Vectorised(examples=lambda client: -examples(client))
    total, found = executor.clipped_sum(WORK, CLIPPING, shared, RAGGED, STREAM)
    torch.testing.assert_close(flatten(total), flatten(wanted), rtol=0, atol=1e-6)
    assert found.examples.tolist() == [20, 0, 1, 16, 11]


def test_the_longest_come_first_and_equals_stay_in_order():
    assert longest_first([2, 5, 0, 5, 2]) == [1, 3, 0, 4, 2]


def test_a_step_is_done_for_all_that_have_examples_now_or_later():
    """The third of four clients trains in the last step only: until then it must not be left out."""
    active = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool)
    assert widths(active) == [4, 4, 4, 1]
    assert widths(torch.zeros(8, 0, dtype=torch.bool)) == []
    assert widths(torch.ones(8, 2, dtype=torch.bool)) == [8, 8]


def test_planned_examples_are_those_of_the_batches():
    """What `Batcher` plans and what it loads, as the one orders what the other fills."""
    batcher = LOAD.__self__
    assert isinstance(batcher, Batcher)
    assert [batcher.num_examples(client) for client in RAGGED.clients] == [20, 0, 1, 16, 11]
