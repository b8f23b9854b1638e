"""What is learnt: parameters, which of them leave the client, and the loss."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from fedemb.core.types import Batch, Params


class Task(ABC):
    """A learning problem. Pure: all randomness comes in as seeds."""

    @abstractmethod
    def init(self, seed: int) -> Params:
        """Global parameters, kept by the server."""

    @abstractmethod
    def is_shared(self, name: str) -> bool:
        """Is this parameter trained on clients and sent back? Global parameters that are not stay as they are."""

    @abstractmethod
    def init_local(self, seed: int) -> Params:
        """Fresh parameters that never leave the client (the paper's partial aggregation); {} if none."""

    @abstractmethod
    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Masked mean loss [] at global and local parameters; 0 for a batch of padding."""
