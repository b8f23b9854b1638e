"""Who takes part in a round: cohorts of virtual clients, each a pure function of the round.

A sampler states its own share of the privacy event and the neighbouring relation that this share is analysed under.
N users in the data set, M of them in a round, k in a virtual client, m = M / k virtual clients.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from dp_accounting import DpEvent, NeighboringRelation, PoissonSampledDpEvent, SampledWithoutReplacementDpEvent

from fedemb.core import check
from fedemb.core.rng import generator
from fedemb.core.types import Cohort, UserId, VirtualClient

_SEED_BITS = 63


class CohortSampler(ABC):
    """Draws the cohort of any round without replaying the rounds before it."""

    @property
    @abstractmethod
    def scheme(self) -> str:
        """The sampling in words, for a report."""

    @property
    @abstractmethod
    def relation(self) -> NeighboringRelation:
        """The only neighbouring relation that this sampling is analysed under."""

    @property
    @abstractmethod
    def planned_clients(self) -> float:
        """The public denominator of the mean update: never the realised number of clients."""

    @abstractmethod
    def cohort(self, round: int) -> Cohort:
        """The virtual clients of a round >= 0: the same every time it is asked for, whatever the data hold."""

    @abstractmethod
    def event(self, release: DpEvent, round: int) -> DpEvent:
        """The privacy event of a round.

        release: the mechanism's event for a cohort that is known, e.g. GaussianDpEvent(s) with s = noise std
            divided by the l2 sensitivity under `relation`.
        """


@dataclass(frozen=True, kw_only=True)
class FixedSizeSampler(CohortSampler):
    """Exactly M users a round, drawn uniformly without replacement and cut into m groups of k.

    The drawn users stand in uniformly random order, so the groups are a uniformly random partition that depends on
    nothing but `seed` and the round. A round costs O(M) time and memory for any N.

    Source: Xu et al. 2023, Alg. 1, arXiv:2211.10844.
    """

    num_users: int
    users_per_round: int
    users_per_client: int = 1
    seed: int

    def __post_init__(self) -> None:
        check.at_least("num_users", self.num_users, 1)
        check.at_least("users_per_round", self.users_per_round, 1)
        check.at_least("users_per_client", self.users_per_client, 1)
        check_at_most_all(self.users_per_round, self.num_users)
        check_divides(self.users_per_client, self.users_per_round)

    @property
    def scheme(self) -> str:
        """Fixed-size sampling without replacement."""
        return "fixed-size sampling without replacement"

    @property
    def relation(self) -> NeighboringRelation:
        """Substitute-one: the number of users is public."""
        return NeighboringRelation.REPLACE_ONE

    @property
    def planned_clients(self) -> int:
        """m = M / k."""
        return self.users_per_round // self.users_per_client

    def cohort(self, round: int) -> Cohort:
        """The m virtual clients of a round."""
        check.at_least("round", round, 0)
        users = _draw(generator(self.seed, "cohort", round), self.num_users, self.users_per_round)
        return grouped(self.seed, round, users, self.users_per_client)

    def event(self, release: DpEvent, round: int) -> DpEvent:
        """M of N users without replacement: the rate is M/N, not m/N."""
        return SampledWithoutReplacementDpEvent(
            source_dataset_size=self.num_users, sample_size=self.users_per_round, event=release
        )


@dataclass(frozen=True, kw_only=True)
class PoissonSampler(CohortSampler):
    """Each user takes part with probability q = users_per_round / N, independently; one user is one client.

    users_per_round: the expected number q N > 0; it need not be whole. A cohort may be empty.
    A round costs O(q N) expected time and memory: the size is Binomial(N, q) and, given the size, all sets of users
    are equally likely, which is the same distribution as N separate coins.
    """

    num_users: int
    users_per_round: float
    users_per_client: int = 1
    seed: int

    def __post_init__(self) -> None:
        check.at_least("num_users", self.num_users, 1)
        check.positive("users_per_round", self.users_per_round)
        check.at_least("users_per_client", self.users_per_client, 1)
        check_at_most_all(self.users_per_round, self.num_users)
        if self.users_per_client > 1:
            raise ValueError(
                f"Poisson sampling takes users_per_client=1, got users_per_client={self.users_per_client}: one user "
                "more or less would shift every later group, so many clients would change at once; take sampler=fixed"
            )

    @classmethod
    def from_probability(cls, *, num_users: int, sampling_probability: float, seed: int) -> PoissonSampler:
        """The sampler for a given q in (0, 1]."""
        return cls(num_users=num_users, users_per_round=sampling_probability * num_users, seed=seed)

    @property
    def sampling_probability(self) -> float:
        """q in (0, 1]."""
        return self.users_per_round / self.num_users

    @property
    def scheme(self) -> str:
        """Poisson sampling of single users."""
        return "Poisson sampling of single users"

    @property
    def relation(self) -> NeighboringRelation:
        """Substitute-one: the number of users is public."""
        return NeighboringRelation.REPLACE_ONE

    @property
    def planned_clients(self) -> float:
        """Q N, the expected number of clients."""
        return self.users_per_round

    def cohort(self, round: int) -> Cohort:
        """The virtual clients of a round, one user each; possibly none."""
        check.at_least("round", round, 0)
        rng = generator(self.seed, "cohort", round)
        count = int(rng.binomial(self.num_users, self.sampling_probability))
        return grouped(self.seed, round, _draw(rng, self.num_users, count), 1)

    def event(self, release: DpEvent, round: int) -> DpEvent:
        """Poisson sampling with probability q."""
        return PoissonSampledDpEvent(sampling_probability=self.sampling_probability, event=release)


def _draw(rng: np.random.Generator, population: int, size: int) -> list[UserId]:
    """`size` of 0 .. population-1, uniform without replacement and in uniformly random order.

    NumPy takes Floyd's algorithm, or a partial shuffle if population <= 50 size: O(size) time and memory either way.
    """
    chosen: list[UserId] = rng.choice(population, size, replace=False, shuffle=True).tolist()
    return chosen


def grouped(seed: int, round: int, users: list[UserId], users_per_client: int) -> Cohort:
    """Consecutive groups of users, each with a seed that depends on its slot only."""
    slots = range(0, len(users), users_per_client)
    seeds = generator(seed, "client seeds", round).integers(2**_SEED_BITS, size=len(slots), dtype=np.uint64)
    clients = (
        VirtualClient(round=round, seed=client_seed, users=tuple(users[first : first + users_per_client]))
        for first, client_seed in zip(slots, seeds.tolist(), strict=True)
    )
    return Cohort(round=round, clients=tuple(clients))


def check_divides(users_per_client: int, users_per_round: int) -> None:
    """Require that k divides M."""
    if users_per_round % users_per_client:
        raise ValueError(
            f"users_per_client must divide users_per_round, got users_per_client={users_per_client} "
            f"users_per_round={users_per_round}: take a multiple of {users_per_client} users a round"
        )


def check_at_most_all(users_per_round: float, num_users: int) -> None:
    """Require M <= N."""
    if users_per_round > num_users:
        raise ValueError(
            f"users_per_round must be at most the number of users, got users_per_round={users_per_round} "
            f"num_users={num_users}: sample fewer users a round"
        )
