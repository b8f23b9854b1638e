"""scripts/calibration_table.py prints the rows of the page, and both kinds of noise meet the target."""

import importlib
from pathlib import Path

import pytest

from fedemb.privacy.accounting import epsilon
from fedemb.privacy.crosscheck import rdp_epsilon

ROOT = Path(__file__).parents[1]


@pytest.fixture
def table(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("calibration_table")


def test_both_columns_meet_the_target(table):
    target = table.TARGETS[0]
    certified, rdp = table.certified_noise(target), table.rdp_noise(target)
    assert epsilon([(target.event(certified), target.rounds)], target.delta) == pytest.approx(target.epsilon, rel=1e-3)
    assert rdp_epsilon([(target.event(rdp), target.rounds)], target.delta) == pytest.approx(target.epsilon, rel=1e-3)
    assert 0.13 < 1 - certified / rdp < 0.14


def test_the_page_holds_a_row_as_it_is_printed(table):
    assert table.row(table.TARGETS[3]) in (ROOT / "docs" / "accounting.md").read_text().splitlines()
