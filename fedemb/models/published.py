"""Backbones of model libraries: the architecture is made here, published weights are a start of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from fedemb.core.types import Params


@runtime_checkable
class Published(Protocol):
    """A backbone with published weights. They never come with the constructor: what they cost must be declared."""

    def published(self) -> Params:
        """Those of this architecture, under the backbone's names; what is not among them starts at random.

        Raises: ValueError in one line if there are none, they do not fit or they cannot be read.
        """


@runtime_checkable
class SelfContained(Protocol):
    """A backbone that a folder or name elsewhere describes, with settings that need neither."""

    def settings(self) -> Mapping[str, Any]:
        """Arguments of the constructor, plain values, in place of those that it was made with."""


def pooled(features: Tensor) -> Tensor:
    """One vector an image [B, C] of channels [B, C, H, W], averaged, or of tokens [B, T, C], averaged."""
    if features.dim() == 4:
        return features.mean((2, 3))
    return features.mean(1) if features.dim() == 3 else features
