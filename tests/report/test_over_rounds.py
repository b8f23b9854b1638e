"""Curves over rounds: epsilon is the ledger's, utility the mean over seeds."""

import json
import re

import pytest
from run_folders import make_run, make_sweep

from fedemb.privacy.events import to_plain
from fedemb.privacy.ledger import charges
from fedemb.report.over_rounds import epsilon, spent, utility
from fedemb.report.ramp import spread, together
from fedemb.report.runs import read_sweep


def plain(folder):
    return [json.dumps(to_plain(event), sort_keys=True) for event in charges(folder / "ledger.jsonl")]


def test_the_ledgers_end_is_the_runs_epsilon_and_a_charge_twice_costs_more(tmp_path):
    folder = make_run(tmp_path / "a", noise_multiplier=1.0, rounds=20)
    run = read_sweep([str(folder)]).runs[0]
    delta = run.summary.section("privacy")["delta"]
    found = spent(plain(folder), delta)
    assert [count for count, _ in found] == [3, 5, 8, 10, 13, 15, 18, 20]
    assert found[-1][1] == pytest.approx(run.epsilon)
    middle = dict(run.curve("epsilon"))
    assert dict(found)[8] == pytest.approx(middle[8.0])  # measured by the run itself
    assert spent([*plain(folder), *plain(folder)[:1]], delta)[-1][1] > run.epsilon
    assert spent([], delta) == []


def test_methods_that_share_a_ledger_share_a_line(tmp_path):
    make_sweep(tmp_path, noise_multipliers=(0.0, 1.0), seeds=1, methods=["DP-FedEmb", "DP-FedAvg"])
    sweep = read_sweep([str(tmp_path)])
    drawn = epsilon(sweep)
    assert re.findall(r'<text class="key"[^>]*>(.*?)</text>', drawn) == ["z = 1 (2 methods)"]


def test_utility_is_the_mean_over_seeds_at_each_round(tmp_path):
    sweep = read_sweep([str(make_sweep(tmp_path, noise_multipliers=(0.1,), seeds=2, methods=["DP-FedEmb"]))])
    drawn = utility("DP-FedEmb", sweep.methods["DP-FedEmb"], "auc")
    values = [dict(run.curve("auc"))[8.0] for run in sweep.runs]
    assert f"round 8: {sum(values) / 2:.4f} ± " in drawn
    assert drawn.count("<polygon") == 1


def test_few_lines_are_spread_evenly():
    assert spread(list(range(16))) == [0, 3, 6, 9, 12, 15]
    assert spread([1, 2]) == [1, 2]


@pytest.mark.parametrize(
    ("owners", "label"),
    [
        ([("a", "z = 1")], "z = 1"),
        ([("a", "z = 1"), ("b", "z = 1")], "z = 1 (2 methods)"),
        ([("a", "z = 1"), ("b", "z = 2")], "a, z = 1 and 1 more"),
        ([("a", "")], "a"),
    ],
)
def test_a_line_is_called_by_what_its_owners_share(owners, label):
    assert together(owners) == label
