"""Detection and identification against hand arithmetic and a loop."""

from __future__ import annotations

import math

import pytest
import torch

from fedemb.evaluation.embedded import Embedded
from fedemb.evaluation.open_set import OpenSet, detection, nearest


def test_hand_computed_rates():
    # Unknown scores 0.9 0.5 0.4 0.1. FAR 0: above 0.9; FAR 1/4: above 0.5; FAR 1/2: above 0.4.
    # Known scores 0.95, 0.5 and 0.45, and one that found somebody else: 1/4, 1/4, 3/4.
    unknown = torch.tensor([0.4, 0.9, 0.1, 0.5])
    known = torch.tensor([0.5, -torch.inf, 0.95, 0.45])
    assert detection(unknown, known, (0.0, 0.25, 0.5)).tolist() == [0.25, 0.25, 0.75]


def test_the_nearest_of_both_kinds_equals_a_loop():
    stream = torch.Generator().manual_seed(0)
    rows, gallery = torch.randn(30, 4, generator=stream), torch.randn(9, 4, generator=stream)
    labels, names = torch.arange(30) % 7, torch.tensor([0, 0, 1, 2, 2, 3, 3, 3, 4])
    other, own = nearest(rows, labels, gallery, names)
    for place in range(30):
        scores = [(float(rows[place] @ image), int(name)) for image, name in zip(gallery, names, strict=True)]
        mine = [score for score, name in scores if name == labels[place]]
        assert float(own[place]) == pytest.approx(max(mine, default=-math.inf), abs=1e-5)
        assert float(other[place]) == pytest.approx(max(s for s, name in scores if name != labels[place]), abs=1e-5)


def test_a_perfect_model_finds_all_and_a_constant_one_nobody():
    labels = torch.arange(40) // 4
    measure = OpenSet(fars=(0.0, 0.1), enrolled_images=2, draws=3, seed=0)
    perfect = Embedded.of_identities(torch.eye(10)[labels], labels)
    assert measure.metrics(perfect) == {"dir@far=0": 1.0, "dir@far=0.1": 1.0}
    constant = Embedded.of_identities(torch.ones(40, 3), labels)
    assert measure.metrics(constant) == {"dir@far=0": 0.0, "dir@far=0.1": 0.0}


def test_a_tie_with_somebody_else_is_wrong():
    # 0 and 1 are one point, 2 another. With 0 and 1 enrolled, a probe resembles both: wrong, above any threshold.
    # With 2 and one of them enrolled, the other one's images reach similarity 1: nobody is above it.
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    rows = torch.tensor([[1.0, 0], [1.0, 0], [1.0, 0], [1.0, 0], [0, 1.0], [0, 1.0]])
    measure = OpenSet(fars=(0.5,), enrolled_images=1, draws=20, seed=0)
    assert measure.metrics(Embedded.of_identities(rows, labels)) == {"dir@far=0.5": 0.0}


@pytest.mark.parametrize("labels", [[1], [1, 2, 3], [1, 1, 1]])
def test_without_enrolled_or_unknown_people_it_is_none(labels):
    test = Embedded.of_identities(torch.ones(len(labels), 2), torch.tensor(labels))
    assert OpenSet(fars=(0.1,), enrolled_images=1, draws=2, seed=0).metrics(test) == {"dir@far=0.1": None}
