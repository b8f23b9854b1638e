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

from fedemb.privacy.lattice import Lattice, Terms, TiltedSum, WindowTooLarge, centring_tilt, tail_tilt, tilted_sum
from fedemb.privacy.pairs import Round

Array = NDArray[np.float64]

_CUT_SHARE = 1e-6  # of delta: the losses beyond the grid, charged as certain failure
_SPLIT_CUT_SHARE = 1e-4  # the same where rounds are split; a shorter grid is a finer one
_SECOND_JUMP_SHARE = 1e-4  # of delta: several jumps, and negligible ones, charged as certain failure
_ROUND_OFF_SHARE = 1e-6  # of delta: relative rounding of masses and exponents, T * 1e-13 for T rounds
_START_POINTS = 128  # grid points over one round's losses before the first refinement
_LEAST_STEPS = 32  # of the grid below epsilon, for the gain of a refinement to say what is left
_REFINE = 4
_TOLERANCE = 1e-3  # relative gain of the last refinement; what is left is between a third and a fifteenth of it
_MAX_POINTS = 1 << 21
_MAX_ALL_POINTS = 1 << 22  # of all rounds' losses together
_REACHES = 1e-12 * 1.25 ** np.arange(400.0)  # up to 1e26, above any loss of a round with s >= 1e-6
_MAX_SPLIT = 8  # distinct rounds; each has its own sum with one jump
_RECENTRE = 2  # times per grid; more gained nothing
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
    at_zero = sum(count * float(np.exp(round_.log_delta(np.zeros(1))[0])) for round_, count in rounds)
    if at_zero <= delta:
        return Certified(epsilon=0.0, step=loss_reach(rounds, delta) / _START_POINTS)
    whole, blurred = _refined(rounds, delta, split=False)
    if not blurred:
        return whole
    divided, _ = _refined(rounds, delta, split=True, start=whole.epsilon)
    return divided if divided.epsilon < whole.epsilon else whole


def _refined(
    rounds: Sequence[tuple[Round, int]], delta: float, *, split: bool, start: float = np.inf
) -> tuple[Certified, bool]:
    """(the bound on ever finer grids until it no longer falls, whether it was given up for the split one).

    start: a bound that is known already; where the tilts of Chernoff's bound blur a split sum, those that suit the
    best bound so far are tried as well. Every tilt gives a bound, so the least is one.
    """
    share = _SPLIT_CUT_SHARE if split else _CUT_SHARE
    reaches = loss_reaches(rounds, delta, share)
    reach = max(reaches)
    step = reach / _START_POINTS
    if split:  # whose terms lie on the same integers
        reaches = [reach] * len(rounds)
    best = Certified(epsilon=np.inf, step=step)
    rates: list[float] = []  # tilts per unit of loss; those of the last, coarser grid serve as well and cost less
    share += _ROUND_OFF_SHARE + _SECOND_JUMP_SHARE * split
    log_delta = np.log(delta * (1 - share))
    while True:
        terms = [(discretise(round_, own, step), count) for (round_, count), own in zip(rounds, reaches, strict=True)]
        parts = split_once(terms, np.sqrt(_SECOND_JUMP_SHARE * delta)) if split else [terms]
        if len(rates) != len(parts):
            rates = [tail_tilt(part, log_delta) / step for part in parts]
        try:
            epsilon, blur = _solve(_sums(parts, rates, step), log_delta, step)
            for _ in range(_RECENTRE if split else 0):
                if blur <= _TOLERANCE:
                    break
                rates = [centring_tilt(part, min(start, best.epsilon, epsilon) / step) / step for part in parts]
                again, blur = _solve(_sums(parts, rates, step), log_delta, step)
                epsilon = min(epsilon, again)
        except WindowTooLarge:
            if np.isfinite(best.epsilon):
                return best, False
            step *= _REFINE
            continue
        gain = best.epsilon - epsilon
        best = Certified(epsilon=min(epsilon, best.epsilon), step=step)
        if blur > _TOLERANCE and not split and len(rounds) <= _MAX_SPLIT:
            return best, True
        converged = gain <= _TOLERANCE * best.epsilon and epsilon >= _LEAST_STEPS * step
        largest = _REFINE * max(reach / _MAX_POINTS, sum(reaches) / _MAX_ALL_POINTS) * 2
        if converged or epsilon == 0 or step < largest:
            return best, False
        rates = [tail_tilt(part, log_delta) / step for part in parts]
        step /= _REFINE


def _sums(parts: Sequence[Terms], rates: Sequence[float], step: float) -> list[TiltedSum]:
    return [tilted_sum(part, rate * step, _MAX_POINTS) for part, rate in zip(parts, rates, strict=True)]


