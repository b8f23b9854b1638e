"""The five values that make a recipe, and the state that flows through its rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

from fedemb.core import check
from fedemb.core.rng import NoiseSource
from fedemb.data.sampling import CohortSampler
from fedemb.privacy.event_types import PersonDpEvent
from fedemb.privacy.ledger import Ledger
from fedemb.privacy.mechanism import Event, Mechanism, NoiseState
from fedemb.privacy.query import Query, QueryState
from fedemb.server.optimizer import Server, ServerState


@dataclass(frozen=True, kw_only=True)
class RunState:
    """Everything that the next round depends on."""

    round: int
    server: ServerState
    query: QueryState
    noise: NoiseState
    ledger: Ledger


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a round does.

    noise_rng: round -> a fresh source of noise. ids_per_user: j, the most user ids of the data set under which one
        person's images stand; above 1 it is that person whose privacy is priced.
    """

    sampler: CohortSampler
    query: Query
    mechanism: Mechanism
    server: Server
    noise_rng: Callable[[int], NoiseSource]
    ids_per_user: int = 1

    def __post_init__(self) -> None:
        check.at_least("ids_per_user", self.ids_per_user, 1)

    def event(self, round: int) -> Event:
        """What a round costs: sampler, mechanism and query each state their own share."""
        sensitivity = self.query.sensitivity(self.sampler.relation)
        event = self.sampler.event(self.mechanism.event(sensitivity), round)
        return event if self.ids_per_user == 1 else PersonDpEvent(event, self.ids_per_user)

    def events(self, first: int, count: int) -> list[tuple[Event, int]]:
        """What `count` rounds from `first` on cost: runs of equal events with their lengths."""
        costs = map(self.event, range(first, first + count))
        return [(event, sum(1 for _ in equal)) for event, equal in groupby(costs)]
