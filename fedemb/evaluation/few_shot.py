"""N-way K-shot episodes: a few images of each of a few classes teach, others of the same classes are asked.

Shapes: E episodes, N ways, K shots, Q queries of a class, D embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from fedemb.core import check
from fedemb.core.rng import generator
from fedemb.evaluation.embedded import Embedded, Metrics, class_positions
from fedemb.evaluation.pairs import unit_rows

_EPISODES_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """`few_shot@<N>way<K>shot`, the mean accuracy of the episodes, and `…:se`, the standard error of that mean.

    A class is the mean of its K unit embeddings, and a query goes to the class with the largest cosine (prototypes of
    Snell et al. 2017, arXiv:1703.05175); a draw counts as wrong. Classes and images are drawn from `seed`, without
    replacement within an episode, among the classes with at least K + Q images.

    ways: N. shots: each K that is measured. queries: Q. episodes: E.
    """

    ways: int
    shots: Sequence[int]
    queries: int
    episodes: int
    seed: int
    test_users_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check.at_least("ways", self.ways, 2)
        for shots in self.shots:
            check.at_least("shots", shots, 1)
        check.at_least("queries", self.queries, 1)
        check.at_least("episodes", self.episodes, 1)

    def metrics(self, test: Embedded) -> Metrics:
        """None where fewer than N classes have enough images."""
        rows = unit_rows(test.embeddings)
        found: Metrics = {}
        for shots in self.shots:
            name = f"few_shot@{self.ways}way{shots}shot"
            classes = class_positions(test.labels, at_least=shots + self.queries)
            if len(classes) < self.ways:
                found |= {name: None, f"{name}:se": None}
                continue
            chosen = self._draw([places.cpu().numpy() for places in classes], shots).to(rows.device)
            scores = torch.cat([_accuracy(rows[some], shots) for some in torch.split(chosen, _EPISODES_AT_ONCE)])
            spread = float(scores.std()) if len(scores) > 1 else math.nan
            error = spread / math.sqrt(len(scores))
            found |= {name: float(scores.mean()), f"{name}:se": error if math.isfinite(error) else None}
        return found

    def _draw(self, classes: Sequence[np.ndarray], shots: int) -> Tensor:
        """[E, N, K + Q] positions of images."""
        stream = generator(self.seed, "few-shot", self.ways, shots)
        drawn = [
            [
                stream.choice(classes[number], shots + self.queries, replace=False)
                for number in stream.choice(len(classes), self.ways, replace=False)
            ]
            for _ in range(self.episodes)
        ]
        return torch.from_numpy(np.array(drawn))


def _accuracy(rows: Tensor, shots: int) -> Tensor:
    """[E] float64 of episodes [E, N, K + Q, D]."""
    prototypes = rows[:, :, :shots].mean(dim=2)
    prototypes = unit_rows(prototypes.flatten(0, 1)).view_as(prototypes)
    similarity = torch.einsum("enqd,emd->enqm", rows[:, :, shots:], prototypes)
    ways = torch.arange(rows.shape[1], device=rows.device)
    own = similarity[:, ways, :, ways].permute(1, 0, 2)  # [E, N, Q]
    similarity[:, ways, :, ways] = -torch.inf
    return (own > similarity.amax(dim=3)).double().mean(dim=(1, 2))
