"""Executors that a test can tell apart: by the seconds that they take, and by what they add to the sum."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from fedemb.core.params import scale
from fedemb.execution.executor import Executor, Sequential


@dataclass
class Clock:
    """Stands still unless somebody works."""

    now: float = 0.0

    def __call__(self):
        return self.now


CLOCK = Clock()
SLOW = "at first"
"""Whose turn it is to be slow."""


@dataclass(frozen=True, kw_only=True)
class Paced(Executor):
    """Sequential, times a factor: takes so many seconds a client on a clock, or nothing without one.

    seconds: for the first call, the second, ...; the last one from then on. calls: (round, clients) of each.
    """

    clock: Clock = field(default_factory=Clock)
    seconds: Sequence[float] = (1.0,)
    factor: float = 1.0
    calls: list = field(default_factory=list)

    def clipped_sum(self, work, clipping, shared, cohort, load):
        self.calls.append((cohort.round, len(cohort.clients)))
        self.clock.now += self.seconds[min(len(self.calls), len(self.seconds)) - 1] * len(cohort.clients)
        total, diagnostics = Sequential().clipped_sum(work, clipping, shared, cohort, load)
        return scale(total, self.factor), diagnostics


@dataclass(frozen=True, kw_only=True)
class Turned(Executor):
    """Sequential, times a factor; takes a second on CLOCK if it is its turn to be slow, else half of one."""

    turn: str
    factor: float = 1.0

    def clipped_sum(self, work, clipping, shared, cohort, load):
        CLOCK.now += 1.0 if self.turn == SLOW else 0.5
        total, diagnostics = Sequential().clipped_sum(work, clipping, shared, cohort, load)
        return scale(total, self.factor), diagnostics


@dataclass(frozen=True, kw_only=True)
class Raising(Executor):
    """Cannot work."""

    error: Exception = field(default_factory=lambda: torch.OutOfMemoryError("CUDA out of memory"))

    def clipped_sum(self, work, clipping, shared, cohort, load):
        raise self.error
