"""Noise for the answer of a query, and the event that the noise costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

import torch
from dp_accounting import DpEvent, GaussianDpEvent, NonPrivateDpEvent

from fedemb.core import check
from fedemb.core.optim import Slots
from fedemb.core.rng import NoiseSource
from fedemb.core.types import Params

Event: TypeAlias = DpEvent
"""What a release or a round costs, in the words of dp_accounting."""

NoiseState = Slots
"""What a mechanism carries from round to round; {} for independent noise."""


class Mechanism(ABC):
    """Turns the exact answer into a release.

    std: of the noise, in the units of the answer; the noise multiplier is std / (bound of one virtual client).
    exact: is every number of answer, noise and release an integer, so that rounding can tell nothing?
    """

    std: float
    exact: ClassVar[bool] = False

    @abstractmethod
    def init(self, like: Params) -> NoiseState:
        """The state before round 0, for answers shaped like these parameters."""

    @abstractmethod
    def release(self, value: Params, state: NoiseState, noise: NoiseSource) -> tuple[Params, NoiseState]:
        """(value + noise in float64, the next state). Draws fresh noise; call once for each answer."""

    @abstractmethod
    def event(self, sensitivity: float) -> Event:
        """What one release costs if the answer has this l2 sensitivity; noise is given in units of it."""


@dataclass(frozen=True, kw_only=True)
class Gaussian(Mechanism):
    """Independent N(0, std^2) on every entry (Dwork et al. 2006).

    std: in the units of the parameters; 0 is no noise.
    """

    std: float

    def __post_init__(self) -> None:
        check.non_negative("noise std", self.std)

    @classmethod
    def from_multiplier(cls, *, noise_multiplier: float, bound: float) -> Gaussian:
        """std = z * bound: the paper's noise multiplier z is relative to the clip norm, not to the sensitivity 2C."""
        check.non_negative("noise_multiplier", noise_multiplier)
        check.positive("bound", bound)
        return cls(std=noise_multiplier * bound)

    def init(self, like: Params) -> NoiseState:
        """Nothing."""
        return {}

    def release(self, value: Params, state: NoiseState, noise: NoiseSource) -> tuple[Params, NoiseState]:
        """value + std * N(0, I), drawn on the CPU in the order of the names."""
        noisy = {}
        for name in sorted(value):
            draw = noise.normal(value[name].shape).to(value[name].device)
            noisy[name] = torch.add(value[name].double(), draw, alpha=self.std)
        return noisy, state

    def event(self, sensitivity: float) -> Event:
        """A Gaussian event with noise std / sensitivity."""
        check.positive("sensitivity", sensitivity)
        return GaussianDpEvent(self.std / sensitivity)


@dataclass(frozen=True, kw_only=True)
class NoNoise(Mechanism):
    """Releases the exact answer: no privacy."""

    std: float = field(default=0.0, init=False)

    @classmethod
    def from_multiplier(cls, *, bound: float) -> NoNoise:
        """The same for every bound."""
        return cls()

    def init(self, like: Params) -> NoiseState:
        """Nothing."""
        return {}

    def release(self, value: Params, state: NoiseState, noise: NoiseSource) -> tuple[Params, NoiseState]:
        """The value itself."""
        return value, state

    def event(self, sensitivity: float) -> Event:
        """An event of infinite epsilon."""
        return NonPrivateDpEvent()
