"""The ROC curve of verification over all pairs of images, at a bounded number of exact points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedemb.evaluation.counting import PairCounts, count, count_values
from fedemb.evaluation.guess import guess_cells
from fedemb.evaluation.pairs import Gallery, PairBlocks

POINTS = 256
"""The most points of a curve between its two ends."""


@dataclass(frozen=True, kw_only=True)
class RocCurve:
    """Points of a ROC curve, the threshold falling: both coordinates ascend, from the first to (1, 1).

    far: [p] float64, false accept rates, the first one 0. recall: [p] float64, true accept rates. p <= POINTS + 2;
    both are empty where there is no pair of one kind.
    """

    far: Tensor
    recall: Tensor


def roc_curve(embeddings: Tensor, labels: Tensor, *, block_size: int = 1024) -> RocCurve:
    """The curve of all pairs, thinned to points that lie evenly over log FAR.

    Every point is exact: the shares of negative and of positive pairs at or above one threshold. Thinning keeps, for
    each of POINTS values between 1/N (N negative pairs) and 1, the last point whose FAR does not exceed it.

    Args: embeddings: [n, D]; normalised here (a zero or non-finite row has similarity 0 to all).
          labels: [n] integer identities.
          block_size: b; at most b² similarities are held at a time.
    """
    gallery = Gallery.of(embeddings, labels)
    if 0 in gallery.pair_totals():
        return RocCurve(far=torch.zeros(0, dtype=torch.float64), recall=torch.zeros(0, dtype=torch.float64))
    pairs = PairBlocks(gallery=gallery, block_size=block_size)
    counts = count_values(pairs) if pairs.fit_one_block else count(pairs, guess_cells(gallery, []))
    return thinned(counts, points=POINTS)


def thinned(counts: PairCounts, *, points: int) -> RocCurve:
    """At most `points` + 2 points of the curve whose thresholds are the lower ends of the cells."""
    accepted = counts.negative.flip(0).cumsum(0)  # at or above each cell, the most similar cell first
    found = counts.positive.flip(0).cumsum(0)
    total = int(accepted[-1])
    wanted = torch.logspace(0.0, 1.0, points, base=float(total), dtype=torch.float64, device=accepted.device)
    wanted = torch.cat([wanted.new_zeros(1), wanted.round(), wanted.new_full((1,), total)]).long()
    last = torch.searchsorted(accepted, wanted, right=True) - 1  # -1: not even the first cell is that small
    last = torch.unique(last)
    none = accepted.new_zeros(1)
    accepted, found = torch.cat([none, accepted]), torch.cat([none, found])
    return RocCurve(
        far=(accepted[last + 1].double() / total).cpu(), recall=(found[last + 1].double() / int(found[-1])).cpu()
    )
