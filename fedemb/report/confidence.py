"""The mean over seeds and how far it can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t as student

from fedemb.report.numbers import metric

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds with its confidence interval by Student's t at `LEVEL`; of one seed, the value alone."""

    mean: float
    low: float
    high: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """From one value a seed, at least one. Source: the interval mean ± t(n-1) · s / √n for normal values."""
        count, mean = len(values), math.fsum(values) / len(values)
        if count == 1:
            return cls(mean=mean, low=mean, high=mean, seeds=1)
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
        half = float(student.ppf(0.5 + LEVEL / 2, count - 1)) * spread / math.sqrt(count)
        return cls(mean=mean, low=mean - half, high=mean + half, seeds=count)

    @property
    def words(self) -> str:
        """ "0.2810 ± 0.0042 over 3 seeds"."""
        if self.seeds == 1:
            return f"{metric(self.mean)}, one seed"
        return f"{metric(self.mean)} ± {self.high - self.mean:.4f} over {self.seeds} seeds"
