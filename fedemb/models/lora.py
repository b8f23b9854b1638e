"""Low-rank adapters (LoRA, Hu et al. 2022, arXiv:2106.09685): W + (alpha / rank) up down, where W can stay as it is.

Shapes: r rank, I inputs, O outputs, h x w kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from fedemb.core import check
from fedemb.core.types import Params
from fedemb.models.change import Change, replace_layer, summarised

_ADAPTER = "lora"


def is_adapter(name: str) -> bool:
    """Is this a parameter of an adapter?"""
    return name.split(".")[-2:-1] == [_ADAPTER]


@dataclass(frozen=True, kw_only=True)
class LowRank(Change):
    """An adapter on every linear layer and ungrouped convolution whose name fits a pattern.

    layers: name patterns (* and ?) of layers, e.g. *.query. A pattern may fit other layers too, but not only these.
    rank: of what is added. alpha: the added product is scaled by alpha / rank.
    An adapter starts at zero; its names are <layer>.lora.down and <layer>.lora.up, those of the layer stay.
    """

    layers: Sequence[str]
    rank: int
    alpha: float

    def __post_init__(self) -> None:
        check.at_least("rank", self.rank, 1)
        check.positive("alpha", self.alpha)
        if not self.layers:
            raise ValueError("adapter.layers=[] gives no layer an adapter: name some, e.g. adapter.layers=[*]")

    def apply(self, backbone: nn.Module) -> str:
        """In place."""
        fit = {name: layer for name, layer in backbone.named_modules() if _takes_adapter(layer)}
        for pattern in self.layers:
            if not any(fnmatchcase(name, pattern) for name in fit):
                raise ValueError(
                    f"adapter.layers pattern '{pattern}' matches no linear layer or ungrouped convolution; the "
                    f"backbone has {', '.join(fit) or 'none'}"
                )
        chosen = [name for name in fit if any(fnmatchcase(name, pattern) for pattern in self.layers)]
        for name in chosen:
            replace_layer(backbone, name, _adapted(fit[name], self.rank, self.alpha / self.rank))
        return f"adapter: rank {self.rank} on {len(chosen)} layers: {summarised(chosen)}"


class Adapter(nn.Module):
    """down [r, I] or [r, I, h, w], up [O, r] or [O, r, 1, 1]: together the zero map at the start."""

    def __init__(self, down: Sequence[int], up: Sequence[int]) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(*down))
        self.up = nn.Parameter(torch.empty(*up))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """down as a linear layer's weight, up zero: the adapted layer starts as the layer."""
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        nn.init.zeros_(self.up)


class AdaptedLinear(nn.Linear):
    """A linear layer plus its adapter."""

    def __init__(self, layer: nn.Linear, rank: int, scale: float) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None)
        self.weight, self.bias, self.scale = layer.weight, layer.bias, scale
        self.lora = Adapter((rank, layer.in_features), (layer.out_features, rank))

    def forward(self, input: Tensor) -> Tensor:
        """W x + b + scale up down x."""
        return super().forward(input) + self.scale * linear(linear(input, self.lora.down), self.lora.up)


class AdaptedConv2d(nn.Conv2d):
    """A convolution plus its adapter: one of the same kernel to r channels, then one of 1 x 1."""

    def __init__(self, layer: nn.Conv2d, rank: int, scale: float) -> None:
        super().__init__(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            layer.padding,  # type: ignore[arg-type]
            layer.dilation,  # type: ignore[arg-type]
            bias=layer.bias is not None,
        )
        self.weight, self.bias, self.scale = layer.weight, layer.bias, scale
        self.lora = Adapter((rank, layer.in_channels, *layer.kernel_size), (layer.out_channels, rank, 1, 1))

    def forward(self, input: Tensor) -> Tensor:
        """W * x + b + scale up * (down * x)."""
        narrow = conv2d(input, self.lora.down, None, self.stride, self.padding, self.dilation)
        return super().forward(input) + self.scale * conv2d(narrow, self.lora.up)


def merged(backbone: nn.Module, params: Params) -> Params:
    """The parameters of the backbone without adapters that computes the same.

    params: of the adapted backbone; those of a backbone without adapters come back as they are.
    """
    plain = {name: value for name, value in params.items() if not is_adapter(name)}
    for name, layer in backbone.named_modules():
        if isinstance(layer, AdaptedLinear | AdaptedConv2d):
            weight, down, up = (params[f"{name}.{part}"] for part in ("weight", "lora.down", "lora.up"))
            plain[f"{name}.weight"] = weight + layer.scale * torch.einsum("ri...,or->oi...", down, up.flatten(1))
    return plain


def _takes_adapter(layer: nn.Module) -> bool:
    """Exactly these classes: others, as that of MultiheadAttention's last layer, may not call what replaces them."""
    return type(layer) is nn.Linear or (
        type(layer) is nn.Conv2d and layer.groups == 1 and layer.padding_mode == "zeros"
    )


def _adapted(layer: nn.Module, rank: int, scale: float) -> nn.Module:
    made = AdaptedConv2d if isinstance(layer, nn.Conv2d) else AdaptedLinear
    return made(layer, rank, scale)  # type: ignore[arg-type]
