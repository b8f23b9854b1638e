"""One gradient for each virtual client: with single users, user-level DP-SGD; with single examples, DP-SGD itself."""

from __future__ import annotations

from dataclasses import dataclass

from fedemb.client.precision import Full, Precision
from fedemb.client.work import ClientState, ClientWork
from fedemb.core.gradient import gradient_and_value
from fedemb.core.params import merge, split, to, zeros_like
from fedemb.core.types import Batch, Params, VirtualClient
from fedemb.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class AverageGradient(ClientWork):
    """Minus the gradient, at the global parameters, of the mean loss over all of a client's examples.

    Batches only bound the memory: their gradients add up. The server's learning rate makes it a step.
    precision: of loss and gradient.
    A state's shared parameters are the sum so far; its local ones, if the task has any, stay as they were drawn.
    Source: DP-FedSGD of McMahan et al. 2018, arXiv:1710.06963; for single examples Abadi et al. 2016, arXiv:1607.00133.
    """

    task: Task
    precision: Precision = Full()

    def begin(self, shared: Params, client: VirtualClient) -> ClientState:
        """A sum of zero, and a head drawn from the client's seed if the task has a local one."""
        like = next(iter(shared.values()))
        trained, _ = split(shared, self.task.is_shared)
        params = merge(zeros_like(trained), to(self.task.init_local(client.seed), like.device, like.dtype))
        zero = like.new_zeros(())
        return ClientState(params, {}, rate=zero, step=zero, loss=zero, examples=zero)

    def step(self, shared: Params, state: ClientState, batch: Batch) -> ClientState:
        """sum <- sum - examples * d(mean loss of the batch)."""
        trained, fixed = split(shared, self.task.is_shared)
        total, local = split(state.params, self.task.is_shared)
        gradient, loss = gradient_and_value(
            lambda p: self.precision.loss(self.task, {**fixed, **local, **p}, batch), trained
        )
        examples = batch["mask"].sum()
        added = {name: value - examples * gradient[name] for name, value in total.items()}
        return state.after(merge(added, local), {}, loss, batch)

    def finish(self, shared: Params, state: ClientState) -> Params:
        """The sum over the number of examples, shared names only."""
        total, _ = split(state.params, self.task.is_shared)
        count = state.examples.clamp(min=1.0)
        return {name: value / count for name, value in total.items()}
