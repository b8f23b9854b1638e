"""Verification over all pairs of images: recall (true accept rate) at given false accept rates, and AUC.

Images that fit in one block are counted by value. For more, a pass over the pairs counts similarities on a grid, and
a second pass looks at the single float32 values inside the few cells where a threshold lies: memory does not grow
with the number of pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedemb.core import check
from fedemb.evaluation.counting import GRID_BINS, PairCounts, count, count_values, grid_bin, grid_edge, ordered_key
from fedemb.evaluation.pairs import Gallery, PairBlocks

_WINDOW_CELLS = 2**16
_AUC_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What all pairs of n images say.

    recalls: one for each FAR; None without a positive or without a negative pair.
    auc: probability that a same-identity pair is more similar than a different-identity pair, ties counting half.
    auc_error: proven bound on the error of `auc`; 0 for images that fit in one block. On the grid, similarities in
        one cell of 2^-20 count as ties, so the bound is half the chance that random pairs of different kind share a
        cell. Where that exceeds 1e-6 another pass puts a finer grid on the crowded range. It stays above 1e-6 only
        where equal similarities abound (half is then right) or crowd at several places.
    """

    recalls: tuple[float | None, ...]
    auc: float | None
    auc_error: float | None
    positive_pairs: int
    negative_pairs: int


@dataclass(frozen=True, kw_only=True)
class _Search:
    """Where the (allowed+1)-th most similar negative pair lies: among the keys low .. high-1.

    allowed: how many negatives of this range may be accepted.
    accepted: positives above this range.
    """

    low: int
    high: int
    allowed: int
    accepted: int

    @property
    def shift(self) -> int:
        """log2 of the keys in one cell when the range is cut into at most 2^16 cells."""
        return max(0, (self.high - self.low - 1).bit_length() - 16)


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
            recalls=nothing, auc=None, auc_error=None, positive_pairs=positives, negative_pairs=negatives
        )
    pairs = PairBlocks(gallery=gallery, block_size=block_size)
    allowed = [_allowed(far, negatives) for far in fars]
    if pairs.fit_one_block:
        counts = count_values(pairs)
        accepted = [counts.locate(number)[2] for number in allowed]
        auc, auc_error = counts.auc()[0], 0.0
    else:
        coarse = count(pairs, grid_bin, GRID_BINS)
        accepted = _accepted(pairs, coarse, allowed)
        auc, auc_error = _auc(pairs, coarse)
    return Verification(
        recalls=tuple(number / positives for number in accepted),
        auc=auc,
        auc_error=auc_error,
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


def _accepted(pairs: PairBlocks, coarse: PairCounts, allowed: Sequence[int]) -> list[int]:
    """For each number of negatives that may be accepted: how many positives lie above the threshold."""
    searches = []
    for number in allowed:
        cell, left, above = coarse.locate(number)
        edges = torch.tensor([grid_edge(cell), grid_edge(cell + 1)], dtype=torch.float32)
        low, high = ordered_key(edges).tolist()
        searches.append(_Search(low=low, high=high, allowed=left, accepted=above))
    while any(search.high - search.low > 1 for search in searches):
        searches = _narrow(pairs, searches)
    return [search.accepted for search in searches]


def _narrow(pairs: PairBlocks, searches: Sequence[_Search]) -> list[_Search]:
    """One pass that cuts the range of each search into 2^16 cells and keeps the right one."""
    lowest = min(search.low for search in searches)

    def cell_of(similarities: Tensor) -> Tensor:
        key = ordered_key(similarities[similarities >= floor])
        cells = []
        for index, search in enumerate(searches):
            inside = key[(key >= search.low) & (key < search.high)]
            cells.append(((inside - search.low) >> search.shift) + index * _WINDOW_CELLS)
        return torch.cat(cells)

    floor = float(_similarity(lowest))
    counts = count(pairs, cell_of, len(searches) * _WINDOW_CELLS)
    narrowed = []
    for index, search in enumerate(searches):
        window = slice(index * _WINDOW_CELLS, (index + 1) * _WINDOW_CELLS)
        inside = PairCounts(positive=counts.positive[window], negative=counts.negative[window])
        cell, left, above = inside.locate(search.allowed)
        low = search.low + (cell << search.shift)
        high = min(search.high, low + (1 << search.shift))
        narrowed.append(_Search(low=low, high=high, allowed=left, accepted=search.accepted + above))
    return narrowed


def _similarity(key: int) -> Tensor:
    """The float32 with a key: the inverse of `ordered_key`."""
    bits = torch.tensor(key, dtype=torch.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32)


def _auc(pairs: PairBlocks, coarse: PairCounts) -> tuple[float, float]:
    """(AUC, bound on its error); another pass on a finer grid only where the coarse one is too coarse."""
    auc, error = coarse.auc()
    if error <= _AUC_TOLERANCE:
        return auc, error
    mixed = (coarse.positive.double() * coarse.negative.double()).cumsum(0)
    low, high = (int(torch.searchsorted(mixed, mixed[-1] * share)) for share in (1e-4, 1 - 1e-4))
    return _refined(pairs, coarse, low, high + 1).auc()


def _refined(pairs: PairBlocks, coarse: PairCounts, low: int, high: int) -> PairCounts:
    """The counts with the cells low .. high-1 replaced by a grid of as many cells as the whole range has."""
    start, end = grid_edge(low), grid_edge(high)
    per_unit = (GRID_BINS - 1) / (end - start)

    def cell_of(similarities: Tensor) -> Tensor:
        inside = similarities[(similarities >= start) & (similarities < end)]
        return ((inside - start) * per_unit).int().clamp_(max=GRID_BINS - 1)

    fine = count(pairs, cell_of, GRID_BINS)
    return PairCounts(
        positive=torch.cat([coarse.positive[:low], fine.positive, coarse.positive[high:]]),
        negative=torch.cat([coarse.negative[:low], fine.negative, coarse.negative[high:]]),
    )
