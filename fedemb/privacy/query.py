"""Questions to private data whose sensitivity is known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from dp_accounting import NeighboringRelation

from fedemb.core import check
from fedemb.core.types import Cohort, Diagnostics, Params


class Query(ABC):
    """An answer over one cohort with a proven l2 sensitivity."""

    @abstractmethod
    def answer(self, shared: Params, cohort: Cohort) -> tuple[Params, Diagnostics]:
        """(the exact answer, which only a mechanism may see; exact diagnostics)."""

    @abstractmethod
    def sensitivity(self, relation: NeighboringRelation) -> float:
        """How far, in l2, the answer can move between neighbouring data sets that draw the same cohort."""


@dataclass(frozen=True, kw_only=True)
class ClippedSum(Query):
    """The sum of one clipped update for each virtual client.

    clip_norm: C > 0.
    sum_updates: (C, parameters, cohort) -> (sum of updates of norm <= C, diagnostics).
    """

    clip_norm: float
    sum_updates: Callable[[float, Params, Cohort], tuple[Params, Diagnostics]]

    def __post_init__(self) -> None:
        check.positive("clip_norm", self.clip_norm)

    def answer(self, shared: Params, cohort: Cohort) -> tuple[Params, Diagnostics]:
        """The sum, in float64."""
        return self.sum_updates(self.clip_norm, shared, cohort)

    def sensitivity(self, relation: NeighboringRelation) -> float:
        """2C: substituting one user swaps the update of one virtual client for any other of norm <= C.

        The bound holds however many users a virtual client joins, as a user is in at most one.
        Raises: ValueError for another relation.
        """
        if relation is not NeighboringRelation.REPLACE_ONE:
            raise ValueError(f"the clipped sum is analysed under substitute-one only, got {relation}")
        return 2.0 * self.clip_norm
