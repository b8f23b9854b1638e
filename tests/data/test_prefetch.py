"""Which workers load, and how many, changes nothing but the time; what goes wrong in them reaches the user."""

import itertools
import os
import pickle
import subprocess
import sys
import threading
from functools import partial

import pytest
import torch
import unreliable
from safetensors.torch import load_file
from small import CLASSES, RAGGED, make_load, make_users, make_work

from fedemb.client.finetune import FineTune
from fedemb.data import prefetch
from fedemb.data.batching import Batcher
from fedemb.data.transforms import Compose, LocalLabels, RandomAffine, ScalePixels
from fedemb.execution.executor import Sequential
from fedemb.execution.memory import client_bytes
from fedemb.execution.vectorised import Vectorised
from fedemb.privacy.clipping import FlatClipping

KINDS = {
    "none": prefetch.none,
    "thread": partial(prefetch.threads, workers=1, ahead=0),
    "threads": partial(prefetch.threads, workers=3, ahead=2),
    "process": partial(prefetch.processes, workers=1, ahead=0),
    "processes": partial(prefetch.processes, workers=2, ahead=3),
}
WORDS = {
    "none": ("prefetch=none",),
    "threads": ("prefetch=threads", "prefetch.workers=3", "prefetch.ahead=4"),
    "processes": ("prefetch=processes", "prefetch.workers=1", "prefetch.ahead=0"),
}
ODD = (
    "recipe=synthetic", "~users", "~model", "+model={_target_: small.Line, width: 4}", "embedding_width=4",
    "test_users=none", "users_per_round=8", "users_per_client=2", "rounds=3", "checkpoint_every=1",
    "noise_multiplier=0.5", "client.learning_rate=0.01",
)  # fmt: skip


def equal(left, right):
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


