"""Canaries: users who send one of two opposite updates, along directions of their own.

Shapes: n canaries of a run, d parameters that updates have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedemb.core import check
from fedemb.core.params import norm, scale
from fedemb.core.types import Params
from fedemb.privacy.clipping import Clipping

_FAR = 1e3  # clip norms: what points to a clipped canary is clipped in every part that has a norm of its own
_BEYOND = 10.0  # clip norms that a canary sends: it shows whether updates are clipped


@dataclass(frozen=True, kw_only=True)
class Canaries:
    """n unit vectors, of which no two share a parameter: random, orthogonal, and as small as one model.

    direction: name -> the entry of the unit vector of the parameter's owner. owner: name -> canary of each parameter.
    count: n.
    """

    direction: Params
    owner: Params
    count: int

    @classmethod
    def draw(cls, *, clipping: Clipping, like: Params, count: int, rng: np.random.Generator) -> Canaries:
        """Random signs on random parts of the parameters, shaped by the clipping so that it keeps their direction.

        Args: like: parameters that updates are of. count: n <= d.
        """
        entries = sum(value.numel() for value in like.values())
        check.at_least("canaries", count, 1)
        if count > entries:
            raise ValueError(f"canaries must be at most the {entries} parameters of an update, got canaries={count}")
        owner = _unflatten(torch.from_numpy(rng.permutation(np.arange(entries) % count)), like)
        sign = _unflatten(torch.from_numpy(rng.choice([-1.0, 1.0], entries)), like)
        direction = {name: torch.zeros_like(value) for name, value in sign.items()}
        far = _FAR * clipping.bound * clipping.unit
        for canary in range(count):
            own = {name: torch.where(owner[name] == canary, value, 0.0) for name, value in sign.items()}
            clipped, _ = clipping(scale(own, far / norm(own)))
            unit = 1 / norm(clipped)
            direction = {name: value.add_(clipped[name].double() * unit) for name, value in direction.items()}
        return cls(direction=direction, owner=owner, count=count)

    def update(self, members: Sequence[int], coins: Tensor, clip_norm: float) -> Params:
        """What a virtual client with these canaries sends before the clip: far beyond the clip norm.

        Args: coins: [n] of -1 or 1, float64. clip_norm: C, in the units of the parameters.
        """
        weight = torch.zeros(self.count, dtype=torch.float64)
        weight[list(members)] = _BEYOND * clip_norm * coins[list(members)]
        return {name: value * weight[self.owner[name]] for name, value in self.direction.items()}

    def project(self, vector: Params) -> Tensor:
        """Inner products [n] with the unit vectors, float64 on the CPU."""
        products = torch.zeros(self.count, dtype=torch.float64)
        for name, value in self.direction.items():
            products.index_add_(0, self.owner[name].flatten(), (vector[name].cpu().double() * value).flatten())
        return products


def _unflatten(entries: Tensor, like: Params) -> Params:
    """A vector [d] cut into the shapes of parameters, in order of the names."""
    names = sorted(like)
    parts = torch.split(entries, [like[name].numel() for name in names])
    return {name: part.reshape(like[name].shape) for name, part in zip(names, parts, strict=True)}
