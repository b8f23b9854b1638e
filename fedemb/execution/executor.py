"""How the virtual clients of a cohort are worked through. `Sequential` is the reference that all others equal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from fedemb.client.work import ClientState, ClientWork
from fedemb.core.params import to, zeros_like
from fedemb.core.types import Batch, Cohort, Diagnostics, Params, VirtualClient
from fedemb.privacy.clipping import Clipping

Load = Callable[[Sequence[VirtualClient]], Iterator[Batch]]
"""The virtual clients to work through -> the batches [S, B, ...] of each in turn, on the CPU; S may be 0."""

IDLE = VirtualClient(round=0, seed=0, users=())
"""A client that has nobody and sends zero."""


class Executor(ABC):
    """Runs the work of a cohort on the device that the parameters are on; to be closed.

    follows_the_clock: does the way to the sum, and so its rounding, follow the time that work takes?
    """

    follows_the_clock: ClassVar[bool] = False

    @property
    def leaves_no_trace(self) -> bool:
        """Do cohorts, sums and diagnostics stay in memory that ends with the run?"""
        return True

    @abstractmethod
    def clipped_sum(
        self, work: ClientWork, clipping: Clipping, shared: Params, cohort: Cohort, load: Load
    ) -> tuple[Params, Diagnostics]:
        """The sum over virtual clients of clipped updates, in their dtype, and exact diagnostics.

        A client without examples, or with a non-finite update, adds zero and keeps its slot. Zero clients sum to zero.
        """

    def record(self) -> dict[str, Any]:
        """What it has found out and works by from now on, as JSON values; empty by default."""
        return {}

    def restore(self, record: Mapping[str, Any]) -> None:
        """Work by what an executor with the same settings found out, in another process."""
        return

    def close(self) -> None:
        """Let go of what it has started; nothing by default."""
        return


class TooLargeError(ValueError):
    """Virtual clients do not fit into the device's memory: what, and how to mend it."""


def refuse_following_the_clock(key: str, executor: Executor) -> None:
    """Raise ValueError for an executor within another that could not go on with its choice after a resume."""
    if executor.follows_the_clock:
        raise ValueError(
            f"{key}: {type(executor).__name__} cannot work within another executor, as its choice would not outlive "
            f"the process: take {key}=sequential or {key}=vectorised"
        )


def zero_sum(work: ClientWork, shared: Params, clipping: Clipping) -> Params:
    """A zero for every name of a clipped update: what a client without users sends."""
    clipped, _ = clipping(work.finish(shared, work.begin(shared, IDLE)))
    return zeros_like(clipped)


def diagnose(norms: list[torch.Tensor], finals: list[ClientState]) -> Diagnostics:
    """Diagnostics from every client's norm [] and final state."""
    losses = [state.loss / state.examples for state in finals]
    return Diagnostics(
        norms=torch.stack(norms).cpu() if norms else torch.zeros(0),
        losses=torch.stack(losses).cpu() if losses else torch.zeros(0),
        examples=torch.stack([state.examples for state in finals]).cpu() if finals else torch.zeros(0),
    )


@dataclass(frozen=True, kw_only=True)
class Sequential(Executor):
    """One virtual client after the other."""

    def clipped_sum(
        self, work: ClientWork, clipping: Clipping, shared: Params, cohort: Cohort, load: Load
    ) -> tuple[Params, Diagnostics]:
        """The loop of the paper's Algorithm 1, lines for the clients."""
        total, device = zero_sum(work, shared, clipping), next(iter(shared.values())).device
        norms, finals = list[torch.Tensor](), list[ClientState]()
        for client, batches in zip(cohort.clients, load(cohort.clients), strict=True):
            trained = batches["mask"].any(dim=1).nonzero().flatten().tolist()  # a step needs a real example
            batches, state = to(batches, device), work.begin(shared, client)
            for step in trained:
                state = work.step(shared, state, {name: value[step] for name, value in batches.items()})
            update = work.finish(shared, state)
            norms += clipping.add_to(total, {name: value[None] for name, value in update.items()})
            finals.append(state._replace(params={}, slots={}))
        return total, diagnose(norms, finals)
