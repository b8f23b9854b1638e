"""Runs as a table: a row each, with its price, its metrics and what it was set to."""

import json
import math

from run_folders import make_run, make_sweep

from fedemb.report.frame import frame
from fedemb.report.runs import read_sweep


def test_a_row_a_run_that_groups_by_its_settings(tmp_path):
    make_sweep(tmp_path, noise_multipliers=(0.1, 1.0), seeds=3, methods=["DP-FedEmb", "DP-FedAvg"])
    sweep = read_sweep([str(tmp_path)])
    table = frame(sweep)
    assert table["run"].tolist() == [str(run.path) for run in sweep.runs]
    means = table.groupby(["method", "settings.noise_multiplier"])["auc"].mean()
    assert means.shape == (4,)
    runs = [run for run in sweep.runs if (run.method, run.settings["noise_multiplier"]) == ("DP-FedAvg", 1.0)]
    assert math.isclose(means["DP-FedAvg", 1.0], sum(run.metric("auc") for run in runs) / 3)
    assert (table["epsilon"] >= table["epsilon_attack"]).all()
    assert set(table["seed"]) == {0, 1, 2}


def test_without_a_guarantee_epsilon_is_infinite_and_what_was_not_measured_is_missing(tmp_path):
    make_run(tmp_path / "a")
    other = make_run(tmp_path / "b")
    report = json.loads((other / "report.json").read_text())
    report["privacy"] |= {"epsilon": None, "epsilon_attack": None}
    report["metrics"] = {"recall@1": 0.25, "ema/recall@1": 0.5}
    del report["seed"]
    (other / "report.json").write_text(json.dumps(report))
    table = frame(read_sweep([str(tmp_path)])).set_index("run")
    row = table.loc[str(other)]
    assert (row["epsilon"], row["epsilon_attack"], row["recall@1"]) == (math.inf, math.inf, 0.5)
    assert math.isnan(row["auc"])
    assert math.isnan(row["seed"])
    assert math.isfinite(table.loc[str(tmp_path / "a"), "epsilon"])
