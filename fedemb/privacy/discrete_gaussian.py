"""The discrete Gaussian on the integers, P(y) ~ exp(-y^2 / (2 sigma^2)), sampled exactly: no floating point anywhere.

Sources: Canonne, Kamath and Steinke 2020 (arXiv:2004.00010) for the distribution and for coins of probability exp(-x)
from fair ones; Karney 2016 (arXiv:1303.6257) for the split of |y| in whole and broken multiples of sigma.
The time that a draw takes depends on the randomness: whoever can time single draws learns something about the noise.
Shapes: n draws at a time; the trials of a run are repeated coins, of which only those that still matter are tossed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fedemb.core.random_integers import uniform_below
from fedemb.core.rng import NoiseSource, Words

Counts: TypeAlias = npt.NDArray[np.int64]
Coins: TypeAlias = npt.NDArray[np.bool_]
Trial: TypeAlias = Callable[[Counts, int], Coins]
"""(positions [a] of the runs that go on, number of the trial from 1) -> success [a]."""

_MOST = np.iinfo(np.int64).max
_CHUNK = 2**17  # proposals at a time: bounds the memory and fits the cache


def sample(sigma: int, count: int, source: NoiseSource) -> Counts:
    """`count` independent draws, int64 [count].

    Args: sigma: 1 .. 2^56. Draws beyond 2^63 would wrap around; they have probability below exp(-2^13).
    """
    parts, missing = [np.zeros(0, dtype=np.int64)], count
    while missing:
        part = _accepted(sigma, min(2 * missing + 16, _CHUNK), source)[:missing]
        parts.append(part)
        missing -= part.size
    return np.concatenate(parts)


def coins_of_exp(numerators: tuple[Words, ...], sigma: int, divisor: int, count: int, source: NoiseSource) -> Coins:
    """`count` independent coins, true with probability exp(-x) for x = prod_j(numerators[j] / sigma) / divisor.

    A run of trials of probability x / 1, x / 2, x / 3, ... has at least j successes with probability x^j / j!, and
    so an even number of them with probability 1 - x + x^2/2 - ... = exp(-x) (von Neumann 1951; Forsythe 1972).
    Args: numerators: each [n], at most sigma; divisor: at least 1.
    """

    def trial(running: Counts, number: int) -> Coins:
        success: Coins = uniform_below(divisor * number, running.size, source) == 0
        for numerator in numerators:
            success &= uniform_below(sigma, running.size, source) < numerator[running]
        return success

    even: Coins = _successes(trial, np.full(count, _MOST)) % 2 == 0
    return even


def _successes(trial: Trial, limits: Counts) -> Counts:
    """How many trials of each run succeed before the first that fails, or before its limit [n] is reached."""
    lengths, number = np.zeros_like(limits), 0
    running = np.flatnonzero(limits > 0)
    while running.size:
        number += 1
        running = running[trial(running, number)]
        lengths[running] = number
        running = running[limits[running] > number]
    return lengths


def _accepted(sigma: int, count: int, source: NoiseSource) -> Counts:
    """Draws [a] from `count` proposals, of which about half are accepted.

    With |y| = k sigma + u and 0 <= u < sigma, exp(-y^2 / (2 sigma^2)) is the product of exp(-k/2), from which k is
    proposed, exp(-k(k-1)/2), exp(-u/sigma)^k and exp(-(u/sigma)^2/2), with which k and u are accepted. A sign is
    fair, and one of the two signs of zero is refused.
    """

    def plain(divisor: int) -> Trial:
        return lambda running, _: coins_of_exp((), sigma, divisor, running.size, source)

    def all_succeed(trial: Trial, times: Counts) -> Coins:
        succeed: Coins = _successes(trial, times) == times
        return succeed

    k = _successes(plain(2), np.full(count, _MOST))
    k = k[all_succeed(plain(1), k * (k - 1) // 2)]
    u = uniform_below(sigma, k.size, source)
    steep = all_succeed(lambda running, _: coins_of_exp((u[running],), sigma, 1, running.size, source), k)
    k, u = k[steep], u[steep]
    bell = coins_of_exp((u, u), sigma, 2, u.size, source)
    magnitude: Counts = k[bell] * sigma + u[bell].astype(np.int64)
    negative = uniform_below(2, magnitude.size, source) == 1
    signed: Counts = np.where(negative, -magnitude, magnitude)
    kept: Counts = signed[(magnitude > 0) | ~negative]
    return kept
