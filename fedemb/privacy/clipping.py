"""The clip that bounds what one virtual client can add to the sum."""

from __future__ import annotations

import torch
from torch import Tensor

from fedemb.core.params import norm
from fedemb.core.types import Params

_ROUNDING = 2.0**-22  # covers the rounding of the norm, of the products and of the sum over clients


def clip(update: Params, clip_norm: float) -> tuple[Params, Tensor]:
    """Scale an update so that its global l2 norm is at most `clip_norm`.

    Args: update: name -> tensor of any shape and float type (the norm is taken in float64).
          clip_norm: C > 0, in the units of the parameters.
    Returns: (clipped, norm): same names and shapes, in float64; norm [] before clipping.
    Guarantee: ||clipped|| <= C for every input; a non-finite input gives zeros.
    Source: McMahan et al. 2018, Alg. 1, arXiv:1710.06963; zeros for non-finite updates as Xu et al. 2023.
    """
    length = norm(update)
    finite = length.isfinite()
    factor = torch.clamp(clip_norm * (1.0 - _ROUNDING) / length, max=1.0)
    clipped = {name: torch.where(finite, value.double() * factor, 0.0) for name, value in update.items()}
    return clipped, length
