"""Sums and noise in whole numbers: the answer, its noise and its release are exact integers on a grid.

Floating-point noise has holes where the exact answer shines through (Mironov 2012; Jin et al. 2022, arXiv:2112.05307);
integer noise has none. Updates are clipped and rounded to multiples of the grid, added up in int64 without rounding,
and get discrete Gaussian noise. int64 addition wraps around, which is post-processing of the exact sum: a sum that is
too large for it could cost accuracy, never privacy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from dp_accounting import GaussianDpEvent
from torch import Tensor

from fedemb.core import check
from fedemb.core.params import norm
from fedemb.core.rng import NoiseSource
from fedemb.core.types import Params
from fedemb.privacy.clipping import Clipping
from fedemb.privacy.discrete_gaussian import sample
from fedemb.privacy.event_types import NearDpEvent
from fedemb.privacy.mechanism import Event, Mechanism, NoiseState

_ROUNDING = 2.0**-22  # covers the rounding of the norm, of its bound and of the products
_MOST_ENTRIES = 2**30  # d float64 squares are summed with a relative error of d 2^-53: of the norm, half of that
_MOST_SUM = 2**61  # with 16 std of noise, of std 2^56 at most, a sum of this size stays below 2^62
_MOST_STD = 2.0**56


@dataclass(frozen=True, kw_only=True)
class GridClipping(Clipping):
    """The whole update as one vector of norm at most C, rounded to int64 multiples of the grid.

    clip_norm: C > 0, in the units of the parameters. grid: g > 0, what 1 stands for, in the same units.
    """

    clip_norm: float
    grid: float

    def __post_init__(self) -> None:
        check.positive("clip_norm", self.clip_norm)
        check.positive("grid", self.grid)
        if self.bound > _MOST_SUM:
            raise ValueError(
                f"clip_norm must be at most 2^61 steps of the grid, got clip_norm={self.clip_norm} grid={self.grid}: "
                "lower the bits of the noise or raise noise_multiplier"
            )

    @classmethod
    def from_multiplier(cls, *, clip_norm: float, noise_multiplier: float, bits: int) -> GridClipping:
        """The grid on which noise of std z C has the std 2^bits: g = z C / 2^bits."""
        check.positive("clip_norm", clip_norm)
        check.positive("noise_multiplier", noise_multiplier)
        check.at_least("bits", bits, 0)
        return cls(clip_norm=clip_norm, grid=math.ldexp(noise_multiplier * clip_norm, -bits))

    @property
    def bound(self) -> float:
        """C / g."""
        return self.clip_norm / self.grid

    @property
    def unit(self) -> float:
        """g."""
        return self.grid

    @property
    def most_clients(self) -> int:
        """How many vectors of norm C / g add up to entries of at most 2^61."""
        return int(_MOST_SUM // self.bound)

    def __call__(self, update: Params) -> tuple[Params, Tensor]:
        """(v, ||update|| []): v is w = x min(1, L / ||x||) rounded to integers, with x = update / g.

        Guarantee: ||v|| <= (1 - 2^-24) C / g for every input; zeros for an update that is not finite, or whose squared
        norm in steps of the grid overflows float64. The 2^-24 cover the rounding of C / g and of std / sensitivity.
        Proof, for d entries and L = (1 - 2^-22) C / g - sqrt(d) / 2: d squares, added in any order, and their root
        fall short by at most 2^-24 + 2^-47 of ||x|| for d <= 2^30 (squares that underflow are of entries that become
        0), and L, the quotient and the products err by less than 2^-50, all relative to C / g. Hence
        ||w|| <= L + (2^-24 + 2^-46) C / g. Rounding moves an entry by at most 1/2, so ||v|| <= ||w|| + sqrt(d) / 2.
        Raises: ValueError where L is not positive, or for more entries than the proof covers.
        """
        entries = sum(value.numel() for value in update.values())
        length_bound = (1.0 - _ROUNDING) * self.bound - math.sqrt(entries) / 2
        if entries > _MOST_ENTRIES:
            raise ValueError(f"grid clipping takes updates of at most 2^30 entries, got {entries}: take flat clipping")
        if length_bound <= 0:
            raise ValueError(
                f"rounding {entries} entries moves an update by up to {math.sqrt(entries) / 2:.3g} steps of the grid, "
                f"and the clip norm is {self.bound:.3g} steps: raise the bits of the noise"
            )
        steps = {name: value.double() / self.grid for name, value in update.items()}
        length = norm(steps)
        factor = torch.clamp(length_bound / length, max=1.0)
        finite = length.isfinite()
        rounded = {name: torch.where(finite, value * factor, 0.0).round().long() for name, value in steps.items()}
        return rounded, length * self.grid


@dataclass(frozen=True, kw_only=True)
class DiscreteGaussian(Mechanism):
    """Independent discrete Gaussian noise, P(y) ~ exp(-y^2 / (2 std^2)), on every entry of an int64 answer.

    std: sigma, an integer from 1 to 2^56, in steps of the grid. entries: d, the most numbers that an answer may have.
    Source of the noise: Canonne, Kamath and Steinke 2020, arXiv:2004.00010.

    Cost. For integer x, x + round(N(0, sigma^2 I)) is post-processing of the Gaussian mechanism. Let r be the law of
    round(N(0, sigma^2)), p the discrete Gaussian, phi the normal density. Then TV(r^d, p^d) <= sqrt(d) / (12 sigma^2)
    for sigma >= 1, whatever x is:
    (1) r(k) / phi(k) = E exp(-k U / sigma^2 - U^2 / (2 sigma^2)) for U uniform on [-1/2, 1/2]. By Jensen it is at least
        exp(-1 / (24 sigma^2)); by E exp(-aU) = sinh(a/2) / (a/2) <= exp(a^2 / 24), at most exp(k^2 / (24 sigma^4)).
    (2) phi(k) = theta p(k) with theta = sum_n exp(-2 pi^2 sigma^2 n^2) by Poisson summation, and
        0 <= log theta <= 2.1 exp(-2 pi^2 sigma^2) <= 10^-8 / sigma^2.
    (3) So h = log(r / p) lies between -1 / (24 sigma^2) and k^2 / (24 sigma^4) + log theta. Under r, |k| is at most
        |N| + 1/2, and by Minkowski (E k^4)^(1/4) <= (3^(1/4) + 1/2) sigma, so that sqrt(E k^4) <= 3.30 sigma^2.
        Hence E_r h^2 <= (1/24^2 + (3.30/24 + 10^-8)^2) / sigma^4 <= 0.0208 / sigma^4.
    (4) KL(r, p) = E_r[h] = E_r[exp(-h) - 1 + h] <= exp(1/24) E_r[h^2] / 2 <= 0.0109 / sigma^4 < 1 / (72 sigma^4), by
        exp(-h) - 1 + h <= h^2 exp(max(-h, 0)) / 2. Pinsker's inequality on d independent entries gives the claim.
    """

    std: float
    entries: int = _MOST_ENTRIES
    exact: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check.finite("noise std", self.std)
        if not (1 <= self.std <= _MOST_STD and self.std == int(self.std)):
            raise ValueError(
                f"the std of integer noise must be an integer from 1 to 2^56 steps of the grid, got std={self.std}: "
                "take query=grid, or change the bits of the noise"
            )
        check.at_least("entries", self.entries, 1)

    @classmethod
    def from_multiplier(
        cls, *, noise_multiplier: float, bound: float, entries: int = _MOST_ENTRIES
    ) -> DiscreteGaussian:
        """std = z * bound, to the nearest integer; bound: of one virtual client, in steps of the grid."""
        check.positive("noise_multiplier", noise_multiplier)
        check.positive("bound", bound)
        check.finite("noise_multiplier * bound", noise_multiplier * bound)
        return cls(std=float(round(noise_multiplier * bound)), entries=entries)

    @property
    def total_variation(self) -> float:
        """At most how far, in total variation, a release is from one with rounded Gaussian noise."""
        return min(1.0, math.sqrt(self.entries) / (12.0 * self.std**2))

    def init(self, like: Params) -> NoiseState:
        """Nothing. Raises: ValueError for more than `entries` numbers."""
        self._count(like)
        return {}

    def release(self, value: Params, state: NoiseState, noise: NoiseSource) -> tuple[Params, NoiseState]:
        """value + noise in int64, drawn on the CPU in the order of the names.

        Raises: ValueError unless value is at most `entries` numbers in int64.
        """
        count = self._count(value)
        for name, exact in value.items():
            if exact.dtype != torch.int64:
                raise ValueError(f"integer noise needs an int64 answer, got {exact.dtype} in {name}: take query=grid")
        drawn, noisy = torch.from_numpy(sample(int(self.std), count, noise)), {}
        for name in sorted(value):
            exact = value[name]
            noisy[name] = exact + drawn[: exact.numel()].reshape(exact.shape).to(exact.device)
            drawn = drawn[exact.numel() :]
        return noisy, state

    def event(self, sensitivity: float) -> Event:
        """A release within `total_variation` of post-processing of a Gaussian one of noise std / sensitivity."""
        check.positive("sensitivity", sensitivity)
        return NearDpEvent(GaussianDpEvent(self.std / sensitivity), total_variation=self.total_variation)

    def _count(self, answer: Params) -> int:
        """How many numbers an answer has."""
        count = sum(value.numel() for value in answer.values())
        if count > self.entries:
            raise ValueError(f"integer noise for at most {self.entries} entries, but the answer has {count}")
        return count
