"""The gradient of a function of Params, in eager PyTorch and within its function transforms."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad_and_value

from fedemb.core.types import Params


def gradient_and_value(function: Callable[[Params], Tensor], params: Params) -> tuple[Params, Tensor]:
    """(d function / d params, function(params) []); zeros for a parameter that the function does not depend on.

    A pure function that vmap can take. Outside of transforms it is plain autograd: `torch.func.grad_and_value` keeps
    what a second derivative would need, and imports PyTorch's compiler, which takes seconds and 75 MB.
    """
    if torch._C._are_functorch_transforms_active():
        found: tuple[Params, Tensor] = grad_and_value(function)(params)
        return found
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    with torch.enable_grad():
        value = function(leaves)
    if not value.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in params.items()}, value
    gradients = torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, gradients, strict=True)), value.detach()
