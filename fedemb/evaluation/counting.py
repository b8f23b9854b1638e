"""Histograms of pair similarities, for same-identity ("positive") and different-identity ("negative") pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedemb.evaluation.cells import Cells, Scratch
from fedemb.evaluation.pairs import PairBlocks

_TILE = 2**17  # pairs whose steps of the way stay in a processor's cache


@dataclass(frozen=True, kw_only=True)
class Place:
    """A cell, how many positives are in it, and how many are above it."""

    cell: int
    positives: int
    accepted: int


@dataclass(frozen=True, kw_only=True)
class PairCounts:
    """How many pairs of each kind fall in each cell; [cells] int64, in ascending order of similarity."""

    positive: Tensor
    negative: Tensor

    def locate(self, allowed: int) -> Place:
        """Where the (allowed+1)-th most similar negative is."""
        up_to = self.negative.cumsum(0)
        missed = int(up_to[-1]) - allowed
        cell = int(torch.searchsorted(up_to, missed))
        return Place(cell=cell, positives=int(self.positive[cell]), accepted=int(self.positive[cell + 1 :].sum()))

    def eer(self) -> float:
        """Equal error rate: where the polygon through the ROC points between cells has FAR = 1 - recall."""
        far = self.negative.flip(0).cumsum(0).double() / float(self.negative.sum())
        miss = 1.0 - self.positive.flip(0).cumsum(0).double() / float(self.positive.sum())
        after = int(torch.searchsorted(far - miss, 0.0))  # ascends from at most 0 to 1
        before_far, before_miss = (float(far[after - 1]), float(miss[after - 1])) if after else (0.0, 1.0)
        behind, ahead = before_miss - before_far, float(far[after] - miss[after])
        return before_far + (float(far[after]) - before_far) * behind / (behind + ahead)

    def auc(self) -> tuple[float, float]:
        """(area under the ROC curve with ties inside a cell counting half, the area of those halves)."""
        below = self.negative.cumsum(0) - self.negative
        occupied = torch.nonzero(self.positive).flatten()
        positive, negative = self.positive[occupied].double(), self.negative[occupied].double()
        comparisons = float(self.positive.sum()) * float(self.negative.sum())
        ties = 0.5 * float((positive * negative).sum())
        return (float((positive * below[occupied]).sum()) + ties) / comparisons, ties / comparisons


def count(pairs: PairBlocks, cells: Cells) -> PairCounts:
    """One pass over all pairs."""
    device = pairs.gallery.embeddings.device
    every = torch.zeros(cells.count, dtype=torch.int64, device=device)
    positive = torch.zeros_like(every)
    ones = torch.ones(1, dtype=torch.int64, device=device).expand(_TILE)
    scratch = Scratch.of(torch.empty(_TILE, device=device))
    for all_pairs, positive_pairs in pairs:
        for total, similarities in ((every, all_pairs), (positive, positive_pairs)):
            for tile in torch.split(similarities, _TILE):
                total.index_add_(0, cells.into(scratch, tile), ones[: len(tile)])
    return PairCounts(positive=positive, negative=every - positive)


def count_values(pairs: PairBlocks) -> PairCounts:
    """A cell for each distinct similarity; only for as few images as fit in one block."""
    [(all_pairs, positive_pairs)] = pairs
    values, cell = torch.unique(all_pairs, return_inverse=True)
    every = torch.bincount(cell, minlength=len(values))
    positive = torch.bincount(torch.searchsorted(values, positive_pairs), minlength=len(values))
    return PairCounts(positive=positive, negative=every - positive)
