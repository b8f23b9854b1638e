"""From a noised sum to the next model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from fedemb.core import check
from fedemb.core.optim import Optimizer, Slots
from fedemb.core.params import lerp, split
from fedemb.core.schedule import Constant, Schedule
from fedemb.core.types import Params


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """What the server keeps between rounds.

    params: all global parameters, the frozen ones included.
    slots: the optimizer's memory, for trained names.
    average: exponential moving average of the trained parameters; {} if none is kept.
    updates: how many releases were applied.
    """

    params: Params
    slots: Slots
    average: Params
    updates: int

    def averaged(self) -> Params:
        """All global parameters, with the moving average in place of the trained ones."""
        return {**self.params, **self.average}


class Server(ABC):
    """Applies releases."""

    @abstractmethod
    def init(self, params: Params, trained: Params) -> ServerState:
        """The state before the first release. trained: the parameters, a subset of params, that releases move."""

    @abstractmethod
    def update(self, state: ServerState, release: Params) -> ServerState:
        """The state after one release: the noised sum over clients, trained names only."""


@dataclass(frozen=True, kw_only=True)
class FedOpt(Server):
    """theta <- theta + learning_rate * factor(t) * direction(release / m).

    planned_clients: m, the public denominator: never the realised number of clients.
    ema_decay: of the moving average, 0 for none; early rounds decay faster, by (1 + t) / (10 + t).
    Source: Reddi et al. 2021, Alg. 2, arXiv:2003.00295.
    """

    optimizer: Optimizer
    learning_rate: float
    schedule: Schedule = Constant()
    planned_clients: float
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        check.positive("learning_rate", self.learning_rate)
        check.positive("planned_clients", self.planned_clients)
        check.fraction("ema_decay", self.ema_decay)

    def init(self, params: Params, trained: Params) -> ServerState:
        """Zero memory; the average starts at the start."""
        average = trained if self.ema_decay else {}
        return ServerState(params=params, slots=self.optimizer.init(trained), average=average, updates=0)

    def update(self, state: ServerState, release: Params) -> ServerState:
        """One optimizer step along the mean update."""
        old, frozen = split(state.params, release.__contains__)
        mean = {name: (value / self.planned_clients).to(old[name].dtype) for name, value in release.items()}
        direction, slots = self.optimizer.direction(mean, state.slots)
        rate = self.learning_rate * self.schedule.factor(state.updates)
        new = {name: value + rate * direction[name] for name, value in old.items()}
        decay = min(self.ema_decay, (1 + state.updates) / (10 + state.updates))
        average = lerp(state.average, new, 1.0 - decay)
        return ServerState(params={**frozen, **new}, slots=slots, average=average, updates=state.updates + 1)
