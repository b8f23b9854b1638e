"""Questions to a cohort whose answers have a proven l2 sensitivity.

Every query adds up one bounded vector for each virtual client. Only `Query.sensitivity` contains a 2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from dp_accounting import NeighboringRelation

from fedemb.core import check
from fedemb.core.params import scale, to, zeros_like
from fedemb.core.types import Cohort, Diagnostics, Params
from fedemb.privacy.clipping import Clipping, check_clients

QueryState: TypeAlias = Params
"""What a query carries from round to round; made from releases alone, hence public. {} for none."""

SumUpdates: TypeAlias = Callable[[Clipping, Params, Cohort], tuple[Params, Diagnostics]]
"""(clipping, shared parameters, cohort) -> (sum of the clipped updates, exact diagnostics)."""


@dataclass(frozen=True, kw_only=True)
class Query(ABC):
    """A sum over virtual clients.

    sum_updates: asks the virtual clients of a cohort.
    planned_clients: m, how many virtual clients a round has, or is expected to have.
    """

    sum_updates: SumUpdates
    planned_clients: float

    def __post_init__(self) -> None:
        check.positive("planned_clients", self.planned_clients)

    @property
    @abstractmethod
    def bound(self) -> float:
        """B: the l2 norm that one virtual client adds at most, in the units of the answer."""

    def sensitivity(self, relation: NeighboringRelation) -> float:
        """2B: substituting one user swaps what one virtual client adds for anything else of norm <= B.

        The bound holds however many users a virtual client joins, as a user is in at most one. It is the most that the
        answer can move, in l2, between neighbouring data sets that draw the same cohort.
        Raises: ValueError for another relation.
        """
        if relation is not NeighboringRelation.REPLACE_ONE:
            raise ValueError(f"sums over virtual clients are analysed under substitute-one only, got {relation}")
        return 2.0 * self.bound

    def init(self) -> QueryState:
        """The state before round 0."""
        return {}

    def blank(self, trained: Params) -> Params:
        """Zeros shaped like an answer about these parameters."""
        return zeros_like(trained)

    @abstractmethod
    def answer(self, state: QueryState, shared: Params, cohort: Cohort) -> tuple[Params, Diagnostics]:
        """(the exact answer, which only a mechanism may see; exact diagnostics)."""

    @abstractmethod
    def interpret(self, release: Params, state: QueryState) -> tuple[Params, QueryState]:
        """(the noised sum of updates in the units of the parameters, the next state): made from the release alone."""

    def public(self, state: QueryState) -> dict[str, float]:
        """What the state says, by name, for a report."""
        return {}


@dataclass(frozen=True, kw_only=True)
class ClippedSum(Query):
    """The sum of one clipped update for each virtual client."""

    clipping: Clipping

    def __post_init__(self) -> None:
        super().__post_init__()
        check_clients(self.planned_clients, self.clipping)

    @property
    def bound(self) -> float:
        """That of the clipping."""
        return self.clipping.bound

    def answer(self, state: QueryState, shared: Params, cohort: Cohort) -> tuple[Params, Diagnostics]:
        """The sum, in the dtype of clipped updates."""
        return self.sum_updates(self.clipping, shared, cohort)

    def interpret(self, release: Params, state: QueryState) -> tuple[Params, QueryState]:
        """The release itself, in float64 and in the units of the parameters."""
        return scale(to(release, dtype=torch.float64), self.clipping.unit), state
