"""MobileNetV2 with GroupNorm, whole and cut short. Shapes: B images, Ch channels, H x W pixels, D embedding width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from fedemb.core import check

_STEM = 32


class Stage(NamedTuple):
    """`repeats` inverted residual blocks; the first one has the stride, the others stride 1."""

    expansion: int
    channels: int
    repeats: int
    stride: int


WHOLE = (
    Stage(expansion=1, channels=16, repeats=1, stride=1),
    Stage(expansion=6, channels=24, repeats=2, stride=2),
    Stage(expansion=6, channels=32, repeats=3, stride=2),
    Stage(expansion=6, channels=64, repeats=4, stride=2),
    Stage(expansion=6, channels=96, repeats=3, stride=1),
    Stage(expansion=6, channels=160, repeats=3, stride=2),
    Stage(expansion=6, channels=320, repeats=1, stride=1),
)
"""Sandler et al. 2018, arXiv:1801.04381, table 2, width 1.0."""


class InvertedResiduals(nn.Module):
    """Stem, stages, a last 1 x 1 convolution, average pool, linear layer: [B, Ch, H, W] -> [B, D].

    Any size of image from 1 x 1 on; the stem and four (small: two) stages halve it.
    """

    def __init__(
        self, *, stages: Sequence[Stage], last_channels: int, channels: int, embedding_width: int, groups: int
    ) -> None:
        """Raises ValueError in one line unless `groups` divides every layer's channels."""
        super().__init__()
        for name, value in (("channels", channels), ("embedding_width", embedding_width), ("groups", groups)):
            check.at_least(name, value, 1)
        common = math.gcd(_STEM, last_channels, *(stage.channels for stage in stages))
        if common % groups:
            raise ValueError(f"groups must divide {common}, which divides every layer's channels, got {groups=}")
        blocks: list[nn.Module] = []
        width = _STEM
        for stage in stages:
            for place in range(stage.repeats):
                stride = 1 if place else stage.stride
                blocks.append(_Block(width, stage.channels, expansion=stage.expansion, stride=stride, groups=groups))
                width = stage.channels
        self.stem = nn.Sequential(*_conv(channels, _STEM, groups, size=3, stride=2), nn.ReLU6())
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(*_conv(width, last_channels, groups), nn.ReLU6())
        self.embedding = nn.Linear(last_channels, embedding_width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Convolutions by He et al. 2015, arXiv:1502.01852 (fan in, gain of ReLU); other layers by their own rules."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings, not normalised."""
        return self.embedding(self.last(self.blocks(self.stem(images))).mean((2, 3)))  # type: ignore[no-any-return]


class MobileNetV2(InvertedResiduals):
    """The backbone of the landmark and species experiments; 2,387,840 parameters at the defaults.

    Source: Xu et al. 2023, arXiv:2211.10844 (224 x 224 images, GroupNorm with 2 groups, width 128).
    """

    def __init__(self, *, channels: int = 3, embedding_width: int = 128, groups: int = 2) -> None:
        """groups: of each GroupNorm; 1, 2, 4 or 8. Raises ValueError in one line for others."""
        super().__init__(
            stages=WHOLE, last_channels=1280, channels=channels, embedding_width=embedding_width, groups=groups
        )


class SmallMobileNetV2(InvertedResiduals):
    """The first three stages and a last convolution of 640 channels; 159,296 parameters at the defaults.

    Source: as for `MobileNetV2`, the small one.
    """

    def __init__(self, *, channels: int = 3, embedding_width: int = 128, groups: int = 2) -> None:
        """groups: of each GroupNorm; 1, 2, 4 or 8. Raises ValueError in one line for others."""
        super().__init__(
            stages=WHOLE[:3], last_channels=640, channels=channels, embedding_width=embedding_width, groups=groups
        )


class _Block(nn.Module):
    """Widen, filter each channel by itself, project; added to the input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, *, expansion: int, stride: int, groups: int) -> None:
        super().__init__()
        hidden = expansion * inputs
        widen = [*_conv(inputs, hidden, groups), nn.ReLU6()] if expansion > 1 else []
        self.body = nn.Sequential(
            *widen,
            *_conv(hidden, hidden, groups, size=3, stride=stride, parts=hidden),
            nn.ReLU6(),
            *_conv(hidden, outputs, groups),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.body(images)
        return images + found if self.adds else found


def _conv(
    inputs: int, outputs: int, groups: int, *, size: int = 1, stride: int = 1, parts: int = 1
) -> tuple[nn.Module, nn.Module]:
    """A convolution and its GroupNorm, which has the bias. parts: of the channels, each convolved by itself."""
    conv = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=parts, bias=False)
    return conv, nn.GroupNorm(groups, outputs)
