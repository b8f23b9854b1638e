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
Spectrum = NDArray[np.complex128]

_FEW = 32  # terms are enough to choose a tilt by
_HALVINGS = 5  # of the slope of a window's bound
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

    def tilted(self, tilt: float) -> tuple[Array, float]:
        """(mass * exp(tilt * value), scaled to a sum of 1; log of that sum before)."""
        exponent = self.log_mass + tilt * self.values
        top = exponent.max()
        weights = np.exp(exponent - top)
        total = weights.sum()
        return np.asarray(weights / total), float(top + np.log(total))


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
    return float(sum(count * lattice.tilted(tilt)[1] for lattice, count in terms))


def mean(terms: Terms, tilt: float) -> float:
    """The mean of the tilted sum."""
    return float(sum(count * float(lattice.tilted(tilt)[0] @ lattice.values) for lattice, count in terms))


def tail_tilt(terms: Terms, log_tail: float) -> float:
    """The tilt of the Chernoff bound for the value beyond which the sum has mass exp(log_tail); any tilt is sound."""
    few = _thinned(terms)
    return _minimise(lambda tilt: (log_mgf(few, tilt) - log_tail) / tilt, few)


def centring_tilt(terms: Terms, value: float) -> float:
    """The positive tilt that brings the mean of the sum closest to `value`; any tilt is sound."""
    few = _thinned(terms)
    return _minimise(lambda tilt: log_mgf(few, tilt) - tilt * value, few)


def _thinned(terms: Terms) -> Terms:
    """At most _FEW terms that stand for all, to choose a tilt by: of each run of terms alike, the widest."""
    if len(terms) <= _FEW:
        return terms
    ordered = sorted(terms, key=lambda term: _width(term[0]))
    runs = [ordered[i * len(terms) // _FEW : (i + 1) * len(terms) // _FEW] for i in range(_FEW)]
    return [(run[-1][0], sum(count for _, count in run)) for run in runs]


def _width(lattice: Lattice) -> float:
    """The second moment."""
    return float(np.exp(lattice.log_mass) @ lattice.values**2)


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
    tilted = [lattice.tilted(tilt) for lattice, _ in terms]
    masses = [mass for mass, _ in tilted]
    log_scale = float(sum(count * scale for (_, count), (_, scale) in zip(terms, tilted, strict=True)))
    first, last = _window(terms, tilt, masses, log_scale)
    size = next_fast_len(last - first + 1, real=True)
    if size > max_points:
        raise WindowTooLarge(f"a window of {size} lattice points is above the limit of {max_points}")
    spectrum = np.ones(size // 2 + 1, dtype=np.complex128)
    for (lattice, count), mass in zip(terms, masses, strict=True):
        folded = np.bincount((lattice.first + np.arange(len(mass))) % size, weights=mass, minlength=size)
        spectrum *= _power(rfft(folded), count)
    rounds = sum(count for _, count in terms)
    transform_error = 8 * _UNIT * np.log2(size + 1) * np.sqrt(size) * (rounds + 1)
    return TiltedSum(
        tilted=np.roll(irfft(spectrum, size), -(first % size)),
        first=first,
        tilt=tilt,
        log_scale=log_scale,
        error=float(transform_error + 4 * np.exp(-_LOG_TAIL)),
    )


def _power(base: Spectrum, exponent: int) -> Spectrum:
    """base ** exponent for exponent >= 1, by squaring: several times as fast as a complex power."""
    result = np.ones_like(base)
    while exponent > 1:
        if exponent % 2:
            result *= base
        base, exponent = base * base, exponent // 2
    return result * base


def _window(terms: Terms, tilt: float, masses: Sequence[Array], log_scale: float) -> tuple[int, int]:
    """First and last value between which the tilted sum has all but 2 exp(-_LOG_TAIL) of its mass (Chernoff)."""
    variance = 0.0
    for (lattice, count), mass in zip(terms, masses, strict=True):
        centre = float(mass @ lattice.values)
        variance += count * float(mass @ (lattice.values - centre) ** 2)
    guess = float(np.sqrt(2 * _LOG_TAIL / (variance + 1e-6)))

    def bound(slope: float) -> float:
        return (log_mgf(terms, tilt + slope) - log_scale + _LOG_TAIL) / abs(slope)

    last = _least_by_halving(bound, 2 * guess)
    first = -_least_by_halving(bound, -2 * guess)
    return int(np.floor(first)), int(np.ceil(last))


def _least_by_halving(bound: Callable[[float], float], slope: float) -> float:
    """The least of a bound with one minimum over slope, slope / 2, slope / 4, ...; any slope is sound."""
    best, value = np.inf, bound(slope)
    for _ in range(_HALVINGS):
        if value >= best:
            break
        slope, best, value = slope / 2, value, bound(slope / 2)
    return min(best, value)
