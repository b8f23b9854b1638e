"""BatchNorm, which trains on who else is in a batch and keeps running statistics, replaced by GroupNorm."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedemb.core import check
from fedemb.models.change import Change, replace_layer, summarised


@dataclass(frozen=True, kw_only=True)
class GroupNormalised(Change):
    """Every BatchNorm becomes a GroupNorm (Wu and He 2018, arXiv:1803.08494) with its scale, shift and epsilon.

    groups: of each layer; where they do not divide its channels, the next smaller number that does.
    Running statistics are dropped: published weights fit, but must be trained further before they embed well.
    """

    groups: int

    def __post_init__(self) -> None:
        check.at_least("groups", self.groups, 1)

    def apply(self, backbone: nn.Module) -> str:
        """In place, under the same names."""
        found = {name: layer for name, layer in backbone.named_modules() if isinstance(layer, _BatchNorm)}
        for name, layer in found.items():
            replace_layer(backbone, name, _group_norm(layer, self.groups))
        if not found:
            return "normalisation: no layer is a BatchNorm, nothing was replaced"
        return f"normalisation: {len(found)} BatchNorm layers became GroupNorm: {summarised(found)}"


class GroupNormAct(nn.GroupNorm):
    """A GroupNorm with the dropout and activation of the BatchNorm that it replaces, as timm's layers have them."""

    def __init__(self, groups: int, channels: int, *, eps: float, affine: bool, drop: nn.Module, act: nn.Module):
        super().__init__(groups, channels, eps=eps, affine=affine)
        self.drop, self.act = drop, act

    def forward(self, input: Tensor) -> Tensor:
        """act(drop(norm(input)))."""
        return self.act(self.drop(super().forward(input)))  # type: ignore[no-any-return]


def _group_norm(layer: _BatchNorm, most: int) -> nn.GroupNorm:
    """With the same parameters."""
    channels = layer.num_features
    groups = next(groups for groups in range(min(most, channels), 0, -1) if channels % groups == 0)
    extra = {name: part for name, part in layer.named_children() if name in ("drop", "act")}
    if extra:
        parts = {"drop": nn.Identity(), "act": nn.Identity(), **extra}
        made: nn.GroupNorm = GroupNormAct(groups, channels, eps=layer.eps, affine=layer.affine, **parts)
    else:
        made = nn.GroupNorm(groups, channels, eps=layer.eps, affine=layer.affine)
    made.weight, made.bias = layer.weight, layer.bias
    return made
