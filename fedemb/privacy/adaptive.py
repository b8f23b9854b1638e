"""A clip norm that follows a quantile of the updates' norms, at no cost beside a little more noise on the sum."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from fedemb.core import check
from fedemb.core.params import scale, split, zeros_like
from fedemb.core.types import Cohort, Diagnostics, Params
from fedemb.privacy.clipping import FlatClipping, check_clients
from fedemb.privacy.query import Query, QueryState

COUNT = "clients_below_clip_norm"
"""The name under which an answer holds the count."""

_COUNT_NOISE = 0.05  # of the planned clients
_RANGE = 2.0**60  # the clip norm stays within this factor of the first one, so that no quotient leaves float64


@dataclass(frozen=True, kw_only=True)
class AdaptiveClippedSum(Query):
    """The sum of clipped updates in units of the clip norm C_t, and how many virtual clients were below it.

    A virtual client adds (update / C_t, w (b - 1/2)), b = 1 if its update was within C_t: a vector of norm at most
    B = sqrt(1 + w^2 / 4) whatever C_t is. w = z_sum / count_noise with z_sum^-2 = z^-2 - (2 count_noise)^-2, so that
    noise of std z B on every entry is noise of count_noise on the count and of z_sum C_t on the sum, and costs what
    noise multiplier z costs without the count.

    clip_norm: C_0 > 0. noise_multiplier: z of the round. quantile: of the norms, that C_t follows.
    rate: of C_(t+1) = C_t exp(-rate (share of clients below C_t, noised - quantile)).
    count_noise: std of the noise on the count of virtual clients, above z / 2; None: planned_clients / 20, or z
        if that is more (then the sum gets at most 16 % more noise).
    Source: Andrew, Thakkar, McMahan and Ramaswamy 2021, Alg. 1 and Theorem 1, arXiv:1905.03871.
    """

    clip_norm: float
    noise_multiplier: float
    quantile: float = 0.5
    rate: float = 0.2
    count_noise: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_clients(self.planned_clients, FlatClipping(clip_norm=self.clip_norm))
        check.non_negative("noise_multiplier", self.noise_multiplier)
        check.fraction("query.quantile", self.quantile)
        check.positive("query.rate", self.rate)
        check.positive("query.count_noise", self._count_std)
        if self.noise_multiplier >= 2 * self._count_std:
            raise ValueError(
                f"query.count_noise={self._count_std:g} leaves no noise_multiplier={self.noise_multiplier:g} for "
                "the sum: it must be above noise_multiplier / 2; raise it, or take more virtual clients a round"
            )

    @property
    def bound(self) -> float:
        """B."""
        return math.hypot(1.0, self._weight / 2)

    def init(self) -> QueryState:
        """C_0."""
        return {"clip_norm": torch.tensor(float(self.clip_norm), dtype=torch.float64)}

    def blank(self, trained: Params) -> Params:
        """Zeros for the sum and for the count []."""
        return {**zeros_like(trained), COUNT: torch.zeros(())}

    def answer(self, state: QueryState, shared: Params, cohort: Cohort) -> tuple[Params, Diagnostics]:
        """The sum over C_t, and w times the centred count."""
        clip_norm = float(state["clip_norm"])
        total, diagnostics = self.sum_updates(FlatClipping(clip_norm=clip_norm), shared, cohort)
        centred = (diagnostics.norms <= clip_norm).double() - 0.5
        return {**scale(total, 1 / clip_norm), COUNT: self._weight * centred.sum()}, diagnostics

    def interpret(self, release: Params, state: QueryState) -> tuple[Params, QueryState]:
        """The sum times C_t, and C_(t+1) from the noised count."""
        count, total = split(release, COUNT.__eq__)
        clip_norm = state["clip_norm"]
        below = count[COUNT].cpu() / (self._weight * self.planned_clients) + 0.5
        followed = clip_norm * torch.exp(-self.rate * (below - self.quantile))
        within = torch.clamp(followed, min=self.clip_norm / _RANGE, max=self.clip_norm * _RANGE)
        return scale(total, float(clip_norm)), {"clip_norm": within}

    def public(self, state: QueryState) -> dict[str, float]:
        """C_t."""
        return {"clip_norm": float(state["clip_norm"])}

    @property
    def _count_std(self) -> float:
        """Std of the noise on the count."""
        if self.count_noise is None:
            return max(_COUNT_NOISE * self.planned_clients, self.noise_multiplier)
        return self.count_noise

    @property
    def _weight(self) -> float:
        """w; any number where there is no noise."""
        z = self.noise_multiplier
        return 1.0 if z == 0 else (z**-2 - (2 * self._count_std) ** -2) ** -0.5 / self._count_std
