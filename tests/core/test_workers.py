"""Order, bounded memory, errors at their turn, and deaths that are told: of a worker and of the parent."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jobs
import numpy as np
import pytest

from fedemb.core.worker_process import DeadWorkerError
from fedemb.core.workers import Workers


def make(kind, function, count):
    return Workers.alone(function) if kind == "alone" else getattr(Workers, kind)(function, count)


def alive(pid):
    """Is there such a process that still runs?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition, seconds=20.0):
    """Wait for it; false if it takes longer."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize(("kind", "count", "ahead"), [("alone", 0, 3), ("threads", 3, 2), ("processes", 2, 1)])
def test_results_come_in_the_order_of_the_items(kind, count, ahead):
    with make(kind, jobs.after_a_while, count) as workers:
        for _ in range(2):  # the workers outlive a map
            results = list(workers.map(range(30), ahead=ahead))
            assert [item for item, _ in results] == list(range(30))
    pids = {pid for _, pid in results}
    assert (os.getpid() in pids) == (kind != "processes")
    assert len(pids) <= max(count, 1)


@pytest.mark.parametrize(("count", "ahead"), [(1, 0), (2, 0), (2, 3)])
def test_no_more_items_are_out_than_workers_and_those_ahead(count, ahead):
    """An unbounded queue would hold a whole cohort in memory while the first client trains."""
    asked = iter(range(1000))
    taken, most, lock, held = [0], [0], threading.Lock(), []

    def work(item):
        with lock:
            held.append(item)
        return item

    with Workers.threads(work, count) as workers:
        for result in workers.map(asked, ahead=ahead):
            time.sleep(0.001)  # the workers have time to run away
            taken[0] += 1
            assert result == taken[0] - 1
            most[0] = max(most[0], len(held) - taken[0])
            if result == 40:
                break
    assert most[0] == count + ahead  # those beside the one that the caller holds: all workers were kept busy
    assert next(asked) == 41 + count + ahead


@pytest.mark.parametrize(("bytes_ahead", "most"), [(0, 1), (99, 1), (250, 2), (300, 3), (10_000, 7)])
def test_large_items_are_out_only_as_far_as_their_bytes_fit(bytes_ahead, most):
    """Items of 100 bytes, 3 workers and 3 ahead: by number alone, 7 would be out when the first is taken."""
    worked, lock = [], threading.Lock()

    def work(item):
        with lock:
            worked.append(item)
        return item

    with Workers.threads(work, 3) as workers:
        results = workers.map(range(30), ahead=3, size=lambda item: 100, bytes_ahead=bytes_ahead)
        for taken in range(5):
            assert next(results) == taken
            time.sleep(0.02)  # the workers have time to run away
            assert len(worked) <= taken + most
        assert until(lambda: len(worked) == 4 + most)
        assert list(results) == list(range(5, 30))


def test_one_large_item_among_small_ones_waits_for_its_room():
    sizes = [1, 1, 500, 1, 1, 1]
    worked = []
    with Workers.threads(lambda item: worked.append(item) or item, 2) as workers:
        results = workers.map(range(6), ahead=2, size=sizes.__getitem__, bytes_ahead=100)
        seen = []
        for result in results:
            time.sleep(0.02)
            seen.append((result, 2 in worked, 3 in worked))
    assert seen[:3] == [(0, False, False), (1, False, False), (2, True, False)]
    assert [result for result, *_ in seen] == [*range(6)]


def test_alone_works_when_asked_and_not_before():
    worked = []
    with Workers.alone(worked.append) as workers:
        results = workers.map(range(5), ahead=3)
        for asked in range(1, 4):
            next(results)
            assert len(worked) == asked


@pytest.mark.parametrize("kind", ["alone", "threads", "processes"])
def test_an_error_arrives_at_its_turn_with_its_type(kind):
    with make(kind, jobs.failing, 1) as workers:
        results = workers.map(range(4), ahead=3)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(FileNotFoundError) as caught:
            next(results)
        assert (caught.value.errno, caught.value.filename) == (2, "third.bin")
        assert list(workers.map([7, 8])) == [7, 8]  # an error is not the end of the worker


def test_errors_and_results_that_cannot_be_pickled_are_told():
    """concurrent.futures takes an error that cannot be unpickled for the death of a worker."""
    with Workers.processes(jobs.failing, 1) as workers:
        with pytest.raises(RuntimeError, match=r"^OddError: this and that$"):
            list(workers.map([4]))
        with pytest.raises((AttributeError, pickle.PicklingError), match=r"[Cc]an't pickle local object"):
            list(workers.map([5]))
        with pytest.raises(ValueError) as caught:
            list(workers.map([6]))
    assert str(caught.value) == "six"
    assert "KeyError: 'the cause'" in caught.value.__notes__[0]
    assert "in failing" in caught.value.__notes__[0]


def test_a_function_that_cannot_reach_the_workers_is_told():
    with pytest.raises(ValueError, match=r"cannot be pickled: .*; take threads"):
        Workers.processes(lambda item: item, 1)
    with Workers.processes(jobs.Unbuildable(), 1) as workers, pytest.raises(ImportError, match="mything"):
        list(workers.map([1]))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("kill", r"was killed by signal 9 \(Killed\)"),
        ("kill while sending", r"was killed by signal 9 \(Killed\)"),
        ("exit", "ended with exit code 3"),
    ],
)
def test_a_dead_worker_raises_in_one_line(how, told):
    """A shared queue waits for ever for the rest of a result whose sender has been killed."""
    with Workers.processes(jobs.dying, 2) as workers:
        results = workers.map(["a", how, "b", "c", "d"], ahead=1)
        assert next(results) == "a"
        with pytest.raises(DeadWorkerError, match=told) as caught:
            list(results)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value.__cause__, EOFError | OSError)


@pytest.mark.parametrize("count", [0, 1, 10**6])
def test_arrays_arrive_whole_and_writable(count):
    with Workers.processes(jobs.array, 1) as workers:
        (result,) = workers.map([count])
    assert np.array_equal(result["values"], np.arange(count, dtype=np.float64))
    assert result["values"].flags.writeable


def test_closing_early_cancels_what_waits():
    worked = []

    def work(item):
        worked.append(item)
        time.sleep(0.05)

    with Workers.threads(work, 1) as workers:
        results = workers.map(range(100), ahead=50)
        next(results)
        results.close()
        seen = len(worked)
        time.sleep(0.15)
        assert len(worked) <= seen + 1  # the one at hand is finished, the other 50 are not begun


def test_closing_ends_busy_processes_at_once(tmp_path):
    workers = Workers.processes(jobs.long_work, 2)
    results = workers.map([tmp_path] * 4)

    def ask():
        with pytest.raises(DeadWorkerError):
            next(results)

    asking = threading.Thread(target=ask)
    asking.start()
    assert until(lambda: len(list(tmp_path.iterdir())) == 2)
    started = time.monotonic()
    workers.close()
    asking.join()
    assert time.monotonic() - started < 5
    assert not [pid for pid in tmp_path.iterdir() if alive(pid.stem)]
    workers.close()  # twice does no harm


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_no_worker_outlives_its_parent(tmp_path, number, code):
    """Ctrl-C goes to the whole group: the workers leave it to the parent and print nothing of their own."""
    parent = subprocess.Popen(
        [sys.executable, jobs.__file__, tmp_path], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert until(lambda: len(list(tmp_path.iterdir())) == 2), parent.communicate()
    workers = [int(file.stem) for file in tmp_path.iterdir()]
    assert all(map(alive, workers))
    (os.killpg if number == signal.SIGINT else os.kill)(parent.pid, number)
    _, err = parent.communicate(timeout=20)
    assert parent.returncode == code, err
    assert err == ""
    assert until(lambda: not any(map(alive, workers)))


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_the_number_of_workers_is_checked(kind, count):
    with pytest.raises(ValueError, match="workers"):
        make(kind, jobs.array, count)