def loss_reach(rounds: Sequence[tuple[Round, int]], delta: float, share: float = _CUT_SHARE) -> float:
    """A loss that all rounds together exceed with at most `share` of `delta`."""
    return max(loss_reaches(rounds, delta, share))


def loss_reaches(rounds: Sequence[tuple[Round, int]], delta: float, share: float = _CUT_SHARE) -> list[float]:
    """A loss for each round, so that any round exceeds its own with at most `share` of `delta`, all together."""
    log_cut = np.log(delta * share / sum(count for _, count in rounds))
    beyond = [round_.log_delta(_REACHES) <= log_cut for round_, _ in rounds]
    return [float(_REACHES[np.argmax(is_beyond)]) for is_beyond in beyond]


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


def split_once(terms: Terms, limit: float) -> list[Terms]:
    """The sum as measures that add up to it, but for mass of at most `limit`^2: [no jump, one of a term, ...].

    A jump is a loss above a threshold that all terms together exceed with mass at most `limit`, so that two or
    more jumps have mass limit^2 / 2; terms whose jumps have less mass than that together lose them.

    Where one rare, huge loss makes up the tail, no tilt suits both it and the many small losses, and the transform's
    error, which is relative to all the tilted mass, drowns the answer. Each part alone is easy: without jumps the
    tail is light; with one the mass is small from the start, and so is its error.

    Args: terms: on the same integers, with masses of at most 1.
    """
    tail = np.sum([count * np.exp(lattice.log_mass[::-1]).cumsum()[::-1] for lattice, count in terms], axis=0)
    cut = int(np.argmax(np.append(tail, 0.0) <= limit))
    kept = [lattice.between(0, cut) for lattice, _ in terms]
    counts = [count for _, count in terms]
    parts: list[Terms] = [list(zip(kept, counts, strict=True))]
    for i, (lattice, count) in enumerate(terms):
        jump = lattice.between(cut, len(tail))
        jump = Lattice(log_mass=jump.log_mass + np.log(count), first=jump.first)
        if np.exp(jump.log_mass).sum() > limit**2 / 2 / len(terms):
            rest = [(other, times - (i == j)) for j, (other, times) in enumerate(parts[0]) if times > (i == j)]
            parts.append([*rest, (jump, 1)])
    return parts


def _solve(sums: Sequence[TiltedSum], log_delta: float, step: float) -> tuple[float, float]:
    """The least epsilon >= 0 at which the discrete losses together have a profile of at most exp(log_delta).

    Between grid points the profile of a discrete loss is linear in e^epsilon.
    Returns: (epsilon, share of delta that the sums' errors take there).
    """
    first = min(total.first for total in sums)
    end = max(total.first + len(total.tilted) for total in sums) + 1
    both = [_profile_ratio(total, log_delta, step, first, end) for total in sums]
    ratio, blur = np.sum([profile for profile, _ in both], axis=0), np.sum([error for _, error in both], axis=0)
    ratio += blur
    above = np.flatnonzero(ratio > 1)
    if len(above) == 0:
        return max(first * step, 0.0), float(blur[0])
    last = int(above[-1])
    if last + 1 == len(ratio):  # the errors alone exceed delta; Chernoff's bound, an equal share for each sum, holds
        chernoff = max((total.log_scale - log_delta + np.log(len(sums))) / total.tilt for total in sums)
        return max(chernoff * step, 0.0), float(blur[last])
    share = (ratio[last] - 1) / (ratio[last] - ratio[last + 1])
    with np.errstate(divide="ignore"):
        rise = np.logaddexp(np.log1p(-share), np.log(share) + step)  # log(1 + share (e^step - 1)) for any step
    return max((first + last) * step + float(rise), 0.0), float(blur[last])


def _profile_ratio(total: TiltedSum, log_delta: float, step: float, first: int, end: int) -> tuple[Array, Array]:
    """profile / delta at the grid points `first` to `end` - 1 and a bound on its error: each [end - first].

    With m(k) the mass at loss k h, profile(j h) = sum over k > j of m(k) (1 - e^(-(k-j) h)), written as
    (1 - e^-h) times the sum over i >= j of G(i), where G(i) = sum over k > i of m(k) e^(-(k-i-1) h): no subtraction.
    What lies outside the sum's window, on either side, is part of its error, and above j has at most the weight of j.
    `first` to `end` covers the window.
    """
    values = np.arange(first, end, dtype=np.float64)
    weight = np.exp(np.minimum(total.log_scale - log_delta - total.tilt * values, _MAX_EXPONENT))
    masses = np.zeros(len(values))
    masses[total.first - first :][: len(total.tilted)] = np.maximum(total.tilted, 0)
    later = np.append((masses * weight)[1:], 0.0)[::-1]
    discounted = lfilter([1.0], [1.0, -np.exp(-step)], later)
    return -np.expm1(-step) * np.cumsum(discounted)[::-1], total.error * weight
