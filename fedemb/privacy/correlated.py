"""The Gaussian mechanism with noise that is correlated from round to round."""

from __future__ import annotations

from dataclasses import dataclass

from fedemb.core import check
from fedemb.core.rng import NoiseSource
from fedemb.core.types import Params
from fedemb.privacy.event_types import CorrelatedGaussianDpEvent
from fedemb.privacy.mechanism import Event, Mechanism, NoiseState
from fedemb.privacy.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class CorrelatedGaussian(Mechanism):
    """Round t releases its answer plus row t of C^-1 Z, Z independent N(0, std^2); the strategy says what C is.

    std: of Z, in the units of the answer; 0 is no noise. The privacy follows from how far apart a user's
    participations are, not from secret sampling: it takes a sampler that says so.
    """

    std: float
    strategy: Strategy

    def __post_init__(self) -> None:
        check.non_negative("noise std", self.std)

    @classmethod
    def from_multiplier(cls, *, noise_multiplier: float, bound: float, strategy: Strategy) -> CorrelatedGaussian:
        """std = z * bound, as for independent noise: C has columns of norm 1 at most."""
        check.non_negative("noise_multiplier", noise_multiplier)
        check.positive("bound", bound)
        return cls(std=noise_multiplier * bound, strategy=strategy)

    def init(self, like: Params) -> NoiseState:
        """The strategy's."""
        return self.strategy.init(like)

    def release(self, value: Params, state: NoiseState, noise: NoiseSource) -> tuple[Params, NoiseState]:
        """value + correlated noise, drawn on the CPU in the order of the names."""

        def fresh() -> Params:
            return {name: noise.normal(value[name].shape).to(value[name].device) for name in sorted(value)}

        correlated, state = self.strategy.noise(fresh, state)
        return {name: value[name].double() + self.std * correlated[name] for name in sorted(value)}, state

    def event(self, sensitivity: float) -> Event:
        """Correlated Gaussian noise of std / sensitivity; a participation shows for the strategy's span."""
        check.positive("sensitivity", sensitivity)
        return CorrelatedGaussianDpEvent(self.std / sensitivity, self.strategy.span, self.strategy.shortest)
