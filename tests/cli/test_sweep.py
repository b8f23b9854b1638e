"""fedemb train -m from the outside: what fails, what goes on, what is told."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
from omegaconf import OmegaConf

from fedemb.cli import objective
from fedemb.privacy.ledger import Ledger
from fedemb.report.record import TUNING
from fedemb.server.hooks import MetricsLog
from fedemb.server.sweep_folder import SweepFolder

SMALL = ("rounds=1", "users_per_round=2", "users.examples_per_user=2", "test_users.num_users=2", "noise_multiplier=2")


@pytest.fixture
def sweep(fedemb, tiny, tmp_path):
    """fedemb train -m of tiny runs of one round, in tmp_path/sweep: (exit code, stdout, stderr)."""

    def call(*words):
        return fedemb("train", "-m", *tiny, *SMALL, f"sweep={tmp_path}/sweep", *words)

    return call


def index(tmp_path):
    lines = (tmp_path / "sweep" / "sweep.jsonl").read_text().splitlines()
    return {line["point"]: line for line in map(json.loads, lines)}


def report(tmp_path, number):
    return json.loads((tmp_path / "sweep" / str(number) / "report.json").read_text())


def test_a_failed_point_is_listed_and_does_not_sink_the_rest(sweep, tmp_path):
    code, out, err = sweep("noise_multiplier=-1,2,3")
    assert code == 1
    assert err == "fedemb: point 0 failed: noise_multiplier must be 0 or above, got noise_multiplier=-1\n"
    points = index(tmp_path)
    assert [points[number]["status"] for number in range(3)] == ["failed", "finished", "finished"]
    assert (points[0]["mistake"], points[0]["metrics"], points[0]["privacy"]) == (True, {}, {})
    assert not (tmp_path / "sweep" / "0").exists()
    for number in (1, 2):
        found, line = report(tmp_path, number), points[number]
        assert line["metrics"] == found["metrics"]
        assert line["privacy"]["epsilon"] == found["privacy"]["epsilon"]
        assert line["privacy"]["delta"] == found["privacy"]["delta"]
        assert found["tuning"] == TUNING
        assert Ledger.read(tmp_path / "sweep" / str(number) / "ledger.jsonl").entries == 1
    assert points[1]["privacy"]["epsilon"] > points[2]["privacy"]["epsilon"]
    table = out[out.index("point  ") :].splitlines()
    assert table[0].split()[:2] == ["point", "noise_multiplier"]  # what the points differ in, and nothing else
    assert [line.split()[1] for line in table[1:4]] == ["-1", "2", "3"]
    assert f"{points[2]['metrics']['recall@1']:.4f}" in table[3]
    assert "ε: user-level, substitute-one, if the seed were secret" in out
    assert TUNING in out


def test_wrong_input_of_all_points_is_one_line_and_can_be_mended_in_place(sweep, tmp_path):
    code, _, err = sweep("clip_norm=-1", "seed=0,1")
    assert (code, err) == (2, "fedemb: points 0, 1 failed: clip_norm must be above 0, got clip_norm=-1\n")
    assert not any(path.is_dir() for path in (tmp_path / "sweep").iterdir())
    code, _, err = sweep("seed=0")  # the folder holds nothing yet that could be mixed up
    assert (code, err) == (0, "")
    assert [line["status"] for line in index(tmp_path).values()] == ["finished"]


def test_a_sweep_is_not_continued_unasked_and_finished_points_are_looked_up(sweep, tmp_path):
    assert sweep("seed=0")[0] == 0
    code, _, err = sweep("seed=0,1")
    assert code == 2
    assert "holds a sweep already: go on with resume=true" in err
    before = (tmp_path / "sweep" / "0" / "report.json").stat().st_mtime_ns
    code, out, err = sweep("seed=1,0", "resume=true", "tracker=tensorboard")  # another order, and watched: the same
    assert (code, err) == (0, "")
    assert "point 0 is finished" in out
    assert (tmp_path / "sweep" / "0" / "report.json").stat().st_mtime_ns == before
    assert {number: line["overrides"][-1] for number, line in index(tmp_path).items()} == {0: "seed=0", 1: "seed=1"}


def test_ctrl_c_ends_the_sweep_and_the_same_command_goes_on(sweep, tmp_path, monkeypatch):
    real, calls = MetricsLog.append, []

    def interrupting(log, row):
        real(log, row)
        calls.append(row["round"])
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGINT)

    words = ("seed=0,1", "rounds=4")
    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "append", interrupting)
        code, out, _ = sweep(*words)
    assert (code, calls) == (130, [0, 2, 4, 0, 2])
    assert f"the same command with sweep={tmp_path}/sweep resume=true goes on" in out.splitlines()[-1]
    assert [line["status"] for line in index(tmp_path).values()] == ["finished", "stopped"]
    assert sweep(*words, "resume=true")[0] == 0
    assert [line["status"] for line in index(tmp_path).values()] == ["finished"] * 2
    assert Ledger.read(tmp_path / "sweep" / "1" / "ledger.jsonl").entries == 4  # no round was charged twice


def test_a_killed_sweep_goes_on_from_each_points_own_ledger(fedemb, tiny, tmp_path):
    """kill -9 in the second point: the first is looked up, the second continued."""
    words = ["train", "-m", *tiny, *SMALL, "rounds=4", "noise_multiplier=2,3", f"sweep={tmp_path}/sweep"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "fedemb", *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    ledger = tmp_path / "sweep" / "1" / "ledger.jsonl"
    while not ledger.exists() or ledger.read_text().count("\n") < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    points = index(tmp_path)
    assert [points[number]["status"] for number in points] == ["finished", "running"]
    charged = Ledger.read(ledger).entries
    first = (tmp_path / "sweep" / "0" / "report.json").stat().st_mtime_ns
    code, out, err = fedemb(*words, "resume=true")
    assert (code, err) == (0, "")
    assert (tmp_path / "sweep" / "0" / "report.json").stat().st_mtime_ns == first
    assert [line["status"] for line in index(tmp_path).values()] == ["finished"] * 2
    entries = [Ledger.read(tmp_path / "sweep" / str(number) / "ledger.jsonl").entries for number in range(2)]
    assert entries[0] == 4
    assert 4 <= entries[1] <= 5  # the round at hand is charged again, none is forgotten
    assert report(tmp_path, 1)["privacy"]["rounds_charged"] == entries[1] >= charged
    assert "round 1/4" not in out.split("run folder")[1]  # continued, not begun anew


def test_a_point_that_another_process_works_on_is_left_to_it(sweep, tmp_path):
    folder = SweepFolder(path=tmp_path / "sweep")
    (tmp_path / "sweep").mkdir()
    with folder.working_on(0):
        code, out, err = sweep("seed=0,1")
    assert code == 1
    assert "point 0 is in the work of another process" in out
    assert err == "fedemb: point 0 is in the work of another process\n"
    assert [line["status"] for line in index(tmp_path).values()] == ["running", "finished"]
    assert not (tmp_path / "sweep" / "0").exists()


def test_points_of_a_release_print_no_times(sweep, tmp_path):
    """Launchers write down what jobs print, and times follow the amount of private data."""
    code, out, _ = sweep("seed=0", "mode=release")
    assert code == 0
    assert "rounds/s" not in out
    assert "point" in out
    assert "seconds" not in (tmp_path / "sweep" / "sweep.jsonl").read_text()


@pytest.mark.parametrize(
    ("mode", "told"), [("simulate", "RuntimeError: user 17 has 3 images"), ("release", "RuntimeError")]
)
def test_a_defect_is_a_failed_point_whose_words_a_release_does_not_keep(sweep, tmp_path, monkeypatch, mode, told):
    def broken(self, row):
        raise RuntimeError("user 17 has 3 images")

    monkeypatch.setattr(MetricsLog, "append", broken)
    code, _, err = sweep("seed=0", f"mode={mode}")
    assert code == 1
    assert err.endswith(f"fedemb: point 0 failed: {told}\n")
    (line,) = index(tmp_path).values()
    assert (line["reason"], line["mistake"]) == (told, False)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["-m", "seed=0,1", "run=here"],
            "run=here is the folder of one run: name the sweep's folder with sweep=FOLDER",
        ),
        (["-m", "seed=0,1", "sweep="], "sweep= is empty"),
        (["sweep=here"], "sweep= names the folder of a sweep: add -m"),
        (["objective=ema/recall@1"], "objective=ema/recall@1 is not measured in this run; choose one of recall@far"),
        (["objective=recall@far=0.5"], "objective=recall@far=0.5 is not measured in this run"),
        (["-m", "seed=0,1", "hydra/sweeper=nosuch"], "unknown hydra/sweeper 'nosuch'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(fedemb, tiny, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    code, _, err = fedemb("train", *words, *tiny)
    assert (code, err.count("\n")) == (2, 1), err
    assert told in err
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_shows_its_traceback_when_asked_to(fedemb, tiny, monkeypatch):
    """Hydra turns what its callbacks raise into warnings: a refusal must not be lost there."""
    monkeypatch.setenv("FEDEMB_TRACEBACK", "1")
    with pytest.raises(ValueError, match="folder of one run"):
        fedemb("train", "-m", *tiny, "seed=0,1", "run=here")


def test_torchrun_does_not_sweep(sweep, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = sweep("seed=0,1")
    assert code == 2
    assert "sweep without torchrun" in err


def test_the_objective_is_what_the_report_says(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"metrics": {"recall@1": 0.25, "auc": None}, "privacy": {"epsilon": None}}))

    def value(named):
        return objective.value(OmegaConf.create({"objective": named}), path)

    assert value("recall@1") == 0.25
    assert value(["recall@1", "epsilon"]) == (0.25, math.inf)  # no guarantee is the worst ε
    assert math.isnan(value("auc"))
    assert value(None) is None
    with pytest.raises(ValueError, match="objective=loss is not measured in this run"):
        value("loss")
