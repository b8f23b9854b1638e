"""Run folders of a sweep: found, ordered, grouped by what they were set to."""

import json

import pytest
from run_folders import make_run, make_sweep

from fedemb.report.runs import differing, read_sweep


def test_places_are_folders_patterns_and_lists_and_each_run_counts_once(tmp_path):
    make_sweep(tmp_path / "sweep", noise_multipliers=(0.1, 1.0), seeds=6, methods=["DP-FedEmb"])
    whole = read_sweep([str(tmp_path)])
    assert [run.path.name for run in whole.runs] == [str(place) for place in range(12)]  # 10 after 9
    some = read_sweep([f"{tmp_path}/sweep/1*", str(tmp_path / "sweep" / "0"), str(tmp_path / "sweep" / "1")])
    assert [run.path.name for run in some.runs] == ["0", "1", "10", "11"]


def test_settings_are_runs_that_differ_in_the_seed_alone(tmp_path):
    make_sweep(tmp_path, noise_multipliers=(1.0, 0.0, 0.1), seeds=2, methods=["DP-FedEmb", "DP-FedAvg"])
    sweep = read_sweep([str(tmp_path)])
    assert list(sweep.methods) == ["DP-FedEmb", "DP-FedAvg"]
    for settings in sweep.methods.values():
        assert [setting.label for setting in settings] == ["z = 1", "z = 0.1", "z = 0"]  # by epsilon
        assert [[run.seed for run in setting.runs] for setting in settings] == [[0, 1]] * 3
    # local_classes follows users_per_client: one column for both; the run folder and the seed are no settings
    assert differing(sweep.runs) == ["users_per_client", "noise_multiplier"]


def test_the_command_trains_into_a_folder_of_its_own(tmp_path):
    run = read_sweep([str(make_run(tmp_path / "a", method="User-level DP-SGD"))]).runs[0]
    assert run.command == "fedemb train recipe=omniglot_dp method='User-level DP-SGD' noise_multiplier=0.1 seed=0"


def test_the_moving_average_is_the_model_that_is_compared(tmp_path):
    folder = make_run(tmp_path / "a")
    report = json.loads((folder / "report.json").read_text())
    report["metrics"] |= {"auc": 0.7, "ema/auc": 0.9}
    (folder / "report.json").write_text(json.dumps(report))
    assert read_sweep([str(folder)]).runs[0].metric("auc") == 0.9


def test_units_that_cannot_be_compared_are_other_lines(tmp_path):
    make_run(tmp_path / "a")
    other = make_run(tmp_path / "b")
    report = json.loads((other / "report.json").read_text())
    report["privacy"]["unit"] = "example"
    (other / "report.json").write_text(json.dumps(report))
    assert list(read_sweep([str(tmp_path)]).methods) == ["DP-FedEmb (user-level)", "DP-FedEmb (example-level)"]


def test_other_data_are_other_lines(tmp_path):
    """The best run of a method was that on the easiest data."""
    make_run(tmp_path / "a")
    other = make_run(tmp_path / "b")
    report = json.loads((other / "report.json").read_text())
    report["data"]["name"] = "faces"
    (other / "report.json").write_text(json.dumps(report))
    sweep = read_sweep([str(tmp_path)])
    assert list(sweep.best("auc")) == list(sweep.methods) == ["DP-FedEmb, omniglot", "DP-FedEmb, faces"]
    assert list(sweep.on("faces").methods) == ["DP-FedEmb"]


def test_a_method_looks_the_same_on_every_data_set(tmp_path):
    for place, (method, data) in enumerate([("DP-FedAvg", "faces"), ("DP-FedEmb", "faces"), ("DP-FedEmb", "omniglot")]):
        folder = make_run(tmp_path / str(place), method=method)
        report = json.loads((folder / "report.json").read_text())
        report["data"]["name"] = data
        (folder / "report.json").write_text(json.dumps(report))
    sweep = read_sweep([str(tmp_path)])
    assert [sweep.on(run.data).place(run) for run in sweep.runs] == [0, 1, 1]


def test_an_unfinished_run_is_told_and_left_out(tmp_path):
    make_run(tmp_path / "a")
    (make_run(tmp_path / "b") / "report.json").unlink()
    sweep = read_sweep([str(tmp_path)])
    assert [run.path.name for run in sweep.runs] == ["a"]
    assert [path.name for path in sweep.unfinished] == ["b"]


def test_a_damaged_run_is_told_and_left_out(tmp_path):
    """One of them ended the page of all others."""
    make_run(tmp_path / "a")
    (make_run(tmp_path / "b") / "report.json").write_text('{"recipe": ')
    sweep = read_sweep([str(tmp_path)])
    assert [run.path.name for run in sweep.runs] == ["a"]
    assert [told.split(" is not")[0] for told in sweep.damaged] == [f"{tmp_path}/b/report.json"]


@pytest.mark.parametrize(
    ("files", "place", "words"),
    [
        ({}, "nowhere", "there is nothing at"),
        ({}, "run", "no finished run at"),
        ({"config.yaml": "a: 1"}, "run", "1 unfinished there"),
        ({"config.yaml": "a: [", "report.json": "{}"}, "run", "config.yaml is damaged"),
        ({"config.yaml": "- a", "report.json": "{}"}, "run", "not a mapping"),
        ({"report.json": "{"}, "run", "not valid JSON.*; put back the file from a copy, or train the run again$"),
    ],
)
def test_mistakes_are_one_line(tmp_path, files, place, words):
    (tmp_path / "run").mkdir()
    for name, text in files.items():
        (tmp_path / "run" / name).write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        read_sweep([str(tmp_path / place)])
    assert "\n" not in str(caught.value)


def test_the_leading_methods_are_of_every_data_set(tmp_path):
    for method in ("User-level DP-SGD", "DP-FedAvg", "DP-FedEmb"):
        for data in ("omniglot", "faces"):
            folder = make_run(tmp_path / f"{method} {data}", method=method)
            report = json.loads((folder / "report.json").read_text())
            report["data"]["name"] = data
            (folder / "report.json").write_text(json.dumps(report))
    sweep = read_sweep([str(tmp_path)])
    assert list(sweep.leading("auc", 4)) == [
        f"{method}, {data}" for method in ("DP-FedEmb", "DP-FedAvg") for data in sweep.data
    ]
    assert len(sweep.leading("auc", 9)) == 6
