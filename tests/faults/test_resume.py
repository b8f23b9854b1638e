"""A run that is killed, anywhere, ends as if it had not been: bit-equal parameters, and no charge forgotten."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fedemb.privacy.ledger import Ledger
from fedemb.server import checkpoint, hooks
from fedemb.server.run_folder import RunFolder

ROUNDS = 5
SETTINGS = ("noise_multiplier=1", "server.ema_decay=0.9", "server_optimizer=adam", "server.learning_rate=0.01")


class KilledError(BaseException):
    """Stands for kill -9: nothing in fedemb may catch it."""


@pytest.fixture
def words(tiny):
    return [word for word in tiny if not word.startswith("rounds=")] + [f"rounds={ROUNDS}", *SETTINGS]


def final_state(run):
    folder = RunFolder(path=Path(run))
    state, _ = checkpoint.load(folder.checkpoints, Ledger.read(folder.ledger))
    return state


def assert_same(left, right):
    assert left.round == right.round == ROUNDS
    for part in ("params", "average"):
        mine, yours = getattr(left.server, part), getattr(right.server, part)
        assert mine.keys() == yours.keys()
        assert all(torch.equal(mine[name], yours[name]) for name in mine)
    for slot in left.server.slots:
        assert all(torch.equal(v, right.server.slots[slot][n]) for n, v in left.server.slots[slot].items())


def crash_on_call(monkeypatch, module, name, call, after=False):
    """Replace module.name by one that dies at its given call, before or after the real work."""
    real, calls = getattr(module, name), []

    def dying(*args, **kwargs):
        calls.append(1)
        if len(calls) == call and not after:
            raise KilledError
        result = real(*args, **kwargs)
        if len(calls) == call:
            raise KilledError
        return result

    monkeypatch.setattr(module, name, dying)


@pytest.mark.parametrize(
    ("module", "name", "call", "after"),
    [
        (Ledger, "create", 1, True),
        (Ledger, "charge", 5, True),  # charged (after two dry charges of the start-up checks), never run
        (checkpoint, "save_file", 2, False),
        (checkpoint, "save_file", 2, True),  # tensors written, not yet committed
        (checkpoint, "sync", 9, True),
        (hooks.MetricsLog, "append", 2, True),
        (RunFolder, "create", 1, True),
    ],
)
def test_a_run_that_dies_at_a_planted_point_resumes_exactly(
    fedemb, words, tmp_path, monkeypatch, module, name, call, after
):
    assert fedemb("train", *words, f"run={tmp_path}/whole")[0] == 0
    with monkeypatch.context() as patch:
        crash_on_call(patch, module, name, call, after)
        with pytest.raises(KilledError):
            fedemb("train", *words, f"run={tmp_path}/killed")
    assert not (tmp_path / "killed" / "report.json").exists()
    assert fedemb("train", f"run={tmp_path}/killed", "resume=true")[0] == 0
    whole, killed = final_state(tmp_path / "whole"), final_state(tmp_path / "killed")
    assert_same(whole, killed)
    assert whole.ledger.entries == ROUNDS
    assert ROUNDS <= killed.ledger.entries <= ROUNDS + 1


def test_a_round_that_crashes_is_charged_twice(fedemb, words, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        crash_on_call(patch, Ledger, "charge", 5, True)
        with pytest.raises(KilledError):
            fedemb("train", *words, f"run={tmp_path}/killed")
    fedemb("train", f"run={tmp_path}/killed", "resume=true")
    assert Ledger.read(tmp_path / "killed" / "ledger.jsonl").entries == ROUNDS + 1


def start(*words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "fedemb", "train", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_lines(path, lines, process):
    """Until a file has so many lines; the process must still run by then."""
    for _ in range(6000):
        if path.exists() and path.read_text().count("\n") >= lines:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError(f"{path} never got {lines} lines")


def test_kill_9_in_the_middle_then_resume_is_bit_equal(fedemb, words, tmp_path):
    assert fedemb("train", *words, f"run={tmp_path}/whole")[0] == 0
    run = tmp_path / "killed"
    for lines in (1, 4):
        process = start(*words, f"run={run}", "resume=true")
        wait_for_lines(run / "ledger.jsonl", lines, process)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert fedemb("train", *words, f"run={run}", "resume=true")[0] == 0
    killed = final_state(run)
    assert_same(final_state(tmp_path / "whole"), killed)
    assert killed.ledger.entries >= ROUNDS


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(fedemb, words, tmp_path):
    assert fedemb("train", *words, f"run={tmp_path}/whole")[0] == 0
    run = tmp_path / "stopped"
    process = start(*words, "checkpoint_every=1000", f"run={run}")
    wait_for_lines(run / "ledger.jsonl", 1, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert "resume=true" in out
    assert err == ""
    stopped = checkpoint.load(run / "checkpoints", Ledger())[0].round
    assert 0 < stopped < ROUNDS
    assert fedemb("train", f"run={run}", "resume=true")[0] == 0
    finished = final_state(run)
    assert_same(final_state(tmp_path / "whole"), finished)
    assert finished.ledger.entries == ROUNDS  # the round at hand was finished, nothing was charged twice


def test_a_full_disk_is_one_line_and_keeps_the_last_checkpoint(fedemb, words, tmp_path, monkeypatch):
    run = tmp_path / "run"
    real, calls = checkpoint.save_file, []

    def full(tensors, path):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device", str(path))
        real(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        code, _, err = fedemb("train", *words, f"run={run}")
    assert code == 2
    assert err.count("\n") == 1
    assert "No space left on device" in err
    assert fedemb("train", f"run={run}", "resume=true")[0] == 0
    assert final_state(run).round == ROUNDS


def test_a_corrupt_checkpoint_is_refused(fedemb, words, tmp_path):
    run = tmp_path / "run"
    fedemb("train", *words, f"run={run}")
    tensors = next((run / "checkpoints").glob("*.safetensors"))
    tensors.write_bytes(tensors.read_bytes()[:100])
    code, _, err = fedemb("train", f"run={run}", "resume=true")
    assert code == 2
    assert err.count("\n") == 1
    assert "checkpoint" in err


def test_a_flipped_bit_in_a_checkpoint_is_noticed(fedemb, words, tmp_path):
    run = tmp_path / "run"
    fedemb("train", *words, f"run={run}")
    tensors = next((run / "checkpoints").glob("*.safetensors"))
    content = bytearray(tensors.read_bytes())
    content[-5] ^= 1
    tensors.write_bytes(content)
    code, _, err = fedemb("train", f"run={run}", "resume=true")
    assert code == 2
    assert "checksum" in err
