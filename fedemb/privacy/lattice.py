"""Sums of many independent lattice variables, exact in relative terms far out in the upper tail.

A Fourier transform computes all masses of a sum with one absolute error, which drowns a tail of 1e-12. Here the
variables are first tilted (mass times exp(tilt * value)) so that the tail becomes the centre. All quantities are
in lattice steps; only the callers know how large a step is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.optimize import minimize_scalar

Array = NDArray[np.float64]

_LOG_TAIL = 32.0  # the tilted mass outside a window is below exp(-32) = 1.3e-14 on each side
_UNIT = float(np.finfo(np.float64).eps)


class WindowTooLarge(ValueError):
    """The sum is too wide for its grid: a coarser one is needed."""


@dataclass(frozen=True, kw_only=True)
class Lattice:
    """A finite measure on the integers: log_mass[i] is the log of the mass at first + i (-inf where there is none)."""

    log_mass: Array
    first: int

    @property
    def values(self) -> Array:
        """The integers that carry mass, as floats [n]."""
        return self.first + np.arange(len(self.log_mass), dtype=np.float64)

    def between(self, begin: int, end: int) -> Lattice:
        """The part in places begin to end - 1 of log_mass, at the same values."""
        return Lattice(log_mass=self.log_mass[begin:end], first=self.first + begin)

    def tilted(self, tilt: float) -> Array:
        """mass * exp(tilt * value), scaled to a sum of 1."""
        return np.asarray(np.exp(self.log_mass + tilt * self.values - self.log_mgf(tilt)))

    def log_mgf(self, tilt: float) -> float:
        """log of the sum of mass * exp(tilt * value)."""
        exponent = self.log_mass + tilt * self.values
        top = exponent.max()
        return float(top + np.log(np.exp(exponent - top).sum()))


@dataclass(frozen=True, kw_only=True)
class TiltedSum:
    """The masses of a sum in a window.

    The mass at value first + i is tilted[i] * exp(log_scale - tilt * (first + i)). The tilted masses of any set of
    values, summed, are off by at most `error` (transform, truncation and wrap-around together).
    """

    tilted: Array
    first: int
    tilt: float
    log_scale: float
    error: float


Terms = Sequence[tuple[Lattice, int]]
"""Independent lattice variables and how often each is added."""


def log_mgf(terms: Terms, tilt: float) -> float:
    """log of the moment generating function of the sum."""
    return float(sum(count * lattice.log_mgf(tilt) for lattice, count in terms))


def mean(terms: Terms, tilt: float) -> float:
    """The mean of the tilted sum."""
    return float(sum(count * float(lattice.tilted(tilt) @ lattice.values) for lattice, count in terms))


def tail_tilt(terms: Terms, log_tail: float) -> float:
    """The tilt of the Chernoff bound for the value beyond which the sum has mass exp(log_tail); any tilt is sound."""
    return _minimise(lambda tilt: (log_mgf(terms, tilt) - log_tail) / tilt, terms)


def centring_tilt(terms: Terms, value: float) -> float:
    """The positive tilt that brings the mean of the sum closest to `value`; any tilt is sound."""
    return _minimise(lambda tilt: log_mgf(terms, tilt) - tilt * value, terms)


def _minimise(bound: Callable[[float], float], terms: Terms) -> float:
    """Where a bound with one minimum over positive tilts is least, to 2 %."""
    reach = sum(count * (abs(lattice.first) + len(lattice.log_mass)) for lattice, count in terms)
    found = minimize_scalar(
        lambda log_tilt: bound(float(np.exp(log_tilt))),
        bounds=(np.log(1e-2 / reach), np.log(1e3)),
        method="bounded",
        options={"xatol": 0.02},
    )
    return float(np.exp(found.x))


def tilted_sum(terms: Terms, tilt: float, max_points: int) -> TiltedSum:
    """The distribution of the sum around its tilted centre.

    Raises: WindowTooLarge where it would hold more than `max_points` values.
    """
    log_scale = log_mgf(terms, tilt)
    first, last = _window(terms, tilt, log_scale)
    size = next_fast_len(last - first + 1, real=True)
    if size > max_points:
        raise WindowTooLarge(f"a window of {size} lattice points is above the limit of {max_points}")
    spectrum = np.ones(size // 2 + 1, dtype=np.complex128)
    for lattice, count in terms:
        tilted = lattice.tilted(tilt)
        start = lattice.first % size
        folded = np.bincount((start + np.arange(len(tilted))) % size, weights=tilted, minlength=size)
        spectrum *= rfft(folded) ** count
    masses = np.roll(irfft(spectrum, size), -(first % size))
    rounds = sum(count for _, count in terms)
    transform_error = 8 * _UNIT * np.log2(size + 1) * np.sqrt(size) * (rounds + 1)
    error = float(transform_error + 4 * np.exp(-_LOG_TAIL))
    return TiltedSum(tilted=masses, first=first, tilt=tilt, log_scale=log_scale, error=error)


def _window(terms: Terms, tilt: float, log_scale: float) -> tuple[int, int]:
    """First and last value between which the tilted sum has all but 2 exp(-_LOG_TAIL) of its mass (Chernoff)."""
    variance = 0.0
    for lattice, count in terms:
        tilted = lattice.tilted(tilt)
        centre = float(tilted @ lattice.values)
        variance += count * float(tilted @ (lattice.values - centre) ** 2)
    guess = np.sqrt(2 * _LOG_TAIL / (variance + 1e-6))
    slopes = [guess * 2.0**power for power in range(-4, 2)]
    last = min((log_mgf(terms, tilt + slope) - log_scale + _LOG_TAIL) / slope for slope in slopes)
    first = max(-(log_mgf(terms, tilt - slope) - log_scale + _LOG_TAIL) / slope for slope in slopes)
    return int(np.floor(first)), int(np.ceil(last))
