"""First-order optimizers as pure functions on Params: one set serves clients, under vmap, and the server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from fedemb.core import check, params
from fedemb.core.types import Params

Slots = dict[str, Params]
"""What an optimizer remembers between steps: slot name -> one tensor a parameter (or a counter)."""


class Optimizer(ABC):
    """Turns a stream of gradients into a stream of steps; the learning rate is the caller's."""

    @abstractmethod
    def init(self, like: Params) -> Slots:
        """The memory before the first step."""

    @abstractmethod
    def direction(self, gradient: Params, slots: Slots) -> tuple[Params, Slots]:
        """(the direction to multiply by the learning rate, the memory after this step)."""


@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Heavy-ball momentum: v <- momentum * v + g; the direction is v (Polyak 1964)."""

    momentum: float = 0.0

    def __post_init__(self) -> None:
        check.fraction("momentum", self.momentum)

    def init(self, like: Params) -> Slots:
        """A zero velocity, or nothing without momentum."""
        return {"velocity": params.zeros_like(like)} if self.momentum else {}

    def direction(self, gradient: Params, slots: Slots) -> tuple[Params, Slots]:
        """The velocity after adding this gradient."""
        if not self.momentum:
            return gradient, {}
        velocity = {name: torch.add(g, slots["velocity"][name], alpha=self.momentum) for name, g in gradient.items()}
        return velocity, {"velocity": velocity}


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam with bias correction (Kingma and Ba 2015, Alg. 1, arXiv:1412.6980)."""

    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        check.fraction("beta1", self.beta1)
        check.fraction("beta2", self.beta2)
        check.positive("epsilon", self.epsilon)

    def init(self, like: Params) -> Slots:
        """Zero moments and a step counter []."""
        device = next(iter(like.values())).device if like else None
        count = {"count": torch.zeros((), device=device)}
        return {"mean": params.zeros_like(like), "square": params.zeros_like(like), "step": count}

    def direction(self, gradient: Params, slots: Slots) -> tuple[Params, Slots]:
        """The bias-corrected mean over the root of the bias-corrected mean square."""
        count = slots["step"]["count"] + 1
        mean = params.lerp(slots["mean"], gradient, 1 - self.beta1)
        square = params.lerp(slots["square"], {n: g * g for n, g in gradient.items()}, 1 - self.beta2)
        mean_scale, square_scale = 1 - self.beta1**count, 1 - self.beta2**count
        direction = {
            name: (mean[name] / mean_scale) / ((square[name] / square_scale).sqrt() + self.epsilon) for name in mean
        }
        return direction, {"mean": mean, "square": square, "step": {"count": count}}
