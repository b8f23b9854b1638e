"""Many virtual clients at once: one step for a chunk of them, as many as fit into memory.

Shapes: c clients in a chunk, S local steps of the longest of them, B images in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

from fedemb.client.work import ClientState, ClientWork
from fedemb.core import check
from fedemb.core.params import stack, to
from fedemb.core.types import Batch, Cohort, Diagnostics, Params, VirtualClient
from fedemb.data.batching import pad_steps
from fedemb.execution.capture import Captured, over_clients
from fedemb.execution.chunks import equal_chunks, longest_first, widths
from fedemb.execution.executor import IDLE, Executor, Load, diagnose, zero_sum
from fedemb.execution.launch import Kernels, Launch, Plain
from fedemb.execution.memory import client_bytes
from fedemb.execution.place import Place, place_of
from fedemb.execution.room import Room
from fedemb.privacy.clipping import Clipping

Step: TypeAlias = Callable[[ClientWork, Params, ClientState, Batch], ClientState]
"""(work, shared parameters, one client's state, its batch) -> its next state."""

Chunk: TypeAlias = Sequence[tuple[VirtualClient, Batch]]
"""Virtual clients, each with its batches [S, B, ...]."""


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


@dataclass(frozen=True, kw_only=True)
class Vectorised(Executor):
    """Clients in chunks, each of whose local steps is one list of kernel calls; short clients rest on masked steps.

    memory_gib: bound, in 2^30 bytes, on what a chunk may hold beside the clients' images; one client runs whatever the
        bound. None: on a CPU what its caches hold, which is fastest; on a GPU half of what is free before the first
        round.
    halvings: how often chunks may be halved for the rest of the run when a GPU's memory runs out. What clients need
        follows their data, and so would the sizes: 0 where one user's data must not move another's update by rounding.
    kernels: how the kernels of a step are run.
    examples: how many examples a virtual client trains on, or any number that grows with its steps. Clients are worked
        through by it, the longest first, so that few steps are masked; sums come out with other rounding and all else
        as without. Who works beside whom and by which kernels follows it: None where it is private and must not move
        others by rounding.
    place: the way to the device of the parameters.
    """

    memory_gib: float | None = None
    halvings: int = 16
    kernels: Launch = Plain()
    examples: Callable[[VirtualClient], int] | None = None
    place: Callable[[torch.device], Place] = place_of
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
        device, order = next(iter(shared.values())).device, self._order(cohort)
        self.kernels.check(device)
        gib = self.memory_gib or self._room.gib(self.place(device).gib)  # before anything private is there
        ordered = replace(cohort, clients=tuple(cohort.clients[position] for position in order))
        total, norms, finals = zero_sum(work, shared, clipping), list[Tensor](), list[ClientState]()

        def add(chunk: Chunk) -> tuple[Tensor, ClientState]:  # all of them, or none if memory runs out
            states = self._train(work, shared, *zip(*chunk, strict=True))
            updates = vmap(work.finish, in_dims=(None, 0))(shared, states)
            real = len(cohort.clients) - len(norms)  # the others fill up: they send nothing
            ends = ClientState({}, {}, *(value[:real].clone() for value in states[2:]))
            return clipping.add_to(total, {name: value[:real] for name, value in updates.items()}), ends

        for chunk in self._chunks(work, shared, ordered, load, gib):
            for lengths, states in self._room.in_parts(chunk, add, self.halvings, self._captured.forget):
                norms += lengths
                finals += [ClientState({}, {}, *scalars) for scalars in zip(*states[2:], strict=True)]
        back = sorted(range(len(order)), key=order.__getitem__)
        return total, diagnose([norms[place] for place in back], [finals[place] for place in back])

    def close(self) -> None:
        """Give back what was captured."""
        self._captured.forget()

    def record(self) -> dict[str, Any]:
        """How many clients fit into memory, if chunks were halved."""
        return self._room.record()

    def restore(self, record: Mapping[str, Any]) -> None:
        """Start with as many."""
        self._room.restore(record)

    def _order(self, cohort: Cohort) -> list[int]:
        """Positions in the cohort, as they are worked through."""
        if self.examples is None:
            return list(range(len(cohort.clients)))
        return longest_first([self.examples(client) for client in cohort.clients])

    def _chunks(self, work: ClientWork, shared: Params, cohort: Cohort, load: Load, gib: float) -> Iterator[Chunk]:
        """Consecutive clients in equal chunks, the last one filled up with clients without users.

        The size follows from the shape of a batch and the number of clients, never from anybody's data: kernels round
        differently for different sizes, and one user's images must not move another client's update by even that.
        """
        size, ready = 0, list[Batch]()
        for position, (client, batches) in enumerate(zip(cohort.clients, load(cohort.clients), strict=True)):
            ready.append(batches)
            if not size:
                size = equal_chunks(len(cohort.clients), self._most(work, shared, client, batches, gib))
            if len(ready) == size or position + 1 == len(cohort.clients):
                clients = cohort.clients[position + 1 - len(ready) : position + 1]
                idle = {name: value[:0] for name, value in ready[0].items()}
                yield [*zip(clients, ready, strict=True), *[(IDLE, idle)] * (size - len(ready))]
                ready = []

    def _most(self, work: ClientWork, shared: Params, client: VirtualClient, batches: Batch, gib: float) -> int:
        """How many clients fit into so much memory; may be 0."""
        shapes = to({name: value[:0] for name, value in batches.items()}, next(iter(shared.values())).device)
        inputs = [*shared.values(), *shapes.values()]
        needed = self._captured.get(
            "bytes", work, (*shared, *batches), inputs, lambda: client_bytes(work, shared, client, shapes)
        )
        return int(gib * 2**30 // needed)

    def _train(
        self, work: ClientWork, shared: Params, clients: Sequence[VirtualClient], batches: Sequence[Batch]
    ) -> ClientState:
        """All local steps of one chunk: states [c, ...]. Clients that have none left are left out where that is few."""
        place, padded = self.place(next(iter(shared.values())).device), pad_steps(batches)
        active = padded["mask"].any(dim=2)  # [c, S]: a step needs a real example
        states = stack_states([work.begin(shared, client) for client in clients])
        own, structure = tree_flatten(states)
        names, common, done = (*shared, *states.params, *padded), list(shared.values()), list[list[Tensor]]()
        for index, width in enumerate(self._widths(active)):
            if width < len(own[-1]):
                done.append([value[width:].clone() for value in own])  # results are good until the next call
                own = [value[:width] for value in own]
            step = _step if self.examples is not None and bool(active[:width, index].all()) else _step_or_rest
            batch = place.bring({name: value[:width, index] for name, value in padded.items()})
            inputs = [*common, *own, *batch.values()]

            def capture(step: Step = step, own: list[Tensor] = own, batch: Batch = batch) -> Kernels:
                each = tree_unflatten(own, structure)
                return over_clients(partial(step, work), shared, each, batch, launch=self.kernels, spent=1)

            own = self._captured.get(step.__name__, work, names, inputs, capture)(*inputs)
        if done:
            own = [torch.cat(parts) for parts in zip(own, *reversed(done), strict=True)]
        trained: ClientState = tree_unflatten(own, structure)
        return trained

    def _widths(self, active_cS: Tensor) -> list[int]:
        """How many clients each step is done for: all, unless the work may follow their sizes."""
        clients, steps = active_cS.shape
        return [clients] * steps if self.examples is None else widths(active_cS)


def _step(work: ClientWork, shared: Params, state: ClientState, batch: Batch) -> ClientState:
    """A step of a client that has examples for it."""
    return work.step(shared, state, batch)


def _step_or_rest(work: ClientWork, shared: Params, state: ClientState, batch: Batch) -> ClientState:
    """A step, or none if the batch is padding alone."""
    return select(batch["mask"].any(), work.step(shared, state, batch), state)
