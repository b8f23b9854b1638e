"""The clip that bounds what one virtual client can add to the sum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor
from torch.func import vmap

from fedemb.core import check
from fedemb.core.params import add_to, norm, pieces
from fedemb.core.types import Params

_ROUNDING = 2.0**-22  # covers the rounding of the norm, of the products and of the sum over clients
_LEAST = 1e-150
_MOST_CLIENTS = 2**15  # m float64 numbers are summed with a relative error of m 2^-53: 2 m^2 2^-53 is half of _ROUNDING


def clip(update: Params, clip_norm: float) -> tuple[Params, Tensor]:
    """Scale an update so that its global l2 norm is at most `clip_norm`.

    Args: update: name -> tensor of any shape and float type (the norm is taken in float64).
          clip_norm: C >= 1e-150, in the units of the parameters, so that squares of that size are numbers.
    Returns: (clipped, norm): same names and shapes, in float64; norm [] before clipping.
    Guarantee: ||clipped|| <= C for every input; a non-finite input gives zeros.
    Source: McMahan et al. 2018, Alg. 1, arXiv:1710.06963; zeros for non-finite updates as Xu et al. 2023.
    """
    length = norm(update)
    factor = _factor(length, clip_norm)
    return {name: _times(value, factor) for name, value in update.items()}, length


def _factor(length: Tensor, clip_norm: float) -> Tensor:
    """What updates of these norms [...] are multiplied with; 0 for those that are not finite."""
    return torch.where(length.isfinite(), torch.clamp(clip_norm * (1.0 - _ROUNDING) / length, max=1.0), 0.0)


def _times(value: Tensor, factor: Tensor) -> Tensor:
    """value * factor in float64, with 0 * inf = 0 * nan = 0."""
    copy = value.to(torch.float64, copy=True)
    return copy.mul_(factor).nan_to_num_(nan=0.0)


class Clipping(ABC):
    """What an update becomes before it is added up; a pure function that vmap can take.

    Clipped updates share one dtype, in which their sum over `most_clients` keeps the bound.
    """

    @property
    @abstractmethod
    def bound(self) -> float:
        """The l2 norm that no clipped update exceeds, in the units of `unit`."""

    @property
    def unit(self) -> float:
        """What 1 in a clipped update stands for, in the units of the parameters."""
        return 1.0

    @property
    def most_clients(self) -> int:
        """How many clipped updates can be added up without rounding beyond the bound."""
        return _MOST_CLIENTS

    @abstractmethod
    def __call__(self, update: Params) -> tuple[Params, Tensor]:
        """(the clipped update, the norm [] before clipping); zeros for an update that is not finite."""

    def add_to(self, total: Params, updates: Params) -> Tensor:
        """total <- total + the clipped updates of c clients [c, ...], one after the other, in place.

        Returns: their norms [c] before clipping. Raises torch.OutOfMemoryError before anything is added.
        """
        clipped, lengths = vmap(self)(updates)
        for slot in range(len(lengths)):
            add_to(total, {name: value[slot] for name, value in clipped.items()})
        return lengths


def check_clients(planned: float, clipping: Clipping) -> None:
    """Require that so many clipped updates can be added up."""
    if planned > clipping.most_clients:
        raise ValueError(
            f"{planned:g} virtual clients a round are too many to add up within the clip norm (at most "
            f"{clipping.most_clients}): lower users_per_round or raise users_per_client"
        )


@dataclass(frozen=True, kw_only=True)
class FlatClipping(Clipping):
    """The whole update is one vector of norm at most C (McMahan et al. 2018, "flat clipping", arXiv:1710.06963)."""

    clip_norm: float

    def __post_init__(self) -> None:
        _check_clip_norm(self.clip_norm)

    @property
    def bound(self) -> float:
        """C."""
        return self.clip_norm

    def __call__(self, update: Params) -> tuple[Params, Tensor]:
        """See `clip`."""
        return clip(update, self.clip_norm)

    def add_to(self, total: Params, updates: Params) -> Tensor:
        """The same: on a CPU piece by piece while a piece is in the cache, elsewhere all clients in a few calls."""
        on_cpu = next(iter(updates.values())).device.type == "cpu"
        return (_add_by_pieces if on_cpu else _add_at_once)(total, updates, self.clip_norm)


def _add_by_pieces(total: Params, updates: Params, clip_norm: float) -> Tensor:
    count = len(next(iter(updates.values())))
    each = [{name: value[slot] for name, value in updates.items()} for slot in range(count)]
    lengths = torch.stack([norm(update) for update in each])
    for update, factor in zip(each, _factor(lengths, clip_norm).tolist(), strict=True):
        if factor:  # else it is not finite, and 0 times that is not 0
            for name, value in update.items():
                for part, more in zip(pieces(total[name]), pieces(value), strict=True):
                    part.add_(more.double(), alpha=factor)
    return lengths


def _add_at_once(total: Params, updates: Params, clip_norm: float) -> Tensor:
    """Memory is taken before anything is added, and the device is not waited for."""
    flat = {name: value.flatten(1) if value.dim() > 1 else value[:, None] for name, value in updates.items()}
    squares = [torch.linalg.vector_norm(value.double(), dim=1).square() for value in flat.values()]
    lengths = torch.stack(squares).sum(dim=0).sqrt()
    factor_c = _factor(lengths, clip_norm)
    kept_c1 = (factor_c > 0)[:, None]  # the others are not finite, and 0 times that is not 0
    sums = {name: factor_c @ torch.where(kept_c1, value, 0.0).double() for name, value in flat.items()}
    for name, value in sums.items():
        total[name].add_(value.view_as(total[name]))
    return lengths


@dataclass(frozen=True, kw_only=True)
class PerLayerClipping(Clipping):
    """Layer l, with its weight and bias, is a vector of norm at most C_l, and the squares C_l^2 add up to C^2.

    A layer is what stands before the last dot of a name. weights: name pattern of layers -> C_l relative to the
    layers that no pattern names, which have 1; the first pattern that fits counts.
    Source: McMahan et al. 2018, section "per-layer clipping", arXiv:1710.06963.
    """

    clip_norm: float
    weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        _check_clip_norm(self.clip_norm)
        for pattern, weight in (self.weights or {}).items():
            check.positive(f"query.clipping.weights[{pattern}]", weight)

    @property
    def bound(self) -> float:
        """C: the root of the sum of squares over the layers."""
        return self.clip_norm

    def norms(self, names: list[str]) -> dict[str, float]:
        """Layer -> C_l, for the parameters of these names.

        Raises: ValueError for a pattern that fits no layer.
        """
        layers = sorted({_layer(name) for name in names})
        for pattern in self.weights or ():
            if not any(fnmatchcase(layer, pattern) for layer in layers):
                raise ValueError(f"query.clipping.weights: {pattern} fits no layer; the layers are {', '.join(layers)}")
        shares = {layer: self._weight(layer) for layer in layers}
        whole = sum(share**2 for share in shares.values()) ** 0.5
        return {layer: self.clip_norm * share / whole for layer, share in shares.items()}

    def __call__(self, update: Params) -> tuple[Params, Tensor]:
        """Each layer by its own norm; an update with any non-finite entry becomes zero as a whole."""
        length = norm(update)
        finite = length.isfinite()
        clipped: Params = {}
        for layer, clip_norm in self.norms(list(update)).items():
            part, _ = clip({name: value for name, value in update.items() if _layer(name) == layer}, clip_norm)
            clipped |= {name: torch.where(finite, value, 0.0) for name, value in part.items()}
        return {name: clipped[name] for name in update}, length

    def _weight(self, layer: str) -> float:
        return next((weight for pattern, weight in (self.weights or {}).items() if fnmatchcase(layer, pattern)), 1.0)


def _check_clip_norm(clip_norm: float) -> None:
    check.positive("clip_norm", clip_norm)
    if clip_norm < _LEAST:
        raise ValueError(f"clip_norm must be at least {_LEAST:g}, got {clip_norm=}")


def _layer(name: str) -> str:
    """ "conv1" for "conv1.weight" and "conv1.bias"."""
    return name.rpartition(".")[0] or name
