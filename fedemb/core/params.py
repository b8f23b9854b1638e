"""Arithmetic on Params: functions return new dictionaries and leave their arguments alone, all but `add_to`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fedemb.core.types import Params

_CACHED = 2**16  # numbers


def add(left: Params, right: Params) -> Params:
    """left + right; the same names in both."""
    return {name: value + right[name] for name, value in left.items()}


def add_to(total: Params, more: Params) -> None:
    """total <- total + more, in place: for a total that the caller has made. The names of more."""
    for name, value in more.items():
        total[name].add_(value)


def sub(left: Params, right: Params) -> Params:
    """left - right, for the names of left."""
    return {name: value - right[name] for name, value in left.items()}


def scale(params: Params, factor: float | Tensor) -> Params:
    """factor * params."""
    return {name: value * factor for name, value in params.items()}


def lerp(start: Params, end: Params, weight: float) -> Params:
    """start + weight * (end - start)."""
    return {name: torch.lerp(value, end[name], weight) for name, value in start.items()}


def zeros_like(params: Params, dtype: torch.dtype | None = None) -> Params:
    """Zeros of the same shapes, in the same or the given dtype."""
    return {name: torch.zeros_like(value, dtype=dtype) for name, value in params.items()}


def norm(params: Params) -> Tensor:
    """Global l2 norm [], accumulated in float64."""
    lengths = [torch.linalg.vector_norm(piece.double()) for value in params.values() for piece in pieces(value)]
    return torch.linalg.vector_norm(torch.stack(lengths)) if lengths else torch.zeros((), dtype=torch.float64)


def pieces(value: Tensor) -> Sequence[Tensor]:
    """Views of consecutive rows, together the value: on a CPU of a size that a core's cache holds as float64."""
    if value.device.type != "cpu" or value.dim() == 0:
        return (value,)
    rows = _CACHED * len(value) // max(value.numel(), 1)
    return torch.split(value, max(rows, 1))


def split(params: Params, belongs: Callable[[str], bool]) -> tuple[Params, Params]:
    """(entries whose name belongs, the others)."""
    inside = {name: value for name, value in params.items() if belongs(name)}
    return inside, {name: value for name, value in params.items() if name not in inside}


def merge(left: Params, right: Params) -> Params:
    """The union of two dictionaries without a common name."""
    common = left.keys() & right.keys()
    if common:
        raise ValueError(f"cannot merge parameters that share the names {sorted(common)}")
    return {**left, **right}


def stack(items: Sequence[Params]) -> Params:
    """m dictionaries of [...] to one of [m, ...]."""
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def flatten(params: Params) -> Tensor:
    """All entries as one vector, in order of the names."""
    return torch.cat([params[name].reshape(-1) for name in sorted(params)])


def to(params: Params, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Params:
    """The same values on another device or in another dtype."""
    return {name: value.to(device=device, dtype=dtype) for name, value in params.items()}
