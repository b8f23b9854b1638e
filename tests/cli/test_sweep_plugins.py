"""Sweepers and launchers that are plug-ins, for real."""

import json
import re

import pytest
from omegaconf import OmegaConf

SMALL = ("rounds=1", "users_per_round=2", "users.examples_per_user=2", "test_users.num_users=2", "noise_multiplier=2")


@pytest.fixture
def sweep(fedemb, tiny, tmp_path):
    """fedemb train -m of tiny runs, in tmp_path/sweep: (exit code, stdout, stderr)."""

    def call(*words):
        return fedemb("train", "-m", *tiny, *SMALL, f"sweep={tmp_path}/sweep", *words)

    return call


def index(tmp_path):
    return [json.loads(line) for line in (tmp_path / "sweep" / "sweep.jsonl").read_text().splitlines()]


OLD = pytest.mark.filterwarnings("ignore")  # of SQLAlchemy, about the Optuna that Hydra's plug-in asks for
SEARCH = (
    "hydra/sweeper=optuna",
    "hydra.sweeper.direction=maximize",
    "hydra.sweeper.n_trials=2",
    "hydra.sweeper.n_jobs=1",
    "hydra.sweeper.sampler.seed=0",
    "objective=recall@far=0.1",
)


@OLD
def test_optuna_gets_the_public_metric_and_a_repeated_search_looks_it_up(sweep, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    assert sweep(*SEARCH, "server.learning_rate=interval(0.1,1)")[0] == 0
    points = index(tmp_path)
    found = OmegaConf.load(tmp_path / "sweep" / "optimization_results.yaml")
    assert len(points) == 2
    assert found.best_value == max(point["metrics"]["recall@far=0.1"] for point in points)
    code, out, err = sweep(*SEARCH, "server.learning_rate=interval(0.1,1)", "resume=true", "hydra.sweeper.n_trials=3")
    assert (code, "fedemb:" in err) == (0, False), err
    assert [f"point {number} is finished" in out for number in range(3)] == [True, True, False]
    assert index(tmp_path)[:2] == points
    assert len(index(tmp_path)) == 3


@OLD
def test_optuna_goes_on_after_failed_points(sweep, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    code, _, err = sweep(*SEARCH, "server.learning_rate=interval(-2,-1)")
    assert code == 2
    assert len(re.findall(r"^fedemb: point \d failed: learning_rate must be above 0, got", err, re.MULTILINE)) == 2
    assert [point["status"] for point in index(tmp_path)] == ["failed", "failed"]


def test_optuna_needs_an_objective(sweep, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    code, _, err = sweep("hydra/sweeper=optuna", "seed=0,1")
    assert (code, err.count("\n")) == (2, 1)
    assert "name a metric, e.g. objective=recall@1" in err
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("module", "launcher"),
    [
        ("hydra_plugins.hydra_joblib_launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
        ("hydra_plugins.hydra_submitit_launcher", ["hydra/launcher=submitit_local"]),
    ],
)
def test_points_in_processes_of_their_own(sweep, tmp_path, module, launcher):
    pytest.importorskip(module)
    code, out, err = sweep(*launcher, "noise_multiplier=-1,2")
    assert code == 1, err
    assert "fedemb: point 0 failed: noise_multiplier must be 0 or above, got noise_multiplier=-1\n" in err
    assert [point["status"] for point in index(tmp_path)] == ["failed", "finished"]
    assert (tmp_path / "sweep" / "1" / "report.json").exists()
    assert re.search(r"^point +noise_multiplier ", out, re.MULTILINE)
