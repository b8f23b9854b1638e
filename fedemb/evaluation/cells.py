"""A rising map from similarities to cells: a fine grid where most pairs lie, single floats where a threshold may lie.

Shapes: p pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

GRID_CELLS = 2**17
WINDOW_CELLS = 2**20
"""The most cells of one window."""


def ordered_key(similarity: Tensor) -> Tensor:
    """Integers int32 in the order of float32 values, consecutive for consecutive floats; -0.0 equals 0.0."""
    return _keyed(similarity + 0.0, torch.empty_like(similarity, dtype=torch.int32))


def _keyed(value: Tensor, spare: Tensor) -> Tensor:
    """Keys in the memory of `value`, which holds no -0.0."""
    bits = value.view(torch.int32)
    torch.bitwise_right_shift(bits, 31, out=spare)
    return bits.bitwise_xor_(spare.bitwise_and_(0x7FFFFFFF))


def similarity_of(key: int) -> Tensor:
    """The float32 [1] with a key: the inverse of `ordered_key`."""
    bits = torch.tensor([key], dtype=torch.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32)


KEY_LIMIT = int(ordered_key(torch.ones(1)))  # similarities have keys from -KEY_LIMIT - 1 to KEY_LIMIT


@dataclass(frozen=True, kw_only=True)
class Window:
    """The keys low .. high, in cells of 2^shift keys."""

    low: int
    high: int

    @property
    def shift(self) -> int:
        """0 where there are cells enough for every key."""
        return max(0, ((self.high - self.low) // WINDOW_CELLS).bit_length())

    @property
    def single(self) -> bool:
        """Is there one key only?"""
        return self.low == self.high

    @property
    def steps(self) -> int:
        """How much the window adds to the map."""
        return (self.high - self.low) >> self.shift


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """Memory that passes over many similarities use again and again. value: float32, spare, cell: int32, all [size]."""

    value: Tensor
    spare: Tensor
    cell: Tensor

    @classmethod
    def of(cls, like: Tensor) -> Scratch:
        """As long as `like`, on its device."""
        spare = torch.empty_like(like, dtype=torch.int32)
        return cls(value=torch.empty_like(like), spare=spare, cell=torch.empty_like(spare))

    def first(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """The first elements of each."""
        return self.value[:size], self.spare[:size], self.cell[:size]


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Cell of a similarity = place on the grid from `low` to `high` + sum over windows of the place in the window.

    Every summand rises with the similarity, and so does the sum: cells are intervals of float32 values, in ascending
    order, and within a window of few enough keys they are single values. The windows are disjoint and ascending.
    """

    low: float
    high: float
    windows: Sequence[Window]

    @property
    def count(self) -> int:
        """Cells are 0 .. count-1."""
        return GRID_CELLS + sum(window.steps for window in self.windows)

    def of(self, similarity: Tensor) -> Tensor:
        """[p] float32 in [-1, 1] -> [p] int32."""
        return self.into(Scratch.of(similarity), similarity)

    def into(self, scratch: Scratch, similarity: Tensor) -> Tensor:
        """The same without new memory: valid until the next call with this scratch, which is at least as long."""
        value, spare, cell = scratch.first(len(similarity))
        torch.clamp(similarity, self.low, self.high, out=value)
        cell.copy_(value.sub_(self.low).mul_((GRID_CELLS - 1) / (self.high - self.low)))  # rounds down
        if self.windows:
            key = _keyed(torch.add(similarity, 0.0, out=value), spare)
            for window in self.windows:
                torch.clamp(key, window.low, window.high, out=spare).sub_(window.low)
                cell.add_(spare.bitwise_right_shift_(window.shift) if window.shift else spare)
        return cell

    def keys(self, cell: int) -> Window:
        """The keys of one cell, found by bisection. A single one: low equals high."""
        first = int(ordered_key(similarity_of(self._first_key(cell))))  # -1 would be -0.0
        return Window(low=first, high=self._first_key(cell + 1) - 1)

    def _first_key(self, cell: int) -> int:
        low, high = -KEY_LIMIT - 1, KEY_LIMIT + 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if int(self.of(similarity_of(middle))) >= cell else (middle + 1, high)
        return low


def disjoint(windows: Sequence[Window]) -> list[Window]:
    """The same keys in ascending windows that do not overlap."""
    merged: list[Window] = []
    for window in sorted(windows, key=lambda window: window.low):
        if merged and window.low <= merged[-1].high:
            window = Window(low=merged[-1].low, high=max(merged.pop().high, window.high))
        merged.append(window)
    assert all(first.high < second.low for first, second in pairwise(merged))
    return merged
