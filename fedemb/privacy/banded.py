"""Correlated noise from a banded Toeplitz matrix, with coefficients that make prefix sums as accurate as they can be.

Root mean square error of the noise on the prefix sums of T = 1000 rounds, at one and the same privacy loss: Z of std
1 times the sensitivity. A user takes part k times, T / k rounds apart; band and rounds in a tree are T / k too.

    k     independent   tree   banded   banded, band of 16
    1            22.4   7.03     3.05                 6.28
    4            44.7   20.4     6.43                 12.6
    10           70.7   34.2     11.6                 19.9
    20            100   61.2     19.2                 28.1
    50            158    113     40.8                 44.4
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.optimize import minimize
from scipy.signal import lfilter

from fedemb.core import check
from fedemb.core.params import scale, zeros_like
from fedemb.core.types import Params
from fedemb.privacy.mechanism import NoiseState
from fedemb.privacy.strategy import Fresh, Strategy

Array = NDArray[np.float64]

_ROUND_OFF = 1e-12
_FIRST_STEP = 10.0  # norm of the start, of which the search's first step is 1


@dataclass(frozen=True, kw_only=True)
class BandedToeplitz(Strategy):
    """C[t, j] = c_{t-j} for 0 <= t - j < b: w_t = (z_t - sum_{i=1}^{b-1} c_i w_{t-i}) / c_0.

    coefficients: c_0 >= c_1 >= ... >= c_{b-1} >= 0 with squares that add up to 1. That they fall keeps the noise
        bounded: the roots of c_0 + c_1 x + ... then lie outside the unit disc (Eneström and Kakeya).
    State: the last b - 1 noises w, in float64.
    Source: Choquette-Choo et al. 2023 (arXiv:2306.08153); Kalinin and Lampert 2024 (arXiv:2405.13763).
    """

    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        for coefficient in self.coefficients:
            check.non_negative("a coefficient", coefficient)
        if not self.coefficients or list(self.coefficients) != sorted(self.coefficients, reverse=True):
            raise ValueError(f"coefficients must be given and must not rise, got {self.coefficients}")
        if abs(math.fsum(c * c for c in self.coefficients) - 1) > _ROUND_OFF:
            raise ValueError(f"the squares of the coefficients must add up to 1, got {self.coefficients}")

    @classmethod
    def of(cls, coefficients: Sequence[float]) -> BandedToeplitz:
        """The same coefficients, not all 0, scaled to a column of norm 1."""
        length = math.hypot(*coefficients)
        check.positive("the norm of the coefficients", length)
        return cls(coefficients=tuple(float(c) / length for c in coefficients))

    @classmethod
    def optimal(cls, *, rounds: int, band: int) -> BandedToeplitz:
        """The coefficients with the least mean squared error over the prefix sums of `rounds` rounds.

        band: b; coefficients at a lag of `rounds` or more would meet no round and are left out. The search starts
            from the square root of the matrix of prefix sums, cut to the band (Henzinger, Upadhyay and Upadhyay
            2023, arXiv:2211.05006), and takes O(rounds * band) time a step, some ten steps.
        """
        check.at_least("rounds", rounds, 1)
        check.at_least("band", band, 1)
        lags = np.arange(1, min(band, rounds))
        root = np.cumprod(np.concatenate([[1.0], 1 - 0.5 / lags]))  # (-1)^k binomial(-1/2, k)
        start = _FIRST_STEP * root / np.linalg.norm(root)
        ceiling = 2 * _mean_error(start, rounds)
        found = minimize(
            _log_error,
            start,
            args=(rounds, ceiling),
            jac=True,
            method="L-BFGS-B",
            options={"ftol": 1e-13, "gtol": 1e-9},
        )
        return cls.of(found.x.tolist())

    @property
    def span(self) -> int:
        """b."""
        return len(self.coefficients)

    @property
    def shortest(self) -> float:
        """All columns are of norm 1."""
        return 1.0

    def init(self, like: Params) -> NoiseState:
        """No noise before round 0."""
        return {f"lag{lag}": zeros_like(like, torch.float64) for lag in range(1, self.span)}

    def noise(self, fresh: Fresh, state: NoiseState) -> tuple[Params, NoiseState]:
        """The next w: fresh noise less what the band takes back of the last b - 1."""
        first, *later = self.coefficients
        noise = scale(fresh(), 1 / first)
        for lag, coefficient in enumerate(later, start=1):
            for name, value in state[f"lag{lag}"].items():
                mine = noise[name]  # on the CPU, where noise is drawn; a state that was saved may come back elsewhere
                mine.sub_(value.to(mine.device), alpha=coefficient / first)  # in place: made above
        past = [noise, *(state[f"lag{lag}"] for lag in range(1, self.span))]
        return noise, {f"lag{lag}": past[lag - 1] for lag in range(1, self.span)}

    def column(self, round: int, rounds: int) -> Array:
        """The coefficients from row `round` on."""
        kept = self.coefficients[: rounds - round]
        return np.concatenate([np.zeros(round), kept, np.zeros(rounds - round - len(kept))])


def squared_errors(coefficients: Array, rounds: int) -> Array:
    """Variance of the noise on each prefix sum [rounds] for a noise Z of std 1: squared row norms of A C^-1.

    A: ones on and below the diagonal. A C^-1 is Toeplitz too, so its first column says it all.
    """
    errors: Array = np.cumsum(_prefix_noise(coefficients, rounds) ** 2)
    return errors


def _prefix_noise(coefficients: Array, rounds: int) -> Array:
    """First column of A C^-1 [rounds]: prefix sums of the power series 1 / (c_0 + c_1 x + ...)."""
    impulse = np.zeros(rounds)
    impulse[0] = 1.0
    prefix: Array = np.cumsum(lfilter([1.0], coefficients, impulse))
    return prefix


def _mean_error(coefficients: Array, rounds: int) -> float:
    """Mean squared error * squared column norm, which does not depend on the scale; inf or nan where it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        prefix = _prefix_noise(coefficients, rounds)
        return float(prefix**2 @ _weights(rounds) * (coefficients @ coefficients))


def _log_error(coefficients: Array, rounds: int, ceiling: float) -> tuple[float, Array]:
    """log of the mean error and its gradient; level at `ceiling`, which no step of a descent accepts.

    With a = first column of A C^-1 and w_i the weights, E = sum_i w_i a_i^2: as a = A / c(x), the derivative of a by
    c_k is -a / c(x), shifted by k.
    """
    error = _mean_error(coefficients, rounds)
    if not error < ceiling:
        return math.log(ceiling), np.zeros_like(coefficients)
    prefix, square = _prefix_noise(coefficients, rounds), coefficients @ coefficients
    quotient = lfilter([1.0], coefficients, prefix)
    length = next_fast_len(2 * rounds)
    by_lag = irfft(rfft(prefix * _weights(rounds), length) * np.conj(rfft(quotient, length)), length)
    gradient: Array = 2 * coefficients / square - 2 * square / error * by_lag[: len(coefficients)]
    return math.log(error), gradient


def _weights(rounds: int) -> Array:
    """The share of the prefix sums that an entry of the first column of A C^-1 is in."""
    weights: Array = 1 - np.arange(rounds) / rounds
    return weights
