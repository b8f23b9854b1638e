"""Verification when identities are drawn again: counts that every draw needs, made in one pass over the pairs.

Shapes: n images, G units that are drawn, T thresholds, B draws, D embedding width.

A unit is an identity; of more than `most_units` identities, a unit is a random group of them, of equal number up to
one, as any partition of independent identities into groups gives independent groups. A draw takes G units with
replacement: unit g comes w_g times. A same-identity pair of g counts w_g times; a pair of identities of g and h ≠ g
counts w_g · w_h times; a pair of identities within g counts w_g times; two copies of one unit make no pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedemb.evaluation.pairs import Gallery

_BLOCK, _SMALL_BLOCK = 1024, 64
_DRAWS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class UnitCounts:
    """Pairs by unit and by the cell between thresholds that their similarity is in, cell 0 the most similar ones.

    positive: [T + 1, G] int64. negative: [T + 1, G, G] int32, the pair of units (g, h) with g <= h.
    """

    positive: Tensor
    negative: Tensor

    def curves(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """ROC points of every draw: (FAR, recall), each [B, T + 2] float64, ascending from (0, 0) to (1, 1).

        weights: [B, G] how often each unit was drawn. NaN where a draw has no pair of one kind.
        """
        weights = weights.to(self.positive.device)
        found = (weights.double() @ self.positive.double().T).cumsum(dim=1)
        accepted = torch.cat([self._negative(some) for some in torch.split(weights, _DRAWS_AT_ONCE)]).cumsum(dim=1)
        start = found.new_zeros(len(found), 1)
        return (
            torch.cat([start, accepted], dim=1) / accepted[:, -1:],
            torch.cat([start, found], dim=1) / found[:, -1:],
        )

    def _negative(self, weights: Tensor) -> Tensor:
        """[b, T + 1] float64: negative pairs of each draw in each cell."""
        whole, single = weights.double(), weights.float()
        cells = []
        for counts in self.negative:
            own = counts.diagonal().double()
            across = (single @ counts.float()).double()  # sums of whole numbers below 2^24: exact, or nearly so
            cells.append((across * whole).sum(dim=1) + (whole * (1 - whole)) @ own)
        return torch.stack(cells, dim=1)


def units_of(labels: Tensor, *, most_units: int, stream: np.random.Generator) -> Tensor:
    """[n] int64: the unit of each image, 0 .. G-1."""
    numbers: Tensor
    identities, numbers = torch.unique(labels, return_inverse=True)
    if len(identities) <= most_units:
        return numbers
    unit = torch.from_numpy(stream.permutation(len(identities)) % most_units).to(labels.device)
    return unit[numbers]


def count_units(embeddings: Tensor, labels: Tensor, units: Tensor, thresholds: Tensor) -> UnitCounts:
    """One pass over all pairs. thresholds: [T] float32, falling; a pair is in the first cell whose threshold it meets.

    The images are sorted by unit, so that a block of pairs belongs to few pairs of units and counts in little memory.
    """
    order = torch.argsort(units, stable=True)
    gallery = Gallery.of(embeddings[order], torch.arange(len(order), device=order.device))  # normalised, order kept
    rows, labels, units = gallery.embeddings, labels[order], units[order]
    size, cells = int(units.max()) + 1, len(thresholds) + 1
    rising = thresholds.flip(0).contiguous()
    positive = torch.zeros(cells, size, dtype=torch.int64, device=rows.device)
    negative = torch.zeros(cells, size, size, dtype=torch.int32, device=rows.device)
    block = min(_BLOCK, max(_SMALL_BLOCK, len(rows) // 16))  # a block of all units would count in much memory
    for start in range(0, len(rows), block):
        left = slice(start, start + block)
        for other in range(start, len(rows), block):
            right = slice(other, other + block)
            similarity = torch.mm(rows[left], rows[right].T).clamp_(-1.0, 1.0)
            cell = len(thresholds) - torch.bucketize(similarity, rising, right=True, out_int32=True)
            same = labels[left, None] == labels[None, right]
            pair = torch.ones_like(same) if other > start else torch.ones_like(same).triu_(diagonal=1)
            mine = torch.nonzero(same & pair)
            positive.view(-1).index_add_(
                0, cell[mine[:, 0], mine[:, 1]] * size + units[left][mine[:, 0]], torch.ones_like(mine[:, 0])
            )
            first, second = int(units[left][0]), int(units[right][0])
            height, width = int(units[left][-1]) - first + 1, int(units[right][-1]) - second + 1
            place = ((units[left] - first) * width)[:, None] + (units[right] - second)[None, :]
            place = place.int() + cell * (height * width)
            local = torch.bincount(place[pair & ~same], minlength=cells * height * width)
            window = negative[:, first : first + height, second : second + width]
            window += local.view(cells, height, width).int()
    return UnitCounts(positive=positive, negative=negative)
