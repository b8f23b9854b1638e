"""Update norms are exact private values: simulations only, counted by hand."""

import json

import pytest
from run_folders import make_run

from fedemb.report.norms import chart, read_norms
from fedemb.report.runs import read_sweep


def run(folder, lines=None, mode="simulate"):
    made = make_run(folder, mode=mode)
    if lines is not None:
        (made / "diagnostics" / "rounds.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return read_sweep([str(made)]).runs[0]


def test_norms_of_all_rounds_and_those_that_were_not_finite(tmp_path):
    found = read_norms(run(tmp_path / "a", [{"norms": [0.25, 0.5, None]}, {"norms": [1.0, 2.0]}]))
    assert found.values == [0.25, 0.5, 1.0, 2.0]
    assert found.broken == 1
    assert found.clipped(0.5) == 0.5  # a norm of exactly C stays
    drawn = chart("a", found, 0.5, "s0")
    assert drawn.count('<rect class="column s0"') == 4
    assert drawn.count("1 updates, 25.0%") == 4
    assert "clip norm C = 0.5: 50.0% are longer" in drawn


def test_a_release_shows_none_whatever_lies_in_its_folder(tmp_path):
    assert read_norms(run(tmp_path / "a", mode="release")) is None


def test_nothing_but_zeros_or_nothing_at_all_is_no_chart(tmp_path):
    assert chart("a", read_norms(run(tmp_path / "a", [{"norms": [0.0]}])), 1.0, "s0") == ""
    assert read_norms(run(tmp_path / "b", [{"norms": [None]}])) is None


def test_a_damaged_file_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="line 2 is damaged"):
        read_norms(run(tmp_path / "a", [{"norms": [0.5]}, {"losses": []}]))
