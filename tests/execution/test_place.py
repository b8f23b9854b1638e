"""Batches on their way to a device that is busy, and how much fits there."""

from functools import partial

import pytest
import torch
from small import RAGGED, Line, make_load, make_task, make_work

from fedemb.core.params import flatten
from fedemb.execution.executor import Sequential
from fedemb.execution.memory import client_bytes
from fedemb.execution.place import Busy, Driver, place_of
from fedemb.execution.vectorised import Vectorised
from fedemb.privacy.clipping import FlatClipping

WORK, LOAD, CLIPPING = make_work(task=make_task(backbone=Line())), make_load(), FlatClipping(clip_norm=0.3)


class Log(Driver):
    """Notes what is asked of it."""

    def __init__(self, free_bytes=2**33):
        self.lines, self.free, self._marks = [], free_bytes, 0

    def free_bytes(self):
        self.lines.append("free")
        return self.free

    def send(self, batch):
        self.lines.append("send")
        return {name: value.clone() for name, value in batch.items()}

    def mark(self):
        number, self._marks = self._marks, self._marks + 1
        return lambda: self.lines.append(f"wait {number}")


def test_so_many_batches_are_under_way_and_no_more():
    """Mark 0 is before batch 0: when it has passed, nothing of ours was waiting; mark 1 tells that batch 0 is done."""
    log = Log()
    place = Busy(driver=log, queued=2)
    for _ in range(5):
        place.bring({"image": torch.zeros(1)})
    assert log.lines == ["send", "send", "wait 0", "send", "wait 1", "send", "wait 2", "send"]


def test_a_chunk_takes_half_of_what_is_free():
    assert Busy(driver=Log(free_bytes=6 * 2**30)).gib() == 3.0


def test_a_cpu_is_no_gpu():
    """3/64 GiB fill a core's caches; batches are there already."""
    place, batch = place_of(torch.device("cpu")), {"image": torch.zeros(3)}
    assert place.gib() == 0.046875
    assert place.bring(batch)["image"] is batch["image"]
    assert place_of(torch.device("meta")).gib() == 2.0


@pytest.fixture
def chunk_sizes(monkeypatch):
    sizes, train = [], Vectorised._train

    def spy(self, work, shared, clients, batches):
        sizes.append(len(clients))
        return train(self, work, shared, clients, batches)

    monkeypatch.setattr(Vectorised, "_train", spy)
    return sizes


def test_a_busy_device_gives_the_same_sums_in_chunks_of_the_memory_at_the_start(chunk_sizes):
    """Before anybody's images are read: later on, what is free would follow what they need."""
    shared, first = WORK.task.init(0), RAGGED.clients[0]
    log = Log(free_bytes=2 * 3.5 * client_bytes(WORK, shared, first, LOAD(first)))
    place = Busy(driver=log)
    executor = Vectorised(place=lambda device: place)

    def load(clients):
        for client in clients:
            log.lines.append("load")
            yield LOAD(client)

    wanted, _ = Sequential().clipped_sum(WORK, CLIPPING, shared, RAGGED, partial(map, LOAD))
    for _ in range(2):
        total, found = executor.clipped_sum(WORK, CLIPPING, shared, RAGGED, load)
        torch.testing.assert_close(flatten(total), flatten(wanted), rtol=0, atol=1e-6)
        assert found.examples.tolist() == [20, 0, 1, 16, 11]
        log.free *= 10
    assert log.lines.index("free") < log.lines.index("load")
    assert log.lines.count("free") == 1
    assert chunk_sizes == [3, 3] * 2
    again = Vectorised(place=lambda device: place)
    again.restore(executor.record())
    again.clipped_sum(WORK, CLIPPING, shared, RAGGED, load)
    assert chunk_sizes[4:] == [3, 3]
