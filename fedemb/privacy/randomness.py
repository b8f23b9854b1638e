"""Tests of the randomness that a guarantee rests on: cohorts at the stated rate, noise that never repeats.

Each gives a p-value: how likely what was seen, or worse, is if all is as stated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fedemb.core.types import Cohort

Array = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Attendance:
    """Who was in which cohort.

    cohorts: how many there were. users: N. counts: [n] how many seats each of the n users had who had any.
    repeated: seats that went to a user who had another one in the same cohort.
    shortest_gap: the fewest rounds after which a user took part again; None if nobody did.
    """

    cohorts: int
    users: int
    counts: Counts
    repeated: int
    shortest_gap: int | None

    @classmethod
    def of(cls, cohorts: Iterable[Cohort], users: int) -> Attendance:
        """One pass over cohorts of ascending rounds, of `users` users; memory follows the seats, not the users."""
        seated, rounds = [np.zeros(0, np.int64)], list[int]()
        for cohort in cohorts:
            seats = [user for client in cohort.clients for user in client.users]
            seated.append(np.array(seats, dtype=np.int64))
            rounds.append(cohort.round)
        seats_n = np.concatenate(seated)
        rounds_n = np.repeat(np.array(rounds, dtype=np.int64), [len(seats) for seats in seated[1:]])
        order = np.argsort(seats_n, kind="stable")  # a user's rounds stay in order
        returns, gaps = np.diff(seats_n[order]) == 0, np.diff(rounds_n[order])
        return cls(
            cohorts=len(rounds),
            users=users,
            counts=np.unique(seats_n, return_counts=True)[1],
            repeated=int((returns & (gaps == 0)).sum()),
            shortest_gap=min(gaps[returns & (gaps > 0)].tolist(), default=None),
        )

    @property
    def rate(self) -> float:
        """Seats of a user in a cohort, on average."""
        return int(self.counts.sum()) / (self.users * self.cohorts)


def inclusion_p_value(attendance: Attendance, rate: float) -> float:
    """Whether users are drawn at random, at most at the stated rate.

    Looks at the total, at the user who is drawn most, and at how much the users differ: a fixed turn, which is no
    sampling, is too even. rate: the chance of one user.
    """
    counts, cohorts, users = attendance.counts, attendance.cohorts, attendance.users
    total = stats.binom.sf(int(counts.sum()) - 1, users * cohorts, rate)
    most = min(1.0, users * stats.binom.sf(int(counts.max(initial=0)) - 1, cohorts, rate))
    parts = [float(total), float(most)]
    if 0 < attendance.rate < 1 and users > 1:
        parts.append(_evenness(attendance))
    return min(1.0, len(parts) * min(parts))


def largest_correlation(noise: Array) -> float:
    """The largest absolute correlation between the noise of two rounds; 1 where some round has none at all.

    Args: noise: [T, P]: P entries of the noise of T rounds, decorrelated if the mechanism correlates rounds.
    """
    centred = noise - noise.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    if not lengths.all():
        return 1.0
    unit = centred / lengths
    return float(np.abs((unit @ unit.T)[np.triu_indices(len(noise), 1)]).max(initial=0.0))


def reuse_p_value(noise: Array) -> float:
    """Whether the noise [T, P] of some two rounds is correlated beyond chance; 1 for too little to tell."""
    rounds, entries = noise.shape
    if rounds < 2 or entries < 3:
        return 1.0
    largest = largest_correlation(noise)
    if largest >= 1:
        return 0.0
    score = largest * math.sqrt((entries - 2) / (1 - largest**2))
    return float(min(1.0, rounds * (rounds - 1) * stats.t.sf(score, entries - 2)))


def _evenness(attendance: Attendance) -> float:
    """Two-sided p-value of the sum of squared deviations of binomial counts, as a gamma variable of its moments."""
    users, cohorts, counts, rate = attendance.users, attendance.cohorts, attendance.counts, attendance.rate
    variance = cohorts * rate * (1 - rate)
    fourth = variance * (1 + 3 * variance * (1 - 2 / cohorts))
    never = (users - len(counts)) * (cohorts * rate) ** 2
    squares = float(((counts - cohorts * rate) ** 2).sum()) + never
    mean, spread = users * variance, users * (fourth - variance**2)
    if spread <= 0:
        return 1.0
    shape = mean**2 / spread
    below = float(stats.gamma.cdf(squares, shape, scale=mean / shape))
    return 2 * min(below, 1 - below)
