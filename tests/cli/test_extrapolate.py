"""`extrapolate` as a user calls it: the table of hypothetical deployments, its files, mistakes as one ValueError."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from omegaconf import OmegaConf

from fedemb.cli import extrapolate
from fedemb.privacy.accounting import epsilon
from fedemb.privacy.events import fixed_size_round

RUN = {"users_per_round": 256, "noise_multiplier": 0.62, "rounds": 200}


def call(**keys) -> None:
    path = Path(extrapolate.CONFIG_PATH) / f"{extrapolate.CONFIG}.yaml"
    stored = OmegaConf.masked_copy(OmegaConf.load(path), [key for key in OmegaConf.load(path) if key != "hydra"])
    OmegaConf.set_struct(stored, True)
    extrapolate.run(OmegaConf.merge(stored, keys))


def finished(tmp_path, **changed) -> str:
    privacy = {
        **RUN,
        "users": 3400,
        "users_per_client": 8,
        "sampling": "fixed-size sampling without replacement",
        "provenance": "random",
        "epsilon": 66.5,
        "epsilon_attack": 60.0,
        "delta": 1e-4,
    }
    (tmp_path / "report.json").write_text(json.dumps({"privacy": {**privacy, **changed}}))
    return str(tmp_path)


def test_the_table_is_certified_and_says_what_is_unreachable(capsys):
    call(**RUN, populations=[1e4, 1e5], targets=[8, 4], format="json")
    told = json.loads(capsys.readouterr().out)
    small, large = told["deployments"]
    assert [entry["target_epsilon"] for entry in small["targets"]] == [8, 4]
    assert small["targets"][1]["deployment"] is None
    assert small["signal_floor"] == pytest.approx(1.168, rel=1e-3)
    found = large["targets"][1]["deployment"]
    assert found["scale"] == pytest.approx(1.83, rel=0.01)
    assert found["noise_multiplier"] == pytest.approx(0.62 * found["scale"])
    again = fixed_size_round(
        users=10**5, users_per_round=found["users_per_round"], noise_multiplier=found["noise_multiplier"]
    )
    assert epsilon([(again, 200)], found["delta"]) == pytest.approx(found["epsilon"])
    assert found["epsilon"] <= 4


def test_the_console_fits_eighty_columns(capsys):
    call(**RUN, populations=[1e4, 1e8], targets=[8, 1])
    lines = capsys.readouterr().out.splitlines()
    assert "unreachable" in "".join(lines)
    assert all(len(line) <= 80 for line in lines[:-1])  # the last one is a sentence
    assert "not the run's own ε" in lines[-1]


def test_a_run_is_extrapolated_beside_its_own_epsilon(capsys, tmp_path):
    call(run=finished(tmp_path), populations=[1e6], targets=[4])
    shown = capsys.readouterr().out
    assert "The run's own ε, at N = 3,400: 66.5" in shown
    call(run=str(tmp_path), populations=[1e6], targets=[4], format="json")
    assert json.loads(capsys.readouterr().out)["deployments"][0]["targets"][0]["deployment"]["users_per_round"] % 8 == 0


def test_files(capsys, tmp_path):
    call(**RUN, populations=[1e4, 1e5, 1e6], out=str(tmp_path / "new" / "folder"))
    rows = list(csv.DictReader((tmp_path / "new" / "folder" / "extrapolation.csv").read_text().splitlines()))
    assert len(rows) == 12
    assert {row["users_per_round"] for row in rows if row["users"] == "10000" and row["target_epsilon"] != "8"} == {""}
    drawn = ElementTree.parse(tmp_path / "new" / "folder" / "extrapolation.svg").getroot()
    assert drawn.tag.endswith("svg")
    assert len(drawn.findall(".//{*}polyline")) == 4


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({**RUN, "noise_multiplier": 0}, "ε is infinite at every population"),
        ({**RUN, "noise_multiplier": None}, "noise_multiplier is missing"),
        ({**RUN, "users_per_round": -3}, "users_per_round"),
        ({**RUN, "populations": [100]}, "at least users_per_round=256, got 100"),
        ({**RUN, "populations": []}, "populations must be a list"),
        ({**RUN, "targets": ["a"]}, "targets must be a list"),
        ({**RUN, "targets": [-1]}, "targets must be a list"),
        ({**RUN, "delta": 2}, "delta"),
        ({**RUN, "format": "xml"}, "format"),
        ({"run": "nowhere"}, "not a finished run"),
        ({"run": "nowhere", "rounds": 3}, "leave out rounds"),
    ],
)
def test_mistakes_are_one_line(keys, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(**keys)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"provenance": "dp"}, "cannot be extrapolated"),
        ({"sampling": "Poisson sampling of single users"}, "cannot be extrapolated"),
        ({"noise_multiplier": 0}, "no noise"),
    ],
)
def test_runs_that_the_law_does_not_cover_are_refused(changed, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        call(run=finished(tmp_path, **changed))


def test_a_damaged_report_is_one_line(tmp_path):
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        call(run=str(tmp_path))
