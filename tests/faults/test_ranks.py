"""A rank that dies, stalls or fails: the others end with the cause, and a restarted group goes on with the run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ranks import Failing, die, in_parts, stall, world
from small import RAGGED, make_stream, make_work

from fedemb.core.worker_process import DeadWorkerError
from fedemb.privacy.clipping import FlatClipping
from fedemb.privacy.ledger import Ledger
from fedemb.server import checkpoint
from fedemb.server.run_folder import RunFolder

SUPPORT = Path(__file__).parents[1] / "support"
ROUNDS = 5


@pytest.mark.parametrize(("how", "timeout_seconds"), [(die, 60.0), (stall, 1.0)])
def test_a_rank_that_dies_or_stalls_is_one_line(how, timeout_seconds):
    work, load = make_work(), Failing(load=make_stream(), seed=101, how=how)
    line = r"^(rank 1|a rank) did not answer: it died, or took longer than executor.timeout_seconds; go on with resume="
    with pytest.raises(DeadWorkerError, match=line), world(2):
        in_parts(timeout_seconds=timeout_seconds).clipped_sum(
            work, FlatClipping(clip_norm=0.3), work.task.init(0), RAGGED, load
        )


def torchrun(run, how, options, words):
    """Two ranks; (exit code, standard error)."""
    environment = {**os.environ, "FEDEMB_TEST_RUN": str(run), "FEDEMB_TEST_HOW": how, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--monitor-interval=0.1", *options]
    done = subprocess.run(
        [*launcher, "-m", "fedemb", "train", *words, f"run={run}", "executor=distributed"],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


def final_state(run):
    folder = RunFolder(path=run)
    return checkpoint.load(folder.checkpoints, Ledger.read(folder.ledger))[0]


@pytest.fixture
def words(tiny):
    settings = [word for word in tiny if not word.startswith("rounds=")]
    return [*settings, f"rounds={ROUNDS}", "noise_multiplier=0.001"]


def test_a_killed_rank_is_restarted_and_its_round_is_charged_again(fedemb, words, tmp_path):
    assert fedemb("train", *words, f"run={tmp_path}/whole")[0] == 0
    run, unlucky = tmp_path / "killed", "users._target_=one_bad_rank.Unlucky"
    code, err = torchrun(run, "dies", ["--max-restarts=1"], [*words, unlucky, "resume=true"])
    assert code == 0, err
    assert run.with_suffix(".died").exists()
    whole, killed = final_state(tmp_path / "whole"), final_state(run)
    assert killed.round == ROUNDS
    assert killed.ledger.entries == ROUNDS + 1
    for name, value in whole.server.params.items():
        torch.testing.assert_close(killed.server.params[name], value, rtol=0, atol=1e-5)


def test_a_mistake_on_another_rank_is_one_line_with_its_place(words, tmp_path):
    run = tmp_path / "run"
    code, err = torchrun(run, "says so", [], [*words, "users._target_=one_bad_rank.Unlucky"])
    assert code != 0
    told = [line for line in err.splitlines() if line.startswith("fedemb: ")]
    assert len(told) == 1, err
    assert told[0].startswith("fedemb: rank 1 on ")
    assert told[0].endswith(": [Errno 2] No such file or directory: 'user7.png'")
    assert "exitcode  : 2 " in err, err  # of rank 0
    assert Ledger.read(run / "ledger.jsonl").entries == 3  # the round was charged before it failed


def test_ranks_with_other_users_are_refused_before_a_round(words, tmp_path):
    """User 5 would be one person on one machine and another one on the next: one of them could take part twice."""
    code, err = torchrun(tmp_path / "run", "", [], [*words, "users._target_=one_bad_rank.Others"])
    assert code != 0
    told = [line for line in err.splitlines() if line.startswith("fedemb: ")]
    assert len(told) == 1, err
    assert told[0].startswith("fedemb: rank 1 on ")
    assert told[0].endswith(": users= are others here than on rank 0: give all machines the same data set")
    assert not (tmp_path / "run").exists()


def test_restarts_that_would_start_from_scratch_are_refused(words, tmp_path, fedemb, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    line = "fedemb: torchrun --max-restarts goes on with a run only if it is named: add run=FOLDER resume=true\n"
    for named in (["resume=true"], [f"run={tmp_path}/run"]):
        code, _, err = fedemb("train", *words, "executor=distributed", *named)
        assert (code, err) == (2, line)
    assert not (tmp_path / "run").exists()
