"""Every pair once, in bounded memory, from unit embeddings."""

from __future__ import annotations

import math

import pytest
import torch

from fedemb.evaluation.pairs import Gallery, PairBlocks, unit_rows


def test_rows_become_unit_length_even_where_the_square_overflows():
    rows = unit_rows(torch.tensor([[3.0, 4.0], [3e30, 4e30], [3e-30, 4e-30]]))
    torch.testing.assert_close(rows, torch.tensor([[0.6, 0.8]]).expand(3, 2))


@pytest.mark.parametrize("broken", [0.0, math.nan, math.inf, -math.inf])
def test_a_row_that_has_no_direction_becomes_zero(broken):
    rows = unit_rows(torch.tensor([[broken, 0.0], [0.0, 2.0]]))
    assert rows.tolist() == [[0.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("block_size", [1, 2, 3, 5, 100])
def test_each_unordered_pair_appears_once_and_blocks_stay_small(block_size):
    # Images at angles 0°, 7°, 19°, 32°, 51° (all differences distinct): each cosine names its pair.
    angles = torch.tensor([0.0, 7.0, 19.0, 32.0, 51.0], dtype=torch.float64) * math.pi / 180
    labels = torch.tensor([4, 2, 4, 2, 2])
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=1).float()
    every, positive = [], []
    for all_pairs, positive_pairs in PairBlocks(gallery=Gallery.of(embeddings, labels), block_size=block_size):
        assert len(all_pairs) <= block_size**2
        every += all_pairs.tolist()
        positive += positive_pairs.tolist()
    # All differences: 7 19 32 51 | 12 25 44 | 13 32 | 19; same identity: {0,2} 19, {1,3} 25, {1,4} 44, {3,4} 19.
    cosines = lambda degrees: sorted(math.cos(d * math.pi / 180) for d in degrees)  # noqa: E731
    assert sorted(every) == pytest.approx(cosines([7, 19, 32, 51, 12, 25, 44, 13, 32, 19]), abs=1e-6)
    assert sorted(positive) == pytest.approx(cosines([19, 25, 44, 19]), abs=1e-6)


def test_similarities_never_leave_minus_one_to_one():
    same = torch.full((50, 37), 0.3)
    for all_pairs, _ in PairBlocks(gallery=Gallery.of(same, torch.zeros(50, dtype=torch.long)), block_size=16):
        assert all_pairs.max() <= 1.0


@pytest.mark.parametrize(
    ("embeddings", "labels", "words"),
    [
        (torch.zeros(3), torch.zeros(3, dtype=torch.long), "embeddings must be floats"),
        (torch.zeros(3, 2, dtype=torch.long), torch.zeros(3, dtype=torch.long), "embeddings must be floats"),
        (torch.zeros(3, 2), torch.zeros(4, dtype=torch.long), "labels must be integers"),
        (torch.zeros(3, 2), torch.zeros(3), "labels must be integers"),
    ],
)
def test_wrong_shapes_are_named(embeddings, labels, words):
    with pytest.raises(ValueError, match=words):
        Gallery.of(embeddings, labels)
