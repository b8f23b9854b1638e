"""A certified upper bound on epsilon for any list of rounds: privacy loss distributions on a grid, composed by FFT.

Each round's profile is replaced by the chords between grid points (it is convex in e^epsilon, so chords lie above it),
which is the profile of a discrete loss. The discrete losses are added up exactly but for errors that are
bounded and charged. Coarser grids are looser, never unsound; the grid is refined until it no longer matters.
Source: connect-the-dots, Doroshenko, Ghazi, Kamath, Kumar and Manurangsi 2022 (arXiv:2207.04380); adaptive composition
of dominating pairs, Zhu, Dong and Wang 2022 (arXiv:2106.08567).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from fedemb.privacy.lattice import Lattice, Terms, TiltedSum, WindowTooLarge, tail_tilt, tilted_sum
from fedemb.privacy.pairs import Round

Array = NDArray[np.float64]

_CUT_SHARE = 1e-6  # of delta: the losses beyond the grid, charged as certain failure
_ROUND_OFF_SHARE = 1e-6  # of delta: relative rounding of masses and exponents, T * 1e-13 for T rounds
_START_POINTS = 128  # grid points over one round's losses before the first refinement
_REFINE = 4
_TOLERANCE = 1e-3  # relative gain of the last refinement; what is left is between a third and a fifteenth of it
_MAX_POINTS = 1 << 21
_MAX_EXPONENT = 600.0


@dataclass(frozen=True, kw_only=True)
class Certified:
    """An upper bound on epsilon and the grid step that gave it."""

    epsilon: float
    step: float


def certified_epsilon(rounds: Sequence[tuple[Round, int]], delta: float) -> Certified:
    """The least certified epsilon >= 0 at `delta` for rounds with counts, in any order, chosen adaptively.

    Args: rounds: distinct, at least one, each with noise and with a count >= 1. delta: in (0, 1).
    """
    reach = loss_reach(rounds, delta)
    step = reach / _START_POINTS
    at_zero = sum(count * float(np.exp(round_.log_delta(np.zeros(1))[0])) for round_, count in rounds)
    if at_zero <= delta:
        return Certified(epsilon=0.0, step=step)
    best = Certified(epsilon=np.inf, step=step)
    log_delta = np.log(delta * (1 - _CUT_SHARE - _ROUND_OFF_SHARE))
    rate = None  # tilt per unit of loss; that of the last, coarser grid serves as well and costs less
    while True:
        terms = [(discretise(round_, reach, step), count) for round_, count in rounds]
        tilt = tail_tilt(terms, log_delta) if rate is None else rate * step
        try:
            epsilon = _solve(terms, tilt, log_delta, step)
        except WindowTooLarge:
            if np.isfinite(best.epsilon):
                return best
            step *= _REFINE
            continue
        gain = best.epsilon - epsilon
        best = Certified(epsilon=min(epsilon, best.epsilon), step=step)
        if gain <= _TOLERANCE * best.epsilon:
            return best
        rate = tail_tilt(terms, log_delta) / step
        step /= _REFINE


def loss_reach(rounds: Sequence[tuple[Round, int]], delta: float) -> float:
    """A loss that all rounds together exceed with at most a millionth of `delta`."""
    log_cut = np.log(delta * _CUT_SHARE / sum(count for _, count in rounds))
    high = 1e-12
    while any(round_.log_delta(np.array([high]))[0] > log_cut for round_, _ in rounds):
        high *= 1.25
    return high


def discretise(round_: Round, reach: float, step: float) -> Lattice:
    """The pessimistic loss of one round on the grid {k step}, |k| <= ceil(reach / step), without its mass at infinity.

    Chord slopes are made to fall monotonically by raising them, so that rounding can only add mass. The loss
    is symmetric: the mass at -k is exp(-k step) times the mass at k.
    """
    size = max(int(np.ceil(reach / step)), 1)
    k = np.arange(size + 1, dtype=np.float64)
    log_delta = round_.log_delta(k * step)
    with np.errstate(divide="ignore"):
        fall = log_delta[:-1] + np.log(np.maximum(-np.expm1(log_delta[1:] - log_delta[:-1]), 0))
        log_slope = fall - np.log(-np.expm1(-step)) - k[1:] * step
        log_slope = np.maximum.accumulate(log_slope[::-1])[::-1]
        change = -np.expm1(np.append(log_slope[1:], -np.inf) - log_slope)
        positive = log_slope + k[1:] * step + np.log(change)
        centre = 1 - np.exp(positive).sum() - np.exp(positive - k[1:] * step).sum() - np.exp(log_delta[-1])
        middle = np.log(max(centre, 0.0))
    return Lattice(log_mass=np.concatenate([(positive - k[1:] * step)[::-1], [middle], positive]), first=-size)


def _solve(terms: Terms, tilt: float, log_delta: float, step: float) -> float:
    """The least epsilon >= 0 at which the composed discrete loss has a profile of at most exp(log_delta).

    Between grid points the profile of a discrete loss is linear in e^epsilon.
    """
    ratio, first = _profile_ratio(tilted_sum(terms, tilt, _MAX_POINTS), log_delta, step)
    above = np.flatnonzero(ratio > 1)
    if len(above) == 0 or above[-1] + 1 == len(ratio):
        return max((first + len(ratio) * (len(above) > 0)) * step, 0.0)
    last = int(above[-1])
    share = (ratio[last] - 1) / (ratio[last] - ratio[last + 1])
    with np.errstate(divide="ignore"):
        rise = np.logaddexp(np.log1p(-share), np.log(share) + step)  # log(1 + share (e^step - 1)) for any step
    return max((first + last) * step + float(rise), 0.0)


def _profile_ratio(total: TiltedSum, log_delta: float, step: float) -> tuple[Array, int]:
    """profile / delta at the grid points first, first + 1, ..., as an upper bound: (ratio [n], first).

    With m(k) the mass at loss k h, profile(j h) = sum over k > j of m(k) (1 - e^(-(k-j) h)), written as
    (1 - e^-h) times the sum over i >= j of G(i), where G(i) = sum over k > i of m(k) e^(-(k-i-1) h): no subtraction.
    """
    centre = (total.log_scale - log_delta) / total.tilt  # Chernoff's own epsilon, where the weight is 1
    values = total.first + np.arange(len(total.tilted), dtype=np.float64)
    keep = total.tilt * (centre - values) < _MAX_EXPONENT
    values, tilted = values[keep], np.maximum(total.tilted[keep], 0)
    weight = np.exp(total.tilt * (centre - values))
    later = np.append((tilted * weight)[1:], 0.0)[::-1]
    discounted = lfilter([1.0], [1.0, -np.exp(-step)], later)
    profile = -np.expm1(-step) * np.cumsum(discounted)[::-1]
    return profile + total.error * weight, int(values[0])