@pytest.fixture
def several_threads():
    """The training thread computes with two threads, as it does outside of tests; workers with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickled_one_loads_the_same(kind):
    transform = Compose(transforms=[LocalLabels(max_classes=CLASSES), ScalePixels()])
    batcher = Batcher(users=make_users(), batch_size=8, transform=transform)
    with KINDS[kind](batcher.load) as first, pickle.loads(pickle.dumps(first)) as second:
        assert all(map(equal, first(RAGGED.clients), second(RAGGED.clients)))


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_bit_equal_and_in_order(kind, several_threads):
    transforms = [LocalLabels(max_classes=CLASSES), ScalePixels(), RandomAffine(degrees=9.0, translate=0.1, shear=5.0)]
    batcher = Batcher(users=make_users(), batch_size=8, epochs=3, transform=Compose(transforms=transforms))
    wanted = [batcher.load(client) for client in RAGGED.clients]
    with KINDS[kind](batcher.load) as load:
        for _ in range(2):  # round after round
            found = list(load(RAGGED.clients))
            assert len(found) == len(wanted)
            assert all(map(equal, found, wanted))
        assert list(load([])) == []


@pytest.mark.parametrize("kind", ["none", "threads", "process"])
def test_values_of_any_type_and_shape_arrive(kind, several_threads):
    plain = unreliable.odd_values(None)
    with KINDS[kind](unreliable.odd_values) as load:
        rounds = [list(load(RAGGED.clients)) for _ in range(2)]
    for batch in rounds[0] + rounds[1]:
        telling = {"threads": plain["threads"], "process": plain["process"]}
        assert equal({**batch, **telling}, plain)
        assert int(batch["threads"]) == (2 if kind == "none" else 1)  # more would take the cores from the training
    assert torch.get_num_threads() == 2  # of the training thread, as before
    pids = {int(batch["process"]) for batch in rounds[1]}
    assert (os.getpid() in pids) == ("process" not in kind)
    if kind == "process":
        assert pids == {int(batch["process"]) for batch in rounds[0]}  # it lasts


@pytest.mark.parametrize("kind", ["none", "threads", "process"])
def test_an_error_comes_at_its_client(kind):
    load_one = Batcher(users=unreliable.Users(victim=10), batch_size=4, transform=ScalePixels()).load
    with KINDS[kind](load_one) as load:
        batches = load([RAGGED.clients[1], RAGGED.clients[3], RAGGED.clients[0], RAGGED.clients[2]])
        assert len(list(zip(range(2), batches, strict=False))) == 2
        with pytest.raises(ValueError, match=r"^the record of user 10 is damaged"):
            next(batches)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_settings_are_checked(kind):
    for settings, word in (({"workers": 0, "ahead": 1}, "workers"), ({"workers": 1, "ahead": -1}, "ahead")):
        with pytest.raises(ValueError, match=word):
            getattr(prefetch, kind)(unreliable.odd_values, **settings)


@pytest.mark.parametrize("executor", ["sequential", "vectorised"])
def test_the_next_clients_are_loaded_while_these_train(executor):
    """One client, or chunk of two, trains until the next is there: without prefetching that would never be."""
    work, load_one, loaded = make_work(), make_load(), {client: threading.Event() for client in RAGGED.clients}
    shared = work.task.init(0)
    chunk = {"sequential": 1, "vectorised": 2}[executor]
    needed = client_bytes(work, shared, RAGGED.clients[0], load_one(RAGGED.clients[0]))
    by = {"sequential": Sequential(), "vectorised": Vectorised(memory_gib=2.5 * needed / 2**30)}[executor]
    begun, calls = [], itertools.count(1 - chunk)  # the chunk's first client begins once for its memory to be counted

    def tell(client):
        batches = load_one(client)
        loaded[client].set()
        return batches

    def begin(shared, client):
        if client in loaded and next(calls) >= 0:
            place = RAGGED.clients.index(client) // chunk * chunk + chunk
            begun.append(all(loaded[later].wait(10) for later in RAGGED.clients[place : place + chunk]))
        return FineTune.begin(work, shared, client)

    object.__setattr__(work, "begin", begin)
    with prefetch.threads(tell, workers=1, ahead=chunk - 1) as load:
        by.clipped_sum(work, FlatClipping(clip_norm=1.0), shared, RAGGED, load)
    assert begun == [True] * len(RAGGED.clients)


def final_model(run):
    return load_file(run / "model" / "backbone.safetensors")


def test_runs_are_bit_equal_for_all_workers(fedemb, tiny, tmp_path):
    for kind, words in WORDS.items():
        settings = [*tiny, "rounds=2", "augment=affine", "executor=vectorised", *words]
        assert fedemb("train", *settings, f"run={tmp_path}/{kind}")[0] == 0
    models = [final_model(tmp_path / kind) for kind in WORDS]
    assert all(equal(model, models[0]) for model in models)
    assert not [thread for thread in threading.enumerate() if "fedemb" in thread.name]


@pytest.mark.parametrize("kind", WORDS)
def test_damaged_data_is_the_same_one_line(fedemb, tmp_path, kind):
    code, _, err = fedemb(
        "train", *ODD, *WORDS[kind], "+users={_target_: unreliable.Users, victim: 5}", f"run={tmp_path}/run"
    )
    assert code == 2
    assert err == "fedemb: the record of user 5 is damaged\n"
    assert not [thread for thread in threading.enumerate() if "fedemb" in thread.name]


def test_a_run_whose_worker_died_says_so_and_goes_on_bit_equal(fedemb, tmp_path):
    mended = tmp_path / "mended"
    data = f"+users={{_target_: unreliable.Users, victim: 5, how: killed, until: {mended}}}"
    assert fedemb("train", *ODD, data, *WORDS["none"], f"run={tmp_path}/whole")[0] == 0
    code, _, err = fedemb("train", *ODD, data, *WORDS["processes"], f"run={tmp_path}/died")
    assert code == 2
    assert err.count("\n") == 1
    assert "a worker process was killed by signal 9" in err
    assert not (tmp_path / "died" / "report.json").exists()
    mended.touch()
    assert fedemb("train", f"run={tmp_path}/died", "resume=true")[0] == 0
    assert equal(final_model(tmp_path / "died"), final_model(tmp_path / "whole"))


def test_a_released_run_writes_nothing_more(fedemb, tiny, tmp_path):
    run = tmp_path / "run"
    assert fedemb("train", *tiny, "rounds=1", "mode=release", *WORDS["processes"], f"run={run}")[0] == 0
    files = {file.name for file in run.iterdir()} - {".lock"}
    assert files == {
        "config.yaml", "report.json", "report.html", "metrics.csv", "ledger.jsonl", "checkpoints", "model", "train.log",
    }  # fmt: skip


def test_data_of_ones_own_reaches_worker_processes(tmp_path):
    """A file in the current directory, by the installed command, which does not look there by itself."""
    (tmp_path / "mything.py").write_text("import unreliable\n\nclass Mine(unreliable.Users):\n    pass\n")
    command = [sys.executable, "-P", "-m", "fedemb", "train", *ODD, *WORDS["processes"], "rounds=1", "run=run"]
    support = os.path.dirname(unreliable.__file__)
    done = subprocess.run(
        [*command, "+users={_target_: mything.Mine}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": support, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (tmp_path / "run" / "report.json").exists()


def test_data_that_cannot_reach_worker_processes_is_one_line(fedemb, tmp_path):
    words = [*ODD, *WORDS["processes"], "+users={_target_: unreliable.unpicklable}", f"run={tmp_path}/run"]
    code, _, err = fedemb("train", *words)
    assert code == 2
    assert err.count("\n") == 1
    assert "take threads" in err
    assert not (tmp_path / "run").exists()


def test_the_time_that_a_caller_waits_is_added_up(monkeypatch):
    """Not what it does with the batches, and nothing before it asks for any."""
    clock = itertools.count(0.0, 2.0)  # two seconds between any two looks at it
    monkeypatch.setattr(prefetch.time, "perf_counter", lambda: next(clock))
    load = prefetch.none(make_load())
    assert load.waited is None
    assert list(load(())) == []
    assert load.waited is None
    for _ in load(RAGGED.clients):
        next(clock)
    assert load.waited == 2.0 * len(RAGGED.clients)
    list(load(RAGGED.clients[:2]))
    assert load.waited == 2.0 * (len(RAGGED.clients) + 2)
    assert pickle.loads(pickle.dumps(prefetch.none(make_load()))).waited is None
