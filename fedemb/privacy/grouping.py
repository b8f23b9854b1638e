"""Many rounds of different settings as few: groups that are certified as their worst and attacked as their mildest.

No round of a group can reveal more than the group's worst case, and none less than its mildest, so both ends of the
interval stay what they are, bounds. How the rounds are grouped decides only how far apart the two are: groups are cut
where Renyi differential privacy says that a cut saves most, so that groups of rounds that cost much are narrow, and
groups of rounds that cost next to nothing are wide.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp, xlog1py

from fedemb.privacy.pairs import Round

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Group = list[tuple[Round, int]]
"""Rounds with counts; those of a group are of one kind."""

FEW_ROUNDS = 32
"""So many distinct rounds are priced one by one."""
MOST_GROUPS = 512

_TOLERANCE = 3e-3  # of what the rounds cost together; half of it, or less, is of epsilon
_CUTS = 64  # places tried for a cut
_ROUND_UP = 1 + 1e-14
_ORDERS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)


def grouped(rounds: Sequence[tuple[Round, int]], delta: float) -> list[Group]:
    """The rounds in groups of one kind each, at most MOST_GROUPS, ordered by what their rounds cost.

    The certified epsilon of the worst cases is some 0.1 to 0.3 % above that of the rounds themselves; up to 1 % where
    sampling rate and noise both vary tenfold, independently of each other. Up to FEW_ROUNDS rounds stay alone.
    """
    if len(rounds) <= FEW_ROUNDS:
        return [[item] for item in rounds]
    cost = _Cost.of(rounds, delta)
    tables = [_Table.of([item for item in rounds if type(item[0]) is kind], cost) for kind in _kinds(rounds)]
    total = sum(float(table.count @ table.costs) for table in tables)
    queue = [(-table.excess(table.everyone), i, table, table.everyone) for i, table in enumerate(tables)]
    heapq.heapify(queue)
    number, wasted = len(queue), -sum(entry[0] for entry in queue)
    while wasted > _TOLERANCE * total and len(queue) < MOST_GROUPS:
        negative, _, table, members = heapq.heappop(queue)
        wasted += negative
        for part in table.cut(members):
            excess, number = table.excess(part), number + 1
            wasted += excess
            heapq.heappush(queue, (-excess, number, table, part))
    queue.sort(key=lambda entry: float(entry[2].costs[entry[3]].max()))
    return [[table.rounds[i] for i in members] for _, _, table, members in queue]


def worst_case(group: Group) -> tuple[Round, int]:
    """A round that reveals no less than any of the group, as often as they happened together; see `Round.severity`."""
    kind, noise_ratio = type(group[0][0]), min(round_.noise_ratio for round_, _ in group)
    severity = max(round_.severity for round_, _ in group)
    rate = float(kind.rate_at(np.array(severity), np.array(1 / noise_ratio))) * _ROUND_UP
    worst = kind(sampling_rate=min(rate, 1.0), noise_ratio=noise_ratio)
    return (worst if len(group) > 1 else group[0][0]), _count(group)


def mildest_case(group: Group) -> tuple[Round, int]:
    """A round whose concrete pair reveals no more than that of any of the group, as often as they happened together.

    By post-processing: whoever sees a round can replace what was seen by fresh noise, with some chance, and add noise.
    That turns its pair into the pair of a round with any smaller sampling rate and any larger noise.
    """
    rate = min(round_.sampling_rate for round_, _ in group)
    mildest = type(group[0][0])(sampling_rate=rate, noise_ratio=max(round_.noise_ratio for round_, _ in group))
    return mildest, _count(group)


@dataclass(frozen=True, kw_only=True)
class _Cost:
    """What a round costs, as a share of all: an estimate that says where to cut.

    By the Renyi divergence of one order, where the slot's other content is at one update and where it is half way.
    order: where Renyi differential privacy gives the least epsilon. whole, half: both divergences of all rounds.
    """

    order: int
    whole: float
    half: float

    @classmethod
    def of(cls, rounds: Sequence[tuple[Round, int]], delta: float) -> _Cost:
        """That of these rounds."""
        rate, mu, count = _columns(rounds)

        def total(order: int, mu: Array) -> float:
            return float(count @ _renyi(rate, mu, order))

        order = min(_ORDERS, key=lambda order: total(order, mu) - np.log(delta) / (order - 1))
        return cls(order=order, whole=total(order, mu), half=total(order, mu / 2))

    def __call__(self, rate: Array, mu: Array) -> Array:
        """For each of the rounds with these q [n] and these mu = 1 / s [n]."""
        return _renyi(rate, mu, self.order) / self.whole + _renyi(rate, mu / 2, self.order) / self.half


@dataclass(frozen=True, kw_only=True)
class _Table:
    """Rounds of one kind as columns, one entry a round.

    severity, mu: the two coordinates in which no smaller is no better for the user; mu = 1 / s.
    count: how often. costs: what each costs, once.
    """

    rounds: Group
    severity: Array
    mu: Array
    count: Array
    costs: Array
    cost: _Cost

    @classmethod
    def of(cls, rounds: Group, cost: _Cost) -> _Table:
        """The columns."""
        rate, mu, count = _columns(rounds)
        severity = np.array([round_.severity for round_, _ in rounds])
        return cls(rounds=rounds, severity=severity, mu=mu, count=count, costs=cost(rate, mu), cost=cost)

    @property
    def everyone(self) -> Indices:
        """All rounds."""
        return np.arange(len(self.rounds))

    def excess(self, members: Indices) -> float:
        """What is lost if the members are all priced as the worst of them."""
        worst = self._worst_costs(self.severity[members].max(keepdims=True), self.mu[members].max(keepdims=True))
        lost = float(self.count[members].sum() * worst[0] - self.count[members] @ self.costs[members])
        return lost if len(members) > 1 else 0.0

    def cut(self, members: Indices) -> tuple[Indices, Indices]:
        """Two parts, apart in one coordinate, that lose least together."""
        options = [self._best_cut(members[np.argsort(column[members])]) for column in (self.severity, self.mu)]
        _, place, ordered = min(options, key=lambda option: option[0])
        return ordered[:place], ordered[place:]

    def _best_cut(self, members: Indices) -> tuple[float, int, Indices]:
        """(what is lost up to a constant, where the members are cut, the members as given)."""
        places = np.unique(np.linspace(1, len(members) - 1, min(len(members) - 1, _CUTS)).astype(np.intp))
        count, columns = self.count[members].cumsum(), (self.severity[members], self.mu[members])
        left = self._worst_costs(*(np.maximum.accumulate(column)[places - 1] for column in columns))
        right = self._worst_costs(*(np.maximum.accumulate(column[::-1])[::-1][places] for column in columns))
        lost = count[places - 1] * left + (count[-1] - count[places - 1]) * right
        best = int(np.argmin(lost))
        return float(lost[best]), int(places[best]), members

    def _worst_costs(self, severity: Array, mu: Array) -> Array:
        """The costs of rounds at these coordinates."""
        return self.cost(type(self.rounds[0][0]).rate_at(severity, mu), mu)


def _kinds(rounds: Sequence[tuple[Round, int]]) -> list[type[Round]]:
    return list(dict.fromkeys(type(round_) for round_, _ in rounds))


def _count(group: Group) -> int:
    return sum(count for _, count in group)


def _columns(rounds: Sequence[tuple[Round, int]]) -> tuple[Array, Array, Array]:
    """(q, mu = 1 / s, count) of each."""
    rate = np.array([round_.sampling_rate for round_, _ in rounds])
    mu = np.array([1 / round_.noise_ratio for round_, _ in rounds])
    return rate, mu, np.array([count for _, count in rounds], dtype=np.float64)


def _renyi(rate: Array, mu: Array, order: int) -> Array:
    """The Renyi divergence of (1 - q) N(0) + q N(mu) from N(0), of a whole order; at arrays [n] of q and mu.

    Source: the binomial sum of Mironov, Talwar and Zhang 2019 (arXiv:1908.10530).
    """
    k = np.arange(order + 1)
    ways = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
    chance = xlog1py(order - k, -rate[:, None]) + k * np.log(rate)[:, None]
    return np.asarray(logsumexp(ways + chance + mu[:, None] ** 2 * (k * k - k) / 2, axis=1) / (order - 1))
