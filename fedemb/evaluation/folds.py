"""Verification on the pairs of a file, in folds: LFW's protocol.

Shapes: f pairs in a fold, F folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from fedemb.core import check
from fedemb.evaluation.embedded import Embedded, Metrics
from fedemb.evaluation.pair_files import PairList, read_pairs
from fedemb.evaluation.pairs import unit_rows


@dataclass(frozen=True, kw_only=True)
class PairFile:
    """`pairs:accuracy`, `pairs:accuracy:std`, and `pairs:tar@far=<far>` with its `:std`: mean and standard deviation
    (over F, not F - 1) of the folds' values.

    A fold's threshold is chosen on the other folds: for accuracy, the one with the most right answers, in the middle
    of the gap between two similarities (the lowest of several equally good ones); for TAR, the smallest similarity at
    which at most a share FAR of the different pairs is accepted. A pair is accepted at or above the threshold.

    path: a file in LFW's format; its names are those of the test users.
    """

    path: str
    fars: Sequence[float]
    test_users_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for far in self.fars:
            check.fraction("far", far)

    def metrics(self, test: Embedded) -> Metrics:
        """Raises: ValueError in one line with file and line for a user or an image that the test users do not have."""
        pairs = read_pairs(Path(self.path))
        first, second = _positions(test, pairs)
        rows = unit_rows(test.embeddings)
        folds = torch.tensor([[pair.same for pair in fold] for fold in pairs.folds])
        similarity = (rows[first] * rows[second]).sum(dim=1).cpu().view(folds.shape)
        values = {"pairs:accuracy": fold_accuracies(similarity, folds)}
        values |= {f"pairs:tar@far={far:g}": fold_tars(similarity, folds, far) for far in self.fars}
        found: Metrics = {}
        for name, each in values.items():
            found |= {name: float(each.mean()), f"{name}:std": float(each.std(correction=0))}
        return found


def _positions(test: Embedded, pairs: PairList) -> tuple[Tensor, Tensor]:
    """Positions of the first and of the second images, [pairs] each."""
    users = {name: user for user, name in test.user_names().items()}
    if not users:
        raise ValueError(f"{pairs.where} names users, and these test users have no names: take users of a folder")
    owners, counts = torch.unique(test.owners, return_counts=True)
    starts = dict(zip(owners.tolist(), (counts.cumsum(0) - counts).tolist(), strict=True))
    sizes = dict(zip(owners.tolist(), counts.tolist(), strict=True))

    def position(name: str, place: int, line: int) -> int:
        if name not in users:
            raise ValueError(f"{pairs.where}, line {line}: there is no test user {name!r} with images")
        if place > sizes[users[name]]:
            raise ValueError(f"{pairs.where}, line {line}: {name!r} has {sizes[users[name]]} images, not {place}")
        return int(starts[users[name]]) + place - 1

    found = [
        (position(*pair.first, pair.line), position(*pair.second, pair.line)) for fold in pairs.folds for pair in fold
    ]
    first, second = torch.tensor(found, device=test.embeddings.device).T
    return first, second


def fold_accuracies(similarity: Tensor, same: Tensor) -> Tensor:
    """[F] float64: share of right answers in each fold. Both [F, f]."""
    shares = []
    for fold, rest in _each_and_rest(len(same)):
        threshold = best_threshold(similarity[rest].flatten(), same[rest].flatten())
        shares.append(((similarity[fold] >= threshold) == same[fold]).double().mean())
    return torch.stack(shares)


def best_threshold(similarity: Tensor, same: Tensor) -> float:
    """The threshold with the most right answers."""
    ordered, order = similarity.double().sort()
    kinds = same[order].long()
    right = torch.cat([kinds.sum()[None], kinds.sum() + (1 - 2 * kinds).cumsum(0)])  # the first k refused
    ends = torch.cat([ordered[:1] - 1, ordered, ordered[-1:] + 1])
    possible = ends[1:] > ends[:-1]  # no threshold divides equal similarities
    k = int(torch.where(possible, right, -1).argmax())
    return float(ends[k] + ends[k + 1]) / 2


def fold_tars(similarity: Tensor, same: Tensor, far: float) -> Tensor:
    """[F] float64: share of the same pairs of each fold that are accepted."""
    shares = []
    for fold, rest in _each_and_rest(len(same)):
        different = similarity[rest][~same[rest]].sort(descending=True).values
        refused = different[int(far * len(different) + 1e-9)]  # the most similar one that may not be accepted
        shares.append((similarity[fold][same[fold]] > refused).double().mean())
    return torch.stack(shares)


def _each_and_rest(folds: int) -> list[tuple[int, list[int]]]:
    return [(fold, [other for other in range(folds) if other != fold]) for fold in range(folds)]
