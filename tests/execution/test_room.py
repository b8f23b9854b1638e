"""Running out of memory: smaller parts from then on, nothing twice, nothing lost."""

from functools import partial
from itertools import chain

import pytest
import torch
from small import RAGGED, Line, make_load, make_task, make_work

from fedemb.core.params import flatten, norm
from fedemb.execution.distributed import Distributed
from fedemb.execution.executor import Sequential, TooLargeError
from fedemb.execution.room import Room
from fedemb.execution.vectorised import Vectorised
from fedemb.privacy.clipping import FlatClipping

WORK = make_work(task=make_task(backbone=Line()))
STREAM = partial(map, make_load(batch_size=32))
CLIPPING = FlatClipping(clip_norm=0.3)
LET_GO = list  # a function that does nothing


def fitting(most, tried):
    """Works on at most so many at once."""

    def run(part):
        tried.append(list(part))
        if len(part) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(part)

    return run


@pytest.mark.parametrize(
    ("most", "tries"),
    [
        (5, [[0, 1, 2, 3, 4]]),
        (4, [[0, 1, 2, 3, 4], [0, 1, 2], [3, 4]]),
        (2, [[0, 1, 2, 3, 4], [0, 1, 2], [0, 1], [2, 3], [4]]),
        (1, [[0, 1, 2, 3, 4], [0, 1, 2], [0, 1], [0], [1], [2], [3], [4]]),
    ],
)
def test_parts_are_halved_until_they_fit_and_stay_small(most, tries):
    room, tried = Room(), []
    assert [*chain(*room.in_parts(range(5), fitting(most, tried), 9, LET_GO))] == [0, 1, 2, 3, 4]
    assert tried == tries
    tried.clear()
    assert [*chain(*room.in_parts(range(5, 9), fitting(most, tried), 9, LET_GO))] == [5, 6, 7, 8]
    assert all(len(part) <= most for part in tried)


def test_what_a_part_left_behind_is_let_go_before_a_smaller_one_is_tried():
    done = []

    def run(part):
        done.append(len(part))
        if len(part) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    list(Room().in_parts(range(4), run, 9, lambda: done.append("let go")))
    assert done == [4, "let go", 2, "let go", 1, 1, 1, 1]


@pytest.mark.parametrize("words", ["cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "CUDA error: out of memory"])
def test_libraries_say_it_in_words_and_other_errors_are_errors(words):
    def run(part, words=words):
        if len(part) > 2:
            raise RuntimeError(words)
        return list(part)

    assert [*chain(*Room().in_parts(range(4), run, 9, LET_GO))] == [0, 1, 2, 3]
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(Room().in_parts(range(4), partial(run, words="shapes do not fit"), 9, LET_GO))


def test_room_is_measured_once_and_carried_over():
    """A resumed process finds other memory free; with other chunks it would round otherwise."""
    first, second = Room(), Room()
    assert [first.gib(lambda: 3.0), first.gib(lambda: 5.0)] == [3.0, 3.0]
    second.restore(first.record())
    assert second.gib(lambda: 7.0) == 3.0


def test_each_halving_is_said_once(capsys):
    room = Room()
    for _ in range(3):
        list(room.in_parts(range(4), fitting(2, []), 9, LET_GO))
    said = "out of memory with 4 virtual clients at once: at most 2 from now on; executor.memory_gib sets a bound"
    assert capsys.readouterr().err == f"fedemb: {said}\n"


def test_one_client_that_does_not_fit_is_one_line():
    with pytest.raises(TooLargeError, match=r"^one virtual client does not fit .*: lower batching\.batch_size"):
        list(Room().in_parts(range(4), fitting(0, []), 9, LET_GO))


def test_without_halvings_what_does_not_fit_is_an_error():
    """Sizes that follow what users' data need must not decide how others' updates are rounded."""
    with pytest.raises(TooLargeError, match=r"^4 virtual clients at once do not fit .*: lower executor\.memory_gib"):
        list(Room().in_parts(range(4), fitting(2, []), 0, LET_GO))


@pytest.mark.parametrize(("where", "most"), [("_train", 1), ("_train", 2), ("_train", 3), ("clip", 2)])
def test_out_of_memory_changes_no_sum(monkeypatch, where, most):
    """As late as in the clip, when the chunk is trained: an update that was added by then would count twice."""
    sizes, train = [], Vectorised._train

    def spy(self, work, shared, clients, batches):
        sizes.append(len(clients))
        if where == "_train" and len(clients) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train(self, work, shared, clients, batches)

    def length(update):
        if where == "clip" and sizes and sizes[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return norm(update)

    monkeypatch.setattr(Vectorised, "_train", spy)
    monkeypatch.setattr("fedemb.privacy.clipping.norm", length)
    shared, executor = WORK.task.init(0), Vectorised(memory_gib=8.0)
    wanted, exact = Sequential().clipped_sum(WORK, CLIPPING, shared, RAGGED, STREAM)
    for _ in range(2):
        sizes.clear()
        total, found = executor.clipped_sum(WORK, CLIPPING, shared, RAGGED, STREAM)
        torch.testing.assert_close(flatten(total), flatten(wanted), rtol=0, atol=1e-6)
        torch.testing.assert_close(found.norms, exact.norms, rtol=0, atol=1e-5)
        assert found.examples.tolist() == exact.examples.tolist()
    assert sizes == {1: [1] * 5, 2: [2, 2, 1], 3: [3, 2]}[most]  # in the second round, what does not fit is not tried


@pytest.mark.parametrize("executor", [Vectorised, lambda: Distributed(inner=Vectorised())])
def test_another_process_starts_with_the_parts_that_fit(executor):
    """It would otherwise try larger ones, and round otherwise where they happen to fit."""
    first, second = executor(), executor()
    assert first.record() == {}
    list(room_of(first).in_parts(range(4), fitting(2, []), 9, LET_GO))
    second.restore(first.record())
    tried = []
    list(room_of(second).in_parts(range(4), fitting(4, tried), 9, LET_GO))
    assert tried == [[0, 1], [2, 3]]
    assert second.record() == first.record()
    with pytest.raises(TooLargeError):
        list(room_of(second).in_parts(range(4), fitting(1, []), 1, LET_GO))  # one halving was used up before


def room_of(executor):
    return executor._room if isinstance(executor, Vectorised) else executor.inner._room


def test_a_release_may_not_halve(monkeypatch):
    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Vectorised, "_train", full)
    with pytest.raises(TooLargeError, match=r"5 virtual clients"):
        Vectorised(memory_gib=8.0, halvings=0).clipped_sum(WORK, CLIPPING, WORK.task.init(0), RAGGED, STREAM)


def test_the_number_of_halvings_is_checked():
    with pytest.raises(ValueError, match=r"executor\.halvings"):
        Vectorised(halvings=-1)
