"""Classifiers on frozen embeddings: half of the test users teach, the other half is asked.

Shapes: n images, D embedding width, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from fedemb.core import check
from fedemb.core.rng import generator
from fedemb.evaluation.embedded import Embedded, Metrics, class_positions, ratio
from fedemb.evaluation.pairs import unit_rows

_BLOCK = 1024  # queries at a time


def teachers(test: Embedded, seed: int) -> Tensor:
    """Which images teach: [n] bool.

    Where some class has images of several users, half of the users teach (one more than the others if they are odd in
    number): who is asked was never seen. Where every class is one user's, as with identities, half of each class's
    images teach.
    """
    stream = generator(seed, "probe")
    owners = torch.unique(test.owners)
    owned = torch.unique(torch.stack([test.labels.to(test.owners.dtype), test.owners]), dim=1)
    if owned.shape[1] > len(torch.unique(test.labels)):
        drawn = torch.from_numpy(stream.permutation(len(owners))).to(owners.device)
        return torch.isin(test.owners, owners[drawn[: (len(owners) + 1) // 2]])
    teach = torch.zeros(len(test.labels), dtype=torch.bool, device=test.labels.device)
    for places in class_positions(test.labels, at_least=1):
        drawn = torch.from_numpy(stream.permutation(len(places))).to(places.device)
        teach[places[drawn[: (len(places) + 1) // 2]]] = True
    return teach


@dataclass(frozen=True, kw_only=True)
class _Exam:
    """Unit rows and classes of both halves; asked about are images whose class was taught. classes: K."""

    taught: Tensor
    taught_classes: Tensor
    asked: Tensor
    asked_classes: Tensor
    classes: int

    @classmethod
    def of(cls, test: Embedded, seed: int) -> _Exam:
        teach = teachers(test, seed)
        known, numbers = torch.unique(test.labels[teach], return_inverse=True)
        ask = ~teach & torch.isin(test.labels, known)
        rows = unit_rows(test.embeddings)
        return cls(
            taught=rows[teach],
            taught_classes=numbers,
            asked=rows[ask],
            asked_classes=torch.searchsorted(known, test.labels[ask]),
            classes=len(known),
        )

    def score(self, answers: Tensor) -> float | None:
        return ratio(int((answers == self.asked_classes).sum()), len(self.asked_classes))


@dataclass(frozen=True, kw_only=True)
class KnnProbe:
    """`knn@<k>`: how often the k most similar taught images vote for the right class.

    Votes are equal; a draw goes to the class with the greater sum of similarities. Who teaches is drawn from `seed`.
    """

    k: int
    seed: int
    test_users_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check.at_least("k", self.k, 1)

    def metrics(self, test: Embedded) -> Metrics:
        """None without an image to ask about."""
        exam = _Exam.of(test, self.seed)
        answers = [self._answers(exam, asked) for asked in torch.split(exam.asked, _BLOCK) if len(asked)]
        return {f"knn@{self.k}": exam.score(torch.cat(answers)) if answers else None}

    def _answers(self, exam: _Exam, asked: Tensor) -> Tensor:
        """[b] classes of [b, D] rows."""
        near = torch.mm(asked, exam.taught.T).topk(min(self.k, len(exam.taught)), dim=1)
        votes = exam.taught_classes[near.indices]  # [b, k]
        agree = (votes[:, :, None] == votes[:, None, :]).double()
        sums = (agree * near.values.double()[:, None, :]).sum(dim=2)  # at most k
        best = (agree.sum(dim=2) * (4 * self.k) + sums).argmax(dim=1)
        return votes.gather(1, best[:, None])[:, 0]


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """`linear`: how often multinomial logistic regression on the taught embeddings names the right class.

    It minimises ||W||²/2 + strength · Σ cross entropy over weights W [K, D] and biases [K], in float64 by L-BFGS
    (scikit-learn's LogisticRegression(C=strength)); after `iterations` steps it stops wherever it is.
    """

    strength: float
    iterations: int
    seed: int
    test_users_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check.positive("strength", self.strength)
        check.at_least("iterations", self.iterations, 1)

    def metrics(self, test: Embedded) -> Metrics:
        """None without an image to ask about."""
        exam = _Exam.of(test, self.seed)
        if len(exam.asked) == 0:
            return {"linear": None}
        weight = logistic_regression(
            exam.taught, exam.taught_classes, classes=exam.classes, strength=self.strength, iterations=self.iterations
        )
        return {"linear": exam.score((with_one(exam.asked) @ weight.T).argmax(dim=1))}


def with_one(rows: Tensor) -> Tensor:
    """[n, D + 1] float64: a last column of ones, which carries the bias."""
    return torch.cat([rows.double(), rows.new_ones(len(rows), 1, dtype=torch.float64)], dim=1)


def logistic_regression(
    rows: Tensor, classes_of: Tensor, *, classes: int, strength: float, iterations: int, tolerance: float = 1e-4
) -> Tensor:
    """[K, D + 1] float64: weights, and biases in the last column; those are not penalised.

    tolerance: on the largest component of the gradient.
    """
    features = with_one(rows)
    truth = torch.nn.functional.one_hot(classes_of, classes).double()

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight = torch.from_numpy(flat).to(features.device).view(classes, -1)
        penalised = weight.clone()
        penalised[:, -1] = 0
        log_odds = torch.log_softmax(features @ weight.T, dim=1)
        value = 0.5 * penalised.square().sum() - strength * (log_odds * truth).sum()
        gradient = penalised + strength * (log_odds.exp_() - truth).T @ features
        return float(value), gradient.flatten().cpu().numpy()

    start = np.zeros(classes * features.shape[1])
    found = minimize(
        objective, start, jac=True, method="L-BFGS-B", options={"maxiter": iterations, "gtol": tolerance, "ftol": 1e-12}
    )
    return torch.from_numpy(found.x).to(features.device).view(classes, -1)
