"""Histograms of pair similarities, for same-identity ("positive") and different-identity ("negative") pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedemb.evaluation.pairs import PairBlocks

_ZERO_BIN = 2**20
GRID_BINS = 2 * _ZERO_BIN + 1
"""Cells of width 2^-20 that cover [-1, 1]; the last one holds 1 alone."""


@dataclass(frozen=True, kw_only=True)
class PairCounts:
    """How many pairs of each kind fall in each cell; [cells] int64, in ascending order of similarity."""

    positive: Tensor
    negative: Tensor

    def locate(self, allowed: int) -> tuple[int, int, int]:
        """(cell of the (allowed+1)-th most similar negative, negatives allowed in it, positives above it)."""
        up_to = self.negative.cumsum(0)
        missed = int(up_to[-1]) - allowed
        if missed < 1:
            raise RuntimeError("two passes over the same pairs disagree: matrix products here are not reproducible")
        cell = int(torch.searchsorted(up_to, missed))
        return cell, int(up_to[cell]) - missed, int(self.positive[cell + 1 :].sum())

    def auc(self) -> tuple[float, float]:
        """(area under the ROC curve with ties inside a cell counting half, the area of those halves)."""
        below = self.negative.cumsum(0) - self.negative
        occupied = torch.nonzero(self.positive).flatten()
        positive, negative = self.positive[occupied].double(), self.negative[occupied].double()
        comparisons = float(self.positive.sum()) * float(self.negative.sum())
        ties = 0.5 * float((positive * negative).sum())
        return (float((positive * below[occupied]).sum()) + ties) / comparisons, ties / comparisons


def count(pairs: PairBlocks, cell_of: Callable[[Tensor], Tensor], cells: int) -> PairCounts:
    """One pass over all pairs.

    Args: cell_of: similarities [p] -> integer cells [at most p] in 0 .. cells-1; it may leave some pairs out.
    """
    device = pairs.gallery.embeddings.device
    every = torch.zeros(cells, dtype=torch.int64, device=device)
    positive = torch.zeros_like(every)
    one = torch.ones(1, dtype=torch.int64, device=device)
    for all_pairs, positive_pairs in pairs:
        for total, similarities in ((every, all_pairs), (positive, positive_pairs)):
            if len(similarities):
                cell = cell_of(similarities)
                total.index_add_(0, cell, one.expand(len(cell)))
    return PairCounts(positive=positive, negative=every - positive)


def count_values(pairs: PairBlocks) -> PairCounts:
    """A cell for each distinct similarity; only for as few images as fit in one block."""
    [(all_pairs, positive_pairs)] = pairs
    values, cell = torch.unique(all_pairs, return_inverse=True)
    every = torch.bincount(cell, minlength=len(values))
    positive = torch.bincount(torch.searchsorted(values, positive_pairs), minlength=len(values))
    return PairCounts(positive=positive, negative=every - positive)


def count_pairs(pairs: PairBlocks) -> PairCounts:
    """A cell for each distinct similarity where one block holds all images; else the grid of width 2^-20."""
    return count_values(pairs) if pairs.fit_one_block else count(pairs, grid_bin, GRID_BINS)


def grid_bin(similarity: Tensor) -> Tensor:
    """The cell of width 2^-20: similarity [p] in [-1, 1] -> int32 [p] in 0 .. GRID_BINS-1, without rounding."""
    return (similarity * _ZERO_BIN).floor_().add_(_ZERO_BIN).int()


def grid_edge(cell: int) -> float:
    """The smallest similarity of a cell; exact in float32."""
    return cell / _ZERO_BIN - 1.0


def ordered_key(similarity: Tensor) -> Tensor:
    """Integers int64 in the order of float32 values, consecutive for consecutive floats; -0.0 equals 0.0."""
    bits = (similarity + 0.0).view(torch.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
