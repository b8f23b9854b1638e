"""Privacy against utility: what is on the frontier, at whose epsilon."""

import json
import math
import re

import pytest
from run_folders import make_run, make_sweep

from fedemb.privacy.extrapolation import Simulation, least_epsilon
from fedemb.report.confidence import Estimate
from fedemb.report.frontier import Spot, at_users, epsilon_label, front, frontier, own
from fedemb.report.numbers import upper
from fedemb.report.runs import Setting, read_sweep

METRIC = "recall@far=0.001"


def spot(epsilon, utility):
    return Spot(epsilon=epsilon, utility=Estimate.of([utility]), setting=Setting(runs=(), label=""))


def test_a_setting_is_on_the_frontier_unless_less_epsilon_gives_as_much():
    spots = [spot(4, 0.5), spot(1, 0.3), spot(2, 0.2), spot(4, 0.4), spot(8, 0.5), spot(9, 0.6)]
    on, off = front(spots)
    assert [(s.epsilon, s.utility.mean) for s in on] == [(1, 0.3), (4, 0.5), (9, 0.6)]
    assert [(s.epsilon, s.utility.mean) for s in off] == [(2, 0.2), (4, 0.4), (8, 0.5)]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frontier")
    return read_sweep(
        [str(make_sweep(folder, noise_multipliers=(0.0, 0.1, 1.0), seeds=3, methods=["DP-FedEmb", "DP-FedAvg"]))]
    )


def test_a_line_a_method_with_band_and_what_it_reaches_without_noise(sweep):
    drawn = frontier(sweep, METRIC, own, "ε")
    for style in ("s0", "s1"):
        assert len(re.findall(f'<path class="line {style}" d="M[^"]*L[^"]*"', drawn)) == 1
        assert len(re.findall(f'<polygon class="shade {style}"', drawn)) == 1
        assert len(re.findall(f'<line class="line level {style}"', drawn)) == 1
    told = re.findall(r"<title>(.*?)</title>", drawn)
    values = [run.metric(METRIC) for run in sweep.methods["DP-FedEmb"][0].runs]
    costs = upper(sweep.methods["DP-FedEmb"][0].first.epsilon)
    mean = f"DP-FedEmb, z = 1: {sum(values) / 3:.4f} ± "
    assert sum(text.startswith(mean) and text.endswith(f"over 3 seeds; ε ≤ {costs}") for text in told) == 1
    assert sum("ε = ∞" in text for text in told) == 2
    assert epsilon_label(sweep) == "certified user-level ε, δ = 1.2e-4"


def test_other_epsilons_come_from_the_report_or_are_computed(sweep):
    run = sweep.methods["DP-FedEmb"][0].first
    ratio = Simulation(users_per_round=64, noise_multiplier=1.0, rounds=40)
    for users in (10**5, 123_456):  # the second is not in the report
        assert at_users(users)(run) == pytest.approx(least_epsilon(ratio, users=users).epsilon)
    assert at_users(32)(run) is None  # fewer than a round has
    free = sweep.methods["DP-FedEmb"][-1].first
    assert at_users(10**5)(free) == own(free) == math.inf


def test_a_run_that_cannot_be_extrapolated_has_no_place_there(tmp_path):
    """Its sampling or its start: the report has no deployments for it."""
    folder = make_run(tmp_path / "a")
    report = json.loads((folder / "report.json").read_text())
    report["extrapolation"] = []
    (folder / "report.json").write_text(json.dumps(report))
    assert at_users(10**6)(read_sweep([str(folder)]).runs[0]) is None


def test_one_setting_is_no_frontier(tmp_path):
    assert frontier(read_sweep([str(make_run(tmp_path / "a"))]), METRIC, own, "ε") == ""
