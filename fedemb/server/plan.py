"""The five values that make a recipe, and the state that flows through its rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from fedemb.core.rng import NoiseSource
from fedemb.data.sampling import CohortSampler
from fedemb.privacy.ledger import Ledger
from fedemb.privacy.mechanism import Event, Mechanism, NoiseState
from fedemb.privacy.query import Query
from fedemb.server.optimizer import Server, ServerState


@dataclass(frozen=True, kw_only=True)
class RunState:
    """Everything that the next round depends on."""

    round: int
    server: ServerState
    noise: NoiseState
    ledger: Ledger


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a round does. noise_rng: round -> a fresh source of noise."""

    sampler: CohortSampler
    query: Query
    mechanism: Mechanism
    server: Server
    noise_rng: Callable[[int], NoiseSource]

    @cached_property
    def round_event(self) -> Event:
        """What one round costs: sampler, mechanism and query each state their own share."""
        sensitivity = self.query.sensitivity(self.sampler.relation)
        return self.sampler.event(self.mechanism.event(sensitivity))
