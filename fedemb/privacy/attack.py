"""A lower bound on epsilon: what one concrete attack on one concrete pair of neighbours achieves.

The substituted user's update and everybody else's in its slot are fixed at distance 2C in every round. The attacker
adds up each round's loss, rounded to a grid, and rejects when the sum reaches a threshold. The masses under both
neighbours are those of the rounded sum itself, so the bound holds on any grid; the optimal test of Neyman and Pearson
is the limit of fine ones. Both orders of the pair are tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fedemb.privacy.lattice import Lattice, Terms, TiltedSum, WindowTooLarge, centring_tilt, mean, tail_tilt, tilted_sum
from fedemb.privacy.pairs import Round
from fedemb.privacy.pld import loss_reaches

Array = NDArray[np.float64]

_MAX_POINTS = 1 << 22
_COARSE_LOSS = 0.05  # grids up to this step are fine enough to choose the tilts
_ROUND_OFF = 1e-9  # of epsilon: sums of logarithms over up to _MAX_POINTS masses


def attack_epsilon(rounds: Sequence[tuple[Round, int]], delta: float, step: float) -> float:
    """The epsilon >= 0 that the attack proves at `delta`, for rounds with counts; `step` is the grid of the losses."""
    reaches = loss_reaches(rounds, delta)
    coarser = max(step, min(8 * step, _COARSE_LOSS))
    coarse = [best_tilts(*order, delta, coarser) for order in attack_orders(rounds, coarser, reaches)]
    while True:
        try:
            orders = zip(attack_orders(rounds, step, reaches), coarse, strict=True)
            return max(
                0.0, *(proven_epsilon(*order, delta, tilts[0] * step, tilts[1] * step) for order, tilts in orders)
            )
        except WindowTooLarge:
            step *= 4


def attack_orders(
    rounds: Sequence[tuple[Round, int]], step: float, reaches: Sequence[float]
) -> Iterator[tuple[Terms, Terms]]:
    """The rounded losses under (first, second) neighbour, and with the two swapped; each is cut at its round's reach.

    A loss above a reach counts as that reach: what the attacker adds up is any function of what a round shows.
    """
    counts = [count for _, count in rounds]
    sizes = [max(int(np.ceil(reach / step)), 1) for reach in reaches]
    masses = [
        round_.attack_log_masses((np.arange(-size, size, dtype=np.float64) + 0.5) * step)
        for (round_, _), size in zip(rounds, sizes, strict=True)
    ]
    for first, second, direction in ((0, 1, 1), (1, 0, -1)):
        one = [Lattice(log_mass=pair[first][::direction], first=-(len(pair[0]) // 2)) for pair in masses]
        other = [Lattice(log_mass=pair[second][::direction], first=-(len(pair[0]) // 2)) for pair in masses]
        yield list(zip(one, counts, strict=True)), list(zip(other, counts, strict=True))


def best_tilts(rejected: Terms, accepted: Terms, delta: float, step: float) -> tuple[float, float]:
    """Tilts per unit of loss that bring both sums to the best threshold; any are sound, so a coarse grid will do."""
    rough = tail_tilt(rejected, np.log(delta))
    tilt = tail_tilt(rejected, min(np.log(delta) + np.log1p(rough / step), 0.0))  # P[reject] there is above delta
    return tilt / step, centring_tilt(accepted, mean(rejected, tilt)) / step


def proven_epsilon(rejected: Terms, accepted: Terms, delta: float, rejected_tilt: float, accepted_tilt: float) -> float:
    """max over thresholds of log((P[reject] - delta) / Q[reject]), each probability on its safe side."""
    first = tilted_sum(rejected, rejected_tilt, _MAX_POINTS)
    second = tilted_sum(accepted, accepted_tilt, _MAX_POINTS)
    begin = max(first.first, second.first)
    end = min(first.first + len(first.tilted), second.first + len(second.tilted))
    if begin >= end:
        return 0.0
    (tail, error), (other, other_error) = _log_tail(first, begin, end), _log_tail(second, begin, end)
    lost = np.logaddexp(error, np.log(delta))
    useful = tail > lost
    if not useful.any():
        return 0.0
    gain = tail[useful] + np.log(-np.expm1(lost[useful] - tail[useful]))
    return float(np.max(gain - np.logaddexp(other, other_error)[useful])) - _ROUND_OFF


def _log_tail(total: TiltedSum, begin: int, end: int) -> tuple[Array, Array]:
    """log P[sum >= value] for the values begin .. end - 1, and log of its error: transform, window and wrap-around."""
    values = total.first + np.arange(len(total.tilted), dtype=np.float64)
    with np.errstate(divide="ignore"):
        log_tilted = np.log(np.maximum(total.tilted, 0))
    log_weight = total.log_scale - total.tilt * values
    tail = np.logaddexp.accumulate((log_tilted + log_weight)[::-1])[::-1]
    wanted = slice(begin - total.first, end - total.first)
    return tail[wanted], np.log(total.error) + log_weight[wanted]
