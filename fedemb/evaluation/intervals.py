"""Confidence intervals by drawing identities again (Efron 1979; percentile intervals)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from fedemb.core import check
from fedemb.core.rng import generator
from fedemb.evaluation.embedded import Embedded, Metrics
from fedemb.evaluation.guess import spread_thresholds
from fedemb.evaluation.pairs import Gallery
from fedemb.evaluation.resampling import count_units, units_of
from fedemb.evaluation.retrieval import answer_queries
from fedemb.evaluation.verification import verify

_MOST_UNITS = 704  # [T + 1, G, G] counts take 256 MB
_THRESHOLDS = 128


@dataclass(frozen=True, kw_only=True)
class IdentityIntervals:
    """`<metric>:low` and `<metric>:high` of recall@far, auc, eer, recall@<k> and map@r.

    What is drawn: identities, with replacement, as many as there are (of more than 704, random groups of them: see
    fedemb/evaluation/resampling.py); never pairs or images, which are not independent. The bounds are percentiles over
    the draws.

    Approximations. Verification: the ROC curve of a draw is a polygon through 128 thresholds that are the same in
    every draw, spread over log FAR; both bounds are moved by what the polygon of the data themselves is off its exact
    value. Retrieval: the queries of an identity are drawn, the images that they search among stay all images, as a
    second copy of an identity would be its own nearest neighbour. A draw without a pair of one kind is left out.

    Cost: a pass over all pairs and one over all queries, whatever the number of draws; a second for 1,000 draws.
    """

    fars: Sequence[float]
    ks: Sequence[int]
    draws: int
    confidence: float
    seed: int
    block_size: int = 1024
    test_users_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for far in self.fars:
            check.fraction("far", far)
        for k in self.ks:
            check.at_least("k", k, 1)
        check.at_least("draws", self.draws, 2)
        check.fraction("confidence", self.confidence)
        check.at_least("block_size", self.block_size, 1)

    def metrics(self, test: Embedded) -> Metrics:
        """None where there is nothing to measure."""
        units = units_of(test.labels, most_units=_MOST_UNITS, stream=generator(self.seed, "bootstrap groups"))
        size = int(units.max()) + 1
        stream = generator(self.seed, "bootstrap")
        weights = torch.from_numpy(stream.multinomial(size, [1 / size] * size, size=self.draws)).to(units.device)
        return self._verification(test, units, weights) | self._retrieval(test, units, weights)

    def _verification(self, test: Embedded, units: Tensor, weights: Tensor) -> Metrics:
        names = [*(f"recall@far={far:g}" for far in self.fars), "auc", "eer"]
        exact = verify(test.embeddings, test.labels, fars=self.fars, block_size=self.block_size)
        if exact.auc is None or exact.eer is None:
            return self._bounds(names, None)
        thresholds = spread_thresholds(Gallery.of(test.embeddings, test.labels), _THRESHOLDS)
        counts = count_units(test.embeddings, test.labels, units, thresholds)
        drawn = readings(*counts.curves(weights), self.fars)
        once = readings(*counts.curves(torch.ones_like(weights[:1])), self.fars)
        values = [recall for recall in exact.recalls if recall is not None] + [exact.auc, exact.eer]
        return self._bounds(names, drawn + (torch.tensor(values, dtype=torch.float64) - once))

    def _retrieval(self, test: Embedded, units: Tensor, weights: Tensor) -> Metrics:
        names = [*(f"recall@{k}" for k in self.ks), "map@r"]
        answers = answer_queries(test.embeddings, test.labels, ks=self.ks, block_size=self.block_size)
        unit = units[torch.argsort(test.labels, stable=True)]
        labels = test.labels.sort().values
        unit = unit[torch.searchsorted(labels, answers.labels)]
        values = torch.cat(
            [answers.hits.double(), answers.precision[:, None], torch.ones_like(answers.precision)[:, None]], dim=1
        )
        sums = values.new_zeros(weights.shape[1], values.shape[1]).index_add_(0, unit, values)
        drawn = weights.double() @ sums
        return self._bounds(names, (drawn[:, :-1] / drawn[:, -1:]).cpu())

    def _bounds(self, names: Sequence[str], drawn: Tensor | None) -> Metrics:
        """Percentiles of [B, names], a row with a NaN left out."""
        kept = torch.zeros(0, len(names)) if drawn is None else drawn[torch.isfinite(drawn).all(dim=1)]
        found: Metrics = {}
        for name, values in zip(names, kept.T, strict=True):
            tail = (1 - self.confidence) / 2
            ends = np.quantile(values.numpy(), [tail, 1 - tail]).tolist() if len(values) else [None, None]
            found |= {f"{name}:low": ends[0], f"{name}:high": ends[1]}
        return found


def readings(far: Tensor, recall: Tensor, fars: Sequence[float]) -> Tensor:
    """[B, fars + 2] float64 on the CPU: recall at each FAR, AUC and EER of polygons with points [B, p]."""
    wanted = far.new_tensor(fars).expand(len(far), -1).contiguous()
    auc = torch.trapezoid(recall, far, dim=1)[:, None]
    behind = far + recall - 1  # FAR minus 1 - recall: ascends from -1 to 1
    eer = _interpolated(behind, far, far.new_zeros(len(far), 1))
    return torch.cat([_interpolated(far, recall, wanted), auc, eer], dim=1).cpu()


def _interpolated(x: Tensor, y: Tensor, wanted: Tensor) -> Tensor:
    """[B, w]: y where x has the wanted values, on polygons whose x ascends; of equal x the last point counts."""
    after = torch.searchsorted(x.contiguous(), wanted, right=True).clamp(1, x.shape[1] - 1)
    low, high = x.gather(1, after - 1), x.gather(1, after)
    share = ((wanted - low) / (high - low)).nan_to_num(1.0, posinf=1.0, neginf=1.0).clamp(0.0, 1.0)
    return torch.lerp(y.gather(1, after - 1), y.gather(1, after), share)
