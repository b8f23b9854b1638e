"""Factors on a learning rate, by round."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from fedemb.core import check


class Schedule(ABC):
    """round -> factor on the learning rate."""

    @abstractmethod
    def factor(self, round: int) -> float:
        """The factor of round 0, 1, ..., in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The same rate in every round."""

    def factor(self, round: int) -> float:
        """1."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class WarmupCosine(Schedule):
    """Linear rise over `warmup_rounds`, then half a cosine down to `final_fraction` of it.

    Source: Loshchilov and Hutter 2017, Eq. 5 without restarts, arXiv:1608.03983.
    """

    rounds: int
    warmup_rounds: int = 0
    final_fraction: float = 0.0

    def __post_init__(self) -> None:
        check.at_least("rounds", self.rounds, 1)
        check.at_least("warmup_rounds", self.warmup_rounds, 0)
        check.fraction("final_fraction", self.final_fraction)

    def factor(self, round: int) -> float:
        """The factor of a round; constant at the final value after `rounds`."""
        if round < self.warmup_rounds:
            return (round + 1) / self.warmup_rounds
        span = max(1, self.rounds - self.warmup_rounds)
        progress = min(1.0, (round - self.warmup_rounds) / span)
        cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
        return self.final_fraction + (1.0 - self.final_fraction) * cosine
