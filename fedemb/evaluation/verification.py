"""Verification over all pairs of images: recall (true accept rate) at given false accept rates, AUC and EER.

Images that fit in one block are counted by value. For more, a pass over the pairs counts similarities in cells that
are single float32 values around the thresholds, as far as a sample of pairs told where these lie; another pass follows
where it told wrong. Memory does not grow with the number of pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedemb.core import check
from fedemb.evaluation.cells import Cells, Window, disjoint
from fedemb.evaluation.counting import PairCounts, count, count_values
from fedemb.evaluation.guess import guess_cells
from fedemb.evaluation.pairs import Gallery, PairBlocks

_AUC_TOLERANCE = 1e-5


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What all pairs of n images say.

    recalls: one for each FAR; None without a positive or without a negative pair.
    auc: probability that a same-identity pair is more similar than a different-identity pair, ties counting half.
    auc_error: proven bound on the error of `auc`; 0 for images that fit in one block. Similarities in one cell count
        as ties, so the bound is half the chance that random pairs of different kind share a cell. Where that exceeds
        1e-5 another pass puts a finer grid on the crowded range. It stays above only where equal similarities abound
        (half is then right) or crowd at several places.
    eer: equal error rate, on the polygon through the points of the ROC curve between cells.
    """

    recalls: tuple[float | None, ...]
    auc: float | None
    auc_error: float | None
    eer: float | None
    positive_pairs: int
    negative_pairs: int


def verify(embeddings: Tensor, labels: Tensor, *, fars: Sequence[float], block_size: int = 1024) -> Verification:
    """Measure how well similarity tells same-identity pairs from different-identity pairs.

    With N negatives, the threshold at a FAR is the smallest similarity t with #{negatives >= t} <= FAR·N; the recall
    is the fraction of positives >= t. It is exact, ties included, for the float32 similarities of `PairBlocks`:
    the largest true positive rate on the ROC curve whose false positive rate is at most FAR. For FAR·N < 1 the
    threshold lies just above the most similar negative.

    Args: embeddings: [n, D]; normalised here (a zero or non-finite row has similarity 0 to all).
          labels: [n] integer identities.
          fars: false accept rates in [0, 1).
          block_size: b; at most b² similarities are held at a time.
    """
    for far in fars:
        check.fraction("far", far)
    gallery = Gallery.of(embeddings, labels)
    positives, negatives = gallery.pair_totals()
    if positives == 0 or negatives == 0:
        nothing = (None,) * len(fars)
        return Verification(
            recalls=nothing, auc=None, auc_error=None, eer=None, positive_pairs=positives, negative_pairs=negatives
        )
    pairs = PairBlocks(gallery=gallery, block_size=block_size)
    allowed = [_allowed(far, negatives) for far in fars]
    if pairs.fit_one_block:
        counts = count_values(pairs)
        accepted = [counts.locate(number).accepted for number in allowed]
        auc, auc_error = counts.auc()[0], 0.0
    else:
        cells = guess_cells(gallery, [(number + 1) / negatives for number in allowed])
        counts = count(pairs, cells)
        accepted = _accepted(pairs, cells, counts, allowed)
        auc, auc_error = _auc(pairs, cells, counts)
    return Verification(
        recalls=tuple(number / positives for number in accepted),
        auc=auc,
        auc_error=auc_error,
        eer=counts.eer(),
        positive_pairs=positives,
        negative_pairs=negatives,
    )


def _allowed(far: float, negatives: int) -> int:
    """The largest a with a / negatives <= far in floating point, as on a ROC curve."""
    allowed = int(far * negatives)
    while (allowed + 1) / negatives <= far:
        allowed += 1
    while allowed / negatives > far:
        allowed -= 1
    return allowed


def _accepted(pairs: PairBlocks, cells: Cells, counts: PairCounts, allowed: Sequence[int]) -> list[int]:
    """For each number of negatives that may be accepted: how many positives lie above the threshold.

    The threshold lies above the (allowed+1)-th most similar negative. Its cell is enough where the positives of the
    cell cannot lie on both sides: it is a single value, or has no positive.
    """
    while True:
        found = [counts.locate(number) for number in allowed]
        keys = [cells.keys(place.cell) for place in found]
        if all(window.single or place.positives == 0 for window, place in zip(keys, found, strict=True)):
            return [place.accepted for place in found]
        around = [Window(low=window.low - 1, high=window.high + 1) for window in keys]
        cells = replace(cells, windows=disjoint(around))
        counts = count(pairs, cells)


def _auc(pairs: PairBlocks, cells: Cells, counts: PairCounts) -> tuple[float, float]:
    """(AUC, bound on its error); another pass with a finer grid only where the first one was too coarse."""
    auc, error = counts.auc()
    if error <= _AUC_TOLERANCE:
        return auc, error
    mixed = (counts.positive.double() * counts.negative.double()).cumsum(0)
    first, last = (int(torch.searchsorted(mixed, mixed[-1] * share)) for share in (1e-4, 1 - 1e-4))
    crowded = Window(low=cells.keys(first).low - 1, high=cells.keys(last).high + 1)
    return count(pairs, replace(cells, windows=[crowded])).auc()
