"""DP-FedEmb's local fine-tuning of backbone and head (Xu et al. 2023, arXiv:2211.10844)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedemb.client.precision import Full, Precision
from fedemb.client.work import ClientState, ClientWork
from fedemb.core import check
from fedemb.core.gradient import gradient_and_value
from fedemb.core.optim import Optimizer
from fedemb.core.params import merge, split, sub, to
from fedemb.core.schedule import Constant, Schedule
from fedemb.core.types import Batch, Params, VirtualClient
from fedemb.tasks.task import Task


class Phases(ABC):
    """Which part of the model moves in which local step."""

    @abstractmethod
    def gate(self, values: Params, step: Tensor, is_shared: Callable[[str], bool]) -> Params:
        """Gradients or directions with zeros for the parameters that rest at local step 0, 1, ... []."""


@dataclass(frozen=True, kw_only=True)
class Joint(Phases):
    """Backbone and head move together."""

    def gate(self, values: Params, step: Tensor, is_shared: Callable[[str], bool]) -> Params:
        """All of them."""
        return values


@dataclass(frozen=True, kw_only=True)
class HeadFirst(Phases):
    """The head alone for `head_only_steps`, then the backbone alone (Singhal et al. 2021, arXiv:2102.03448).

    The optimizer's step counter, if it has one, runs through both phases.
    """

    head_only_steps: int

    def __post_init__(self) -> None:
        check.at_least("head_only_steps", self.head_only_steps, 1)

    def gate(self, values: Params, step: Tensor, is_shared: Callable[[str], bool]) -> Params:
        """The head before `head_only_steps`, the backbone from there on."""
        head = (step < self.head_only_steps).to(step.dtype)
        return {name: value * (1.0 - head if is_shared(name) else head) for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class FineTune(ClientWork):
    """Gradient steps on the task's loss from the global backbone and a fresh head.

    learning_rate: of the backbone; times schedule.factor(round).
    head_lr_scale: the head's learning rate is this many times the backbone's.
    precision: of loss and gradient.
    """

    task: Task
    optimizer: Optimizer
    learning_rate: float
    schedule: Schedule = Constant()
    head_lr_scale: float = 1.0
    phases: Phases = Joint()
    precision: Precision = Full()

    def __post_init__(self) -> None:
        check.positive("learning_rate", self.learning_rate)
        check.positive("head_lr_scale", self.head_lr_scale)

    def begin(self, shared: Params, client: VirtualClient) -> ClientState:
        """The global backbone and a head drawn from the client's seed."""
        like = next(iter(shared.values()))
        trained, _ = split(shared, self.task.is_shared)
        params = merge(trained, to(self.task.init_local(client.seed), like.device, like.dtype))
        zero = like.new_zeros(())
        rate = like.new_full((), self.learning_rate * self.schedule.factor(client.round))
        return ClientState(params, self.optimizer.init(params), rate, step=zero, loss=zero, examples=zero)

    def step(self, shared: Params, state: ClientState, batch: Batch) -> ClientState:
        """phi <- phi - rate d(phi);  h <- h - rate head_lr_scale d(h), each as its phase allows."""
        fixed = {name: value for name, value in shared.items() if name not in state.params}
        gradient, loss = gradient_and_value(
            lambda p: self.precision.loss(self.task, {**fixed, **p}, batch), state.params
        )
        gradient = self.phases.gate(gradient, state.step, self.task.is_shared)
        direction, slots = self.optimizer.direction(gradient, state.slots)
        direction = self.phases.gate(direction, state.step, self.task.is_shared)
        rate = {True: state.rate, False: state.rate * self.head_lr_scale}
        params = {
            name: torch.addcmul(value, direction[name], rate[self.task.is_shared(name)], value=-1.0)
            for name, value in state.params.items()
        }
        return state.after(params, slots, loss, batch)

    def finish(self, shared: Params, state: ClientState) -> Params:
        """phi - theta, shared names only: the head is dropped here."""
        trained, _ = split(state.params, self.task.is_shared)
        return sub(trained, shared)
