"""The ROC curve against hand arithmetic and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve as by_sklearn

from fedemb.evaluation.roc import POINTS, roc_curve


def test_hand_computed_curve_has_every_point():
    # a = e1, e2; b = e1, e3. Negatives 1 0 0 0, positives 0 0. Thresholds: above 1, 1, 0.
    curve = roc_curve(torch.eye(3)[[0, 1, 0, 2]], torch.tensor([0, 0, 1, 1]))
    assert curve.far.tolist() == [0.0, 0.25, 1.0]
    assert curve.recall.tolist() == [0.0, 0.0, 1.0]


def crowd(images: int) -> tuple[torch.Tensor, torch.Tensor]:
    stream = torch.Generator().manual_seed(1)
    labels = torch.arange(images) // 5
    centres = torch.randn(images, 16, generator=stream)[labels]
    return centres + 1.2 * torch.randn(images, 16, generator=stream), labels


@pytest.mark.parametrize("block_size", [1024, 64])
def test_every_point_lies_on_sklearns_curve_and_none_is_far_apart(block_size):
    """One block counts values, several count on a grid: both thin exact points."""
    embeddings, labels = crowd(400)
    curve = roc_curve(embeddings, labels, block_size=block_size)
    unit = torch.nn.functional.normalize(embeddings.double(), dim=1)
    left, right = torch.triu_indices(400, 400, offset=1)
    far, recall, _ = by_sklearn(labels[left] == labels[right], (unit @ unit.T)[left, right], drop_intermediate=False)
    negatives = int((labels[left] != labels[right]).sum())
    corners = {(round(x * negatives), round(y * 800)) for x, y in zip(far, recall, strict=True)}  # 800 positive pairs
    found = [
        (round(x * negatives), round(y * 800)) for x, y in zip(curve.far.tolist(), curve.recall.tolist(), strict=True)
    ]
    if block_size == 1024:  # float32 rounding may exchange neighbours, so nearly all
        assert len(set(found) & corners) >= 0.98 * len(found)
    for x, y in zip(curve.far.tolist(), curve.recall.tolist(), strict=True):
        assert recall[far <= x + 3 / negatives].max() >= y - 1e-9
        assert recall[far <= max(0.0, x - 3 / negatives)].max() <= y + 2 / 800
    assert len(found) <= POINTS + 2
    assert (curve.far[0], curve.far[-1], curve.recall[-1]) == (0.0, 1.0, 1.0)
    assert np.all(np.diff(curve.far.numpy()) >= 0)
    assert np.all(np.diff(curve.recall.numpy()) >= 0)
    steps = np.diff(np.log(curve.far.numpy()[1:]))  # 256 points over e^11.3: 4.5 % each, where there are as many pairs
    assert steps[len(steps) // 2 :].max() < 0.1


@pytest.mark.parametrize("labels", [[], [7], [1, 2, 3], [5, 5, 5]])
def test_without_pairs_of_both_kinds_there_is_no_curve(labels):
    curve = roc_curve(torch.ones(len(labels), 3), torch.tensor(labels, dtype=torch.long))
    assert (len(curve.far), len(curve.recall)) == (0, 0)


def test_everything_in_one_point_is_the_diagonals_ends():
    curve = roc_curve(torch.ones(6, 3), torch.tensor([0, 0, 1, 1, 2, 2]), block_size=2)
    assert (curve.far.tolist(), curve.recall.tolist()) == ([0.0, 1.0], [0.0, 1.0])
