"""Local work on one virtual client, as three pure functions that any executor can drive."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor

from fedemb.core.optim import Slots
from fedemb.core.types import Batch, Params, VirtualClient


class ClientState(NamedTuple):
    """One virtual client between two local steps; with a leading axis [m], a chunk of them.

    params: trained parameters, shared and local.
    slots: the local optimizer's memory.
    rate: learning rate [].
    step: local steps done so far [].
    loss: sum of losses over examples [], and examples: how many [].
    """

    params: Params
    slots: Slots
    rate: Tensor
    step: Tensor
    loss: Tensor
    examples: Tensor

    def after(self, params: Params, slots: Slots, loss: Tensor, batch: Batch) -> ClientState:
        """The state behind a step to these parameters, on a batch of this mean loss []."""
        examples = batch["mask"].sum()
        return ClientState(
            params,
            slots,
            self.rate,
            step=self.step + 1,
            loss=self.loss + loss.detach() * examples,
            examples=self.examples + examples,
        )


class ClientWork(ABC):
    """begin, step for each batch, finish."""

    @abstractmethod
    def begin(self, shared: Params, client: VirtualClient) -> ClientState:
        """The state before the first step; the only place that draws randomness."""

    @abstractmethod
    def step(self, shared: Params, state: ClientState, batch: Batch) -> ClientState:
        """One local step on a batch [B, ...] with at least one real example. Pure, and safe under vmap.

        `shared` are the round's global parameters: the same for all clients, so that an executor holds one copy.
        """

    @abstractmethod
    def finish(self, shared: Params, state: ClientState) -> Params:
        """The update, shared names only; zero if no step was taken."""
