"""Metrics in groups of users."""

from __future__ import annotations

import pytest
import torch

from fedemb.evaluation.embedded import Embedded
from fedemb.evaluation.groups import GroupTable, NamePrefix, PerGroup
from fedemb.evaluation.measures import LeaveOneOut

NAMES = ["Greek/alpha", "Greek/beta", "Latin/a", "Latin/b", "alone"]


def scripts() -> Embedded:
    """Greek letters are told apart, Latin ones are one point; both letters of a script have two images."""
    rows = torch.eye(8)[[0, 0, 1, 1, 2, 2, 2, 2, 3, 3]]
    users = torch.arange(5).repeat_interleave(2)
    return Embedded(embeddings=rows, labels=users + 10, owners=users, user_name=NAMES.__getitem__)


def measure(**changes) -> PerGroup:
    settings = {"measure": LeaveOneOut(ks=(1,)), "of": ["recall@1"], "grouping": NamePrefix(separator="/")}
    return PerGroup(**settings | changes)


def test_each_group_the_worst_and_the_gap():
    assert measure().metrics(scripts()) == {
        "recall@1[Greek]": 1.0,
        "recall@1[Latin]": 0.0,
        "recall@1[worst]": 0.0,
        "recall@1[gap]": 1.0,
    }


def test_a_table_makes_other_groups_and_single_images_are_left_out(tmp_path):
    table = tmp_path / "groups.csv"
    table.write_text("user,group\nGreek/alpha,x\nalone,y\nLatin/a,y\n")
    found = measure(grouping=GroupTable(path=str(table))).metrics(scripts())
    assert found == {"recall@1[x]": 1.0, "recall@1[y]": 1.0, "recall@1[worst]": 1.0, "recall@1[gap]": 0.0}


@pytest.mark.parametrize(
    ("rows", "words"), [("nobody,x", "line 2: 'nobody' is no test user"), ("alone,x\nalone,y", "line 3: user 'alone'")]
)
def test_a_wrong_table_is_one_line(tmp_path, rows, words):
    (tmp_path / "groups.csv").write_text(f"user,group\n{rows}\n")
    with pytest.raises(ValueError, match=words):
        measure(grouping=GroupTable(path=str(tmp_path / "groups.csv"))).metrics(scripts())


def test_without_names_or_groups_nothing_is_reported():
    plain = Embedded.of_identities(torch.eye(4), torch.arange(4))
    assert measure().metrics(plain) == {}
    assert measure(grouping=NamePrefix(separator="|")).metrics(scripts()) == {}


def test_a_metric_that_is_not_measured_is_named():
    with pytest.raises(ValueError, match=r"^of= names auc, .* take some of recall@1, map@r"):
        measure(of=["auc"]).metrics(scripts())
