"""Pixels as the backbones expect them."""

from __future__ import annotations

import torch
from torch import Tensor


def scale_pixels(images: Tensor) -> Tensor:
    """uint8 0 .. 255 of any shape -> float32 x / 128 - 1 (Xu et al. 2023, arXiv:2211.10844)."""
    return images.to(torch.float32, copy=True).mul_(1 / 128).sub_(1.0)
