"""fedemb report from the outside: a trained run and made-up sweeps to a page and figures."""

import csv
import re
import shutil

import pytest
from run_folders import make_run, make_sweep


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder to put one finished run in, shared by the tests of this file."""
    return tmp_path_factory.mktemp("report") / "run"


@pytest.fixture
def run(trained, fedemb, tiny):
    if not trained.exists():
        code, _, err = fedemb("train", *tiny, f"run={trained}", "rounds=2")
        assert code == 0, err
    return trained


def made(out):
    return (out / "report.html").read_text(encoding="utf-8")


def test_a_run_becomes_a_page_with_its_test_images_and_figures(fedemb, run, tmp_path):
    code, out, err = fedemb("report", f"run={run}", f"out={tmp_path}/page")
    assert code == 0, err
    assert f"{tmp_path}/page/report.html" in out
    (row,) = csv.DictReader((tmp_path / "page" / "runs.csv").read_text().splitlines())
    assert (row["run"], row["settings.rounds"]) == (str(run), "2")
    text = made(tmp_path / "page")
    for heading in ("Over the rounds", "Extrapolation to N users", "Verification", "Nearest neighbours", "Map of"):
        assert f"<h2>{heading}" in text
    assert "Privacy and utility" not in text  # one setting is no frontier
    assert "data:image/png;base64," in text
    assert not re.search(r"url\(|@import|https?:", text)
    assert "run=" not in re.search(r'data-copy="([^"]*)"', text)[1]
    names = {path.stem for path in (tmp_path / "page" / "figures").glob("*.svg")}
    assert names >= {"roc", "epsilon", "extrapolation", "map-1"}


def test_a_simulation_shows_single_images_unless_told_not_to(fedemb, run, tmp_path):
    code, _, err = fedemb("report", f"run={run}", f"out={tmp_path}/page", "individuals=never")
    assert code == 0, err
    assert "data:image/png" not in made(tmp_path / "page")
    assert "Norms of updates (simulation)" in made(tmp_path / "page")


def test_a_release_shows_no_norms_and_single_images_only_if_asked(fedemb, run, tmp_path):
    """Even with the diagnostics of a simulation in its folder."""
    shutil.copytree(run, tmp_path / "run")
    report = tmp_path / "run" / "report.json"
    report.write_text(report.read_text().replace('"mode": "simulate"', '"mode": "release"'))
    words = ["report", f"run={tmp_path}/run", f"out={tmp_path}/page"]
    assert fedemb(*words)[0] == 0
    text = made(tmp_path / "page")
    assert "data:image/png" not in text
    assert "Left out, no simulation" in text
    assert "Norms of updates" not in text
    code, _, err = fedemb(*words, "individuals=always")
    assert code == 0, err
    assert "data:image/png" in made(tmp_path / "page")
    assert "because it was asked for" in made(tmp_path / "page")


def test_a_sweep_shows_what_is_there_and_names_what_is_not(fedemb, tmp_path):
    make_sweep(tmp_path / "runs", noise_multipliers=(0.1, 1.0), seeds=1, methods=["DP-FedEmb", "DP-FedAvg"])
    (make_run(tmp_path / "runs" / "late") / "report.json").unlink()
    (make_run(tmp_path / "runs" / "cut") / "report.json").write_text("{")
    (tmp_path / "runs" / "0" / "model").mkdir()  # empty: damaged
    words = ["report", f"runs={tmp_path}/runs", f"out={tmp_path}/page", "epsilon_at=100000", "metric=auc"]
    code, out, err = fedemb(*words)
    assert code == 0, err
    assert f"not finished, left out: {tmp_path}/runs/late" in out
    assert f"damaged, left out: {tmp_path}/runs/cut/report.json is not valid JSON" in out
    assert f"no test images for DP-FedEmb ({tmp_path}/runs/0): " in out
    text = made(tmp_path / "page")
    assert "Not finished, not on this page" in text
    assert "Damaged, not on this page" in text
    assert "finished runs, 1 not finished, 1 damaged" in text
    first = re.search(r'<label for="x0-0-0">(.*?)</label>', text)[1]
    assert first == "at N = 100,000"
    assert re.search(r'<label for="y0-0">(.*?)</label>', text)[1] == "AUC"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "name the runs with one of runs= and run="),
        (["runs=a", "run=b"], "name the runs with one of runs= and run="),
        (["runs=nowhere"], "there is nothing at nowhere"),
        (["runs=[]"], "runs must be a folder"),
        (["run={run}", "metric=beauty"], "metric=beauty was not measured; choose one of recall@far=0.001"),
        (["run={run}", "epsilon_at=half"], "epsilon_at must be run, or whole numbers of users"),
        (["run={run}", "populations=[1.5]"], "populations must be whole numbers of users"),
        (["run={run}", "individuals=some"], "individuals must be one of"),
        (["run={run}", "models=[elsewhere]"], "models= names elsewhere, which is not among the runs"),
        (["run={run}", "most_images=0"], "most_images must be"),
        (["run={run}", "models=none", "out={run}/report.json"], "cannot write"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(fedemb, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "made")
    code, _, err = fedemb("report", *(word.format(run=run) for word in words))
    assert code == 2
    assert err.count("\n") == 1
    assert told in err
    assert not (tmp_path / "report").exists()
