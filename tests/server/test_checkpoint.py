"""Checkpoints: bit-exact, atomic whatever step the process dies at, and one line for a damaged file."""

import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from fedemb.core import files
from fedemb.core.optim import SGD, Adam
from fedemb.privacy.ledger import Ledger
from fedemb.server import checkpoint
from fedemb.server.optimizer import FedOpt
from fedemb.server.plan import RunState


def state_after(rounds, optimizer=None, noise=None):
    """A state with odd values, names with dots and scalars, after some releases."""
    stream = torch.Generator().manual_seed(3)
    params = {
        "conv.weight": torch.randn(2, 3, generator=stream),
        "scale": torch.tensor(1e-42),  # denormal
        "ice.cold": torch.tensor([0.1, float("inf"), -0.0]),
        "column": torch.randn(4, 5, generator=stream).T,  # not contiguous
    }
    trained = {name: params[name] for name in ("conv.weight", "scale", "column")}
    server = FedOpt(optimizer=optimizer or Adam(), learning_rate=0.1, planned_clients=3, ema_decay=0.9)
    state = server.init(params, trained)
    for _ in range(rounds):
        release = {n: torch.randn(v.shape, generator=stream, dtype=torch.float64) for n, v in trained.items()}
        state = server.update(state, release)
    noise = {"tree": {"conv.weight": torch.randn(2, 3, generator=stream, dtype=torch.float64)}} if noise else {}
    return RunState(round=rounds + 2, server=state, query={}, noise=noise, ledger=Ledger())


def bits(params):
    return {name: (value.dtype, value.shape, value.contiguous().numpy().tobytes()) for name, value in params.items()}


def equal(left, right):
    """Are two states the same bit for bit?"""
    same = bits(left.server.params) == bits(right.server.params)
    same &= bits(left.server.average) == bits(right.server.average)
    for one, other in ((left.server.slots, right.server.slots), (left.noise, right.noise)):
        same &= one.keys() == other.keys() and all(bits(one[slot]) == bits(other[slot]) for slot in one)
    return same and (left.round, left.server.updates) == (right.round, right.server.updates)


@pytest.mark.parametrize("rounds", [0, 1, 3])
@pytest.mark.parametrize("optimizer", [SGD(), SGD(momentum=0.9), Adam()])
@pytest.mark.parametrize("noise", [False, True])
def test_round_trip_is_bit_exact(tmp_path, rounds, optimizer, noise):
    """At round 0 the average is the very tensors of the parameters: shared storage must be no obstacle."""
    state = state_after(rounds, optimizer, noise)
    checkpoint.save(tmp_path / "c", state, {"seconds": 1.5, "examples": 7})
    loaded, progress = checkpoint.load(tmp_path / "c", Ledger())
    assert equal(loaded, state)
    assert progress == {"seconds": 1.5, "examples": 7}
    if isinstance(optimizer, Adam):
        assert float(loaded.server.slots["step"]["count"]) == rounds


def test_nothing_saved_yet(tmp_path):
    assert checkpoint.load(tmp_path / "none", Ledger()) is None


def test_the_ledger_is_the_runs_own(tmp_path):
    """A round that was charged and crashed before its checkpoint is spent all the same."""
    checkpoint.save(tmp_path, state_after(1), {})
    ledger = Ledger(entries=9)
    assert checkpoint.load(tmp_path, ledger)[0].ledger is ledger


def test_only_the_latest_is_kept(tmp_path):
    for rounds in range(4):
        checkpoint.save(tmp_path, state_after(rounds), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest.json", "round-00000005.safetensors"]


class Crash(Exception):
    pass


def crash_at(monkeypatch, step):
    """The `step`-th file operation of a save raises instead of happening."""
    count = iter(range(100))

    def planted(original):
        def call(*args, **kwargs):
            if next(count) == step:
                raise Crash
            return original(*args, **kwargs)

        return call

    monkeypatch.setattr(checkpoint, "save_file", planted(checkpoint.save_file))
    for module in (checkpoint, files):
        monkeypatch.setattr(module, "sync", planted(files.sync))
    for name in ("replace", "write_text", "unlink"):
        monkeypatch.setattr(Path, name, planted(getattr(Path, name)))
    return count


def test_crash_at_any_step_leaves_the_old_or_the_new_checkpoint(tmp_path, monkeypatch):
    """Between the tensor file and latest.json, in the middle of either, and while tidying up."""
    old, new = state_after(1), state_after(2)
    outcomes = []
    for step in range(20):
        folder = tmp_path / str(step)
        checkpoint.save(folder, old, {"at": "old"})
        with monkeypatch.context() as patch:
            count = crash_at(patch, step)
            try:
                checkpoint.save(folder, new, {"at": "new"})
                crashed = False
            except Crash:
                crashed = True
            operations = next(count)
        loaded, progress = checkpoint.load(folder, Ledger())
        assert equal(loaded, {"old": old, "new": new}[progress["at"]])
        outcomes.append(progress["at"])
        checkpoint.save(folder, new, {"at": "again"})  # what the crash left behind is no obstacle
        assert equal(checkpoint.load(folder, Ledger())[0], new)
        assert len(list(folder.iterdir())) == 2
        if not crashed:
            break
    assert not crashed
    assert operations >= 7  # save, sync, rename, write, sync, rename, unlink
    assert outcomes == sorted(outcomes, reverse=True)  # old up to one step, new from there on
    assert outcomes.count("old") >= 5


def truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("harm", [truncate, flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_damaged_tensors_are_one_line(tmp_path, harm):
    checkpoint.save(tmp_path, state_after(1), {})
    harm(tmp_path / "round-00000003.safetensors")
    with pytest.raises(ValueError, match=r"^checkpoint .*latest\.json is damaged: .*new run folder$") as raised:
        checkpoint.load(tmp_path, Ledger())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "3", "{}", '{"round": 1}', "missing progress", "bad round"])
def test_damaged_record_is_one_line(tmp_path, text):
    checkpoint.save(tmp_path, state_after(1), {})
    record = json.loads((tmp_path / "latest.json").read_text())
    if text == "missing progress":
        text = json.dumps({key: value for key, value in record.items() if key != "progress"})
    if text == "bad round":
        text = json.dumps({**record, "round": None})
    (tmp_path / "latest.json").write_text(text)
    with pytest.raises(ValueError, match=r"^checkpoint .*latest\.json is damaged: .*new run folder$") as raised:
        checkpoint.load(tmp_path, Ledger())
    assert "\n" not in str(raised.value)


def test_write_atomically_replaces_or_leaves(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write_atomically(path, "old")
    with monkeypatch.context() as patch:
        crash_at(patch, 2)  # after the draft is written and synced
        with pytest.raises(Crash):
            files.write_atomically(path, "new")
    assert path.read_text() == "old"
    files.write_atomically(path, "new")
    assert path.read_text() == "new"


def test_a_full_disk_is_an_error_of_the_file(tmp_path, monkeypatch):
    """The library that writes tensors has an error of its own, which is no mistake of anybody's."""

    def full(tensors, path):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left on device") as raised:
        checkpoint.save(tmp_path, state_after(1), {})
    assert raised.value.errno == errno.ENOSPC
    assert raised.value.filename.endswith(".draft")
