"""What all participations of one user cost together, where they are known but far apart.

Row r of C x + Z is charged c_r >= 1 times: a round that crashed is charged again when it is repeated, with fresh noise
and a new answer. Columns of C have norm 1 at most, so a participation in round j adds at most
max {c_r : j <= r < j + span} to the squared sensitivity; span <= separation, so that a user's participations share no
row and add up. The user's rounds are whatever is worst among those at least `separation` apart.
Source: Choquette-Choo et al. 2023 (arXiv:2306.08153), for banded C; with repeated rows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Charges = Mapping[int, int]
"""round -> how often its row was charged."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A kind of rows.

    noise_ratio: s > 0, noise std / l2 sensitivity of one round's answer.
    span, separation: in rounds, span <= separation.
    longest_gap: rounds after which a user takes part again at the latest.
    shortest: norm of the shortest column that is not cut off by the end of the run.
    """

    noise_ratio: float
    span: int
    separation: int
    longest_gap: int
    shortest: float


def precision(run: Mapping[Rows, Charges]) -> float:
    """1 / s^2 of the one Gaussian release that costs a user as much as all rows of a run.

    An answer may enter rows of a later kind too, so every kind is priced over the rounds of all.
    """
    rounds = sorted({round for charges in run.values() for round in charges})
    return sum(
        squared_sensitivity(charges, rounds, span=rows.span, separation=rows.separation) / rows.noise_ratio**2
        for rows, charges in run.items()
    )


def attacked_precision(run: Mapping[Rows, Charges]) -> float:
    """1 / s^2 of a Gaussian release that tells less than the rows of a run do about the users of the first of them."""
    return max(rows.shortest**2 * _certain(charges, rows) / rows.noise_ratio**2 for rows, charges in run.items())


def _certain(charges: Charges, rows: Rows) -> int:
    """How often the users of the first round have taken part, their rows all charged: at least every longest_gap.

    Where rounds are missing in between, nothing but one round is certain.
    """
    first, last = min(charges), max(charges)
    length = last - first + 1
    if len(charges) < length:
        return int(rows.span == 1)
    return (length - rows.span) // rows.longest_gap + 1 if length >= rows.span else 0


def squared_sensitivity(charges: Charges, rounds: Sequence[int], *, span: int, separation: int) -> int:
    """The most that one user's participations add up to, for an answer of sensitivity 1: a whole number.

    Args: charges: at least one. rounds: those with participations, ascending, among them all that are charged.
    """
    best = [0]  # best[i]: within the first i rounds
    for index, cost in enumerate(_costs(charges, rounds, span)):
        before = bisect_right(rounds, rounds[index] - separation, hi=index)
        best.append(max(best[index], cost + best[before]))
    return best[-1]


def _costs(charges: Charges, rounds: Sequence[int], span: int) -> Iterator[int]:
    """For each of `rounds`, the most that a row within its span was charged; 0 without such a row."""
    rows, following = sorted(charges), 0
    window: deque[int] = deque()  # rows ahead, each charged more often than all after it
    for round in rounds:
        while following < len(rows) and rows[following] < round + span:
            while window and charges[window[-1]] <= charges[rows[following]]:
                window.pop()
            window.append(rows[following])
            following += 1
        while window and window[0] < round:
            window.popleft()
        yield charges[window[0]] if window else 0
