"""Many virtual clients at once: one step for a chunk of them, as many as fit a memory setting.

Shapes: c clients in a chunk, S local steps of the longest of them, B images in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

from fedemb.client.work import ClientState, ClientWork
from fedemb.core import check
from fedemb.core.params import add_to, stack, to
from fedemb.core.types import Batch, Cohort, Diagnostics, Params, VirtualClient
from fedemb.data.batching import pad_steps
from fedemb.execution.capture import Captured, Kernels, over_clients
from fedemb.execution.executor import IDLE, Executor, Load, diagnose, zero_sum
from fedemb.execution.memory import client_bytes
from fedemb.execution.room import Room
from fedemb.privacy.clipping import Clipping

Step: TypeAlias = Callable[[ClientWork, Params, ClientState, Batch], ClientState]
"""(work, shared parameters, one client's state, its batch) -> its next state."""

Chunk: TypeAlias = Sequence[tuple[VirtualClient, Batch]]
"""Virtual clients, each with its batches [S, B, ...]."""

_FASTEST_GIB = {True: 3 / 64, False: 2.0}  # on a CPU; elsewhere


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
    """Clients in chunks, each of whose local steps is one list of kernel calls; short clients rest on masked steps.

    memory_gib: bound, in 2^30 bytes, on what a chunk may hold beside the clients' images; one client runs whatever the
        bound. None: what is fastest, which on a CPU is what its caches hold.
    halvings: how often chunks may be halved for the rest of the run when a GPU's memory runs out. What clients need
        follows their data, and so would the sizes: 0 where one user's data must not move another's update by rounding.
    """

    memory_gib: float | None = None
    halvings: int = 16
    _captured: Captured = field(default_factory=Captured, init=False, repr=False, compare=False)
    _room: Room = field(default_factory=Room, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check.at_least("executor.halvings", self.halvings, 0)
        if self.memory_gib is not None:
            check.positive("memory_gib", self.memory_gib)

    def clipped_sum(
        self, work: ClientWork, clipping: Clipping, shared: Params, cohort: Cohort, load: Load
    ) -> tuple[Params, Diagnostics]:
        """The same sum as `Sequential`, chunk by chunk."""
        total, norms, finals = zero_sum(work, shared, clipping), list[Tensor](), list[ClientState]()

        def clipped(chunk: Chunk) -> tuple[Params, Tensor, ClientState]:
            states = self._train(work, shared, *zip(*chunk, strict=True))
            updates = vmap(work.finish, in_dims=(None, 0))(shared, states)
            updates, lengths = vmap(clipping)(updates)
            return updates, lengths, states._replace(params={}, slots={})

        for chunk in self._chunks(work, shared, cohort, load):
            for updates, lengths, states in self._room.in_parts(chunk, clipped, self.halvings):
                real = min(len(lengths), len(cohort.clients) - len(norms))  # the others fill up: they send nothing
                for slot in range(real):
                    add_to(total, {name: value[slot] for name, value in updates.items()})
                norms += list(lengths[:real])
                finals += [ClientState({}, {}, *scalars) for scalars in list(zip(*states[2:], strict=True))[:real]]
        return total, diagnose(norms, finals)

    def record(self) -> dict[str, Any]:
        """How many clients fit into memory, if chunks were halved."""
        return self._room.record()

    def restore(self, record: Mapping[str, Any]) -> None:
        """Start with as many."""
        self._room.restore(record)

    def _chunks(self, work: ClientWork, shared: Params, cohort: Cohort, load: Load) -> Iterator[Chunk]:
        """Consecutive clients in equal chunks, the last one filled up with clients without users.

        The size follows from the shape of a batch and the number of clients, never from anybody's data: kernels round
        differently for different sizes, and one user's images must not move another client's update by even that.
        """
        device, size, ready = next(iter(shared.values())).device, 0, list[Batch]()
        for position, (client, batches) in enumerate(zip(cohort.clients, load(cohort.clients), strict=True)):
            ready.append(batches)
            if not size:
                size = equal_chunks(len(cohort.clients), self._most(work, shared, client, to(batches, device)))
            if len(ready) == size or position + 1 == len(cohort.clients):
                clients = cohort.clients[position + 1 - len(ready) : position + 1]
                idle = {name: value[:0] for name, value in ready[0].items()}
                yield [*zip(clients, ready, strict=True), *[(IDLE, idle)] * (size - len(ready))]
                ready = []

    def _most(self, work: ClientWork, shared: Params, client: VirtualClient, batches: Batch) -> int:
        """How many clients fit in memory_gib; may be 0."""
        inputs = [*shared.values(), *(value[:0] for value in batches.values())]
        needed = self._captured.get(
            "bytes", work, (*shared, *batches), inputs, lambda: client_bytes(work, shared, client, batches)
        )
        gib = self.memory_gib or _FASTEST_GIB[batches["mask"].device.type == "cpu"]
        return int(gib * 2**30 // needed)

    def _train(
        self, work: ClientWork, shared: Params, clients: Sequence[VirtualClient], batches: Sequence[Batch]
    ) -> ClientState:
        """All local steps of one chunk: states [c, ...]."""
        padded = pad_steps(batches)
        active = padded["mask"].any(dim=2)  # [c, S]: a step needs a real example
        everybody, padded = active.all(dim=0).tolist(), to(padded, next(iter(shared.values())).device)
        states = stack_states([work.begin(shared, client) for client in clients])
        own, structure = tree_flatten(states)
        names, common = (*shared, *states.params, *padded), list(shared.values())
        for index in range(active.shape[1]):
            step = _step if everybody[index] else _step_or_rest
            batch = {name: value[:, index] for name, value in padded.items()}
            inputs = [*common, *own, *batch.values()]

            def capture(step: Step = step, states: ClientState = states, batch: Batch = batch) -> Kernels:
                return over_clients(partial(step, work), shared, states, batch, spent=1)

            own = self._captured.get(step.__name__, work, names, inputs, capture)(*inputs)
        trained: ClientState = tree_unflatten(own, structure)
        return trained


def _step(work: ClientWork, shared: Params, state: ClientState, batch: Batch) -> ClientState:
    """A step of a client that has examples for it."""
    return work.step(shared, state, batch)


def _step_or_rest(work: ClientWork, shared: Params, state: ClientState, batch: Batch) -> ClientState:
    """A step, or none if the batch is padding alone."""
    return select(batch["mask"].any(), work.step(shared, state, batch), state)
