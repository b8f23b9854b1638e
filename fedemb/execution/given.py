"""Virtual clients that send a given update: their local work is skipped, all that follows is as for any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from fedemb.client.work import ClientState, ClientWork
from fedemb.core.types import Batch, Cohort, Diagnostics, Params, VirtualClient
from fedemb.execution.executor import Executor, Load
from fedemb.privacy.canaries import Canaries
from fedemb.privacy.clipping import Clipping
from fedemb.privacy.query import SumUpdates

Seating = Callable[[Cohort], Sequence[Sequence[int]]]
"""A cohort -> the canaries in each of its virtual clients, in their order; more entries are further clients."""


@dataclass(frozen=True, kw_only=True)
class GivenUpdates(ClientWork):
    """Clients begin where the given update would have led them, and have nothing to train on; others work.

    work: of the others, with an update that is how far the shared parameters have moved.
    given: client -> what makes its update before the clip, when it is needed: one at a time is in memory.
    """

    work: ClientWork
    given: Mapping[VirtualClient, Callable[[], Params]]

    def begin(self, shared: Params, client: VirtualClient) -> ClientState:
        """The state of the work, moved by the given update."""
        state = self.work.begin(shared, client)
        if client not in self.given:
            return state
        moved = {
            name: (state.params[name].double() + update.to(state.params[name].device)).to(state.params[name].dtype)
            for name, update in self.given[client]().items()
        }
        return state._replace(params={**state.params, **moved})

    def step(self, shared: Params, state: ClientState, batch: Batch) -> ClientState:
        """That of the work."""
        return self.work.step(shared, state, batch)

    def finish(self, shared: Params, state: ClientState) -> Params:
        """That of the work."""
        return self.work.finish(shared, state)


def sum_with_canaries(
    executor: Executor,
    work: ClientWork,
    load: Load,
    *,
    no_steps: Batch,
    canaries: Canaries,
    coins: Tensor,
    seating: Seating,
) -> SumUpdates:
    """The executor's own sum, with canaries in the seats of a cohort; the virtual clients without one work.

    no_steps: batches [0, B, ...] of a client that has nothing to train on. coins: [n] of -1 and 1, float64.
    """

    def sum_updates(clipping: Clipping, shared: Params, cohort: Cohort) -> tuple[Params, Diagnostics]:
        seated, seats = _with_seats(cohort, seating(cohort))
        given = {
            client: partial(canaries.update, members, coins, clipping.bound * clipping.unit)
            for client, members in zip(seated.clients, seats, strict=True)
            if members
        }

        def loaded(clients: Sequence[VirtualClient]) -> Iterator[Batch]:
            others = iter(load([client for client in clients if client not in given]))
            for client in clients:
                yield no_steps if client in given else next(others)

        return executor.clipped_sum(GivenUpdates(work=work, given=given), clipping, shared, seated, loaded)

    return sum_updates


def _with_seats(cohort: Cohort, seats: Sequence[Sequence[int]]) -> tuple[Cohort, Sequence[Sequence[int]]]:
    """The cohort with as many clients as there are seats, or more: (cohort, canaries of each of its clients)."""
    extra = (VirtualClient(round=cohort.round, seed=seat, users=()) for seat in range(len(cohort.clients), len(seats)))
    clients = (*cohort.clients, *extra)
    return replace(cohort, clients=clients), [*seats, *[()] * (len(clients) - len(seats))]
