"""Many virtual clients at once: one vmapped step for a chunk of them, as many as fit a memory setting.

Shapes: c clients in a chunk, S local steps of the longest of them, B images in a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap

from fedemb.client.work import ClientState, ClientWork
from fedemb.core import check
from fedemb.core.params import add, stack, to
from fedemb.core.types import Batch, Cohort, Diagnostics, Params, VirtualClient
from fedemb.data.batching import pad_steps
from fedemb.execution.executor import IDLE, Executor, Load, diagnose, zero_sum
from fedemb.execution.memory import client_bytes
from fedemb.privacy.clipping import Clipping


def stack_states(states: Sequence[ClientState]) -> ClientState:
    """c states to one with a leading axis [c]."""
    slots = {name: stack([state.slots[name] for state in states]) for name in states[0].slots}
    scalars = (torch.stack(list(values)) for values in zip(*(state[2:] for state in states), strict=True))
    return ClientState(stack([state.params for state in states]), slots, *scalars)


def select(active: Tensor, new: ClientState, old: ClientState) -> ClientState:
    """new where active [] is true, else old: a step on padding alone changes nothing."""

    def pick(left: Params, right: Params) -> Params:
        return {name: torch.where(active, value, right[name]) for name, value in left.items()}

    slots = {name: pick(value, old.slots[name]) for name, value in new.slots.items()}
    scalars = (torch.where(active, left, right) for left, right in zip(new[2:], old[2:], strict=True))
    return ClientState(pick(new.params, old.params), slots, *scalars)


def equal_chunks(clients: int, most: int) -> int:
    """The size of the fewest equal chunks of at most `most` (and at least one) that hold all clients."""
    chunks = -(-clients // max(most, 1))
    return -(-clients // chunks)


@dataclass(frozen=True, kw_only=True)
class Vectorised(Executor):
    """Clients in chunks under vmap; ragged clients are padded with masked steps.

    memory_gib: bound, in 2^30 bytes, on what one step of a chunk may hold beside the clients' images; one client runs
        whatever the bound.
    """

    memory_gib: float = 2.0

    def __post_init__(self) -> None:
        check.positive("memory_gib", self.memory_gib)

    def clipped_sum(
        self, work: ClientWork, clipping: Clipping, shared: Params, cohort: Cohort, load: Load
    ) -> tuple[Params, Diagnostics]:
        """The same sum as `Sequential`, chunk by chunk."""
        total, norms, finals = zero_sum(work, shared, clipping), list[Tensor](), list[ClientState]()
        for clients, batches in self._chunks(work, shared, cohort, load):
            states = self._train(work, shared, clients, batches)
            updates = vmap(work.finish, in_dims=(None, 0))(shared, states)
            clipped, lengths = vmap(clipping)(updates)
            total = add(total, {name: value.sum(0) for name, value in clipped.items()})
            norms += list(lengths)
            finals += [ClientState({}, {}, *scalars) for scalars in zip(*states[2:], strict=True)]
        real = len(cohort.clients)
        return total, diagnose(norms[:real], finals[:real])

    def _chunks(
        self, work: ClientWork, shared: Params, cohort: Cohort, load: Load
    ) -> Iterator[tuple[Sequence[VirtualClient], list[Batch]]]:
        """Consecutive clients in equal chunks, the last one filled up with clients without users.

        The size follows from the shape of a batch and the number of clients, never from anybody's data: kernels round
        differently for different sizes, and one user's images must not move another client's update by even that.
        """
        device, size, ready = next(iter(shared.values())).device, 0, list[Batch]()
        for position, (client, batches) in enumerate(zip(cohort.clients, load(cohort.clients), strict=True)):
            ready.append(to(batches, device))
            if not size:
                needed = client_bytes(work, shared, client, ready[0])
                size = equal_chunks(len(cohort.clients), int(self.memory_gib * 2**30 // needed))
            if len(ready) == size or position + 1 == len(cohort.clients):
                clients = cohort.clients[position + 1 - len(ready) : position + 1]
                idle = {name: value[:0] for name, value in ready[0].items()}
                missing = size - len(ready)
                yield [*clients, *[IDLE] * missing], [*ready, *[idle] * missing]
                ready = []

    def _train(
        self, work: ClientWork, shared: Params, clients: Sequence[VirtualClient], batches: Sequence[Batch]
    ) -> ClientState:
        """All local steps of one chunk: states [c, ...]."""

        def step(shared: Params, state: ClientState, batch: Batch) -> ClientState:
            return select(batch["mask"].any(), work.step(shared, state, batch), state)

        padded = pad_steps(batches)
        states = stack_states([work.begin(shared, client) for client in clients])
        for index in range(padded["mask"].shape[1]):
            batch = {name: value[:, index] for name, value in padded.items()}
            states = vmap(step, in_dims=(None, 0, 0))(shared, states, batch)
        return states
