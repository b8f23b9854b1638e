"""Cohorts that go round all users in one fixed order: everybody takes part again only after everybody else has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from dp_accounting import DpEvent, NeighboringRelation
from numpy.typing import NDArray

from fedemb.core import check
from fedemb.core.rng import generator
from fedemb.core.types import Cohort
from fedemb.data.sampling import CohortSampler, check_at_most_all, check_divides, grouped
from fedemb.privacy.event_types import SeparatedDpEvent

Words = NDArray[np.uint64]

_FEISTEL_ROUNDS = 10


@dataclass(frozen=True, kw_only=True)
class CyclicSampler(CohortSampler):
    """Round t takes the places t M .. t M + M - 1, modulo N, of a pseudo-random order of the N users.

    The rounds of one user are therefore at least floor(N / M) apart. Nothing rests on the order being secret: it is
    `order` that says which, so that a resumed run goes on in it; `seed` shuffles the users of a round into groups.

    order: number of the order, 0 or above, public; the same for all of a run.
    participations: the most rounds that a user takes part in, or None; later rounds are refused.
    """

    num_users: int
    users_per_round: int
    users_per_client: int = 1
    participations: int | None = None
    order: int
    seed: int

    def __post_init__(self) -> None:
        check.at_least("num_users", self.num_users, 1)
        check.at_least("users_per_round", self.users_per_round, 1)
        check.at_least("users_per_client", self.users_per_client, 1)
        check.at_least("order", self.order, 0)
        if self.participations is not None:
            check.at_least("participations", self.participations, 1)
        check_at_most_all(self.users_per_round, self.num_users)
        check_divides(self.users_per_client, self.users_per_round)

    @property
    def scheme(self) -> str:
        """All users in turn."""
        return f"all users in turn, nobody twice within {self.separation} rounds"

    @property
    def relation(self) -> NeighboringRelation:
        """Substitute-one: a user's rounds depend on the place in the order, not on the data."""
        return NeighboringRelation.REPLACE_ONE

    @property
    def planned_clients(self) -> int:
        """m = M / k."""
        return self.users_per_round // self.users_per_client

    @property
    def separation(self) -> int:
        """floor(N / M): nobody takes part twice in so many rounds in a row."""
        return self.num_users // self.users_per_round

    def cohort(self, round: int) -> Cohort:
        """The m virtual clients of a round. Raises: ValueError for a round past the cap."""
        self._check_round(round)
        first = round * self.users_per_round % self.num_users
        places = (first + np.arange(self.users_per_round, dtype=np.uint64)) % np.uint64(self.num_users)
        users = generator(self.seed, "cohort", round).permutation(self._order(places))
        return grouped(self.seed, round, users.tolist(), self.users_per_client)

    def event(self, release: DpEvent, round: int) -> DpEvent:
        """A round of known users. Raises: ValueError for a round past the cap or for noise of too wide a span."""
        self._check_round(round)
        return SeparatedDpEvent(round, self.num_users, self.users_per_round, release)

    @cached_property
    def _order(self) -> Permutation:
        return Permutation(size=self.num_users, seed=self.order)

    def _check_round(self, round: int) -> None:
        check.at_least("round", round, 0)
        if self.participations is not None and round >= self.participations * self.separation:
            raise ValueError(
                f"participations={self.participations} allows rounds=1 .. {self.participations * self.separation}, "
                f"as {self.separation} rounds use up one participation of all users: lower rounds or users_per_round, "
                "or raise participations"
            )


@dataclass(frozen=True, kw_only=True)
class Permutation:
    """A pseudo-random order of 0 .. size - 1, computed place by place: O(1) memory for any size.

    A Feistel network permutes the numbers of 2 w bits, w as small as holds `size`; numbers from `size` on are permuted
    again until they are below (cycle walking). The order is arbitrary, not cryptographic.
    Source: Black and Rogaway 2002, Ciphers with Arbitrary Finite Domains.
    """

    size: int
    seed: int

    def __call__(self, places: Words) -> Words:
        """The number at each place [n]."""
        numbers = self._permuted(places)
        while (beyond := numbers >= np.uint64(self.size)).any():
            numbers[beyond] = self._permuted(numbers[beyond])
        return numbers

    @cached_property
    def _keys(self) -> Words:
        stream = generator(self.seed, "order of users", self.size)
        return stream.integers(2**64, size=_FEISTEL_ROUNDS, dtype=np.uint64)

    def _permuted(self, numbers: Words) -> Words:
        """The network on numbers below 4^w."""
        width = np.uint64(max(1, ((self.size - 1).bit_length() + 1) // 2))
        mask = (np.uint64(1) << width) - np.uint64(1)
        left, right = numbers >> width, numbers & mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right + key) & mask)
        joined: Words = (left << width) | right
        return joined


def _mixed(words: Words) -> Words:
    """Words with every bit depending on every other (the finaliser of SplitMix64, Steele et al. 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
