"""Axes of a plot: where a value lies in the picture, and which values are written beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from fedemb.report.figures import Axis, tick_text
from fedemb.report.panels import PowerAxis, power_text


class Ticked(Protocol):
    """A scale with the values that are written beside it."""

    @property
    def ticks(self) -> tuple[float, ...]:
        """The values, ascending; the first and the last are the ends."""

    def at(self, value: float) -> float:
        """The pixel of a value."""


_MOST = 7  # values that have room beside an axis of a phone

AxisMaker: TypeAlias = Callable[[Sequence[float], float, float], tuple[Ticked, list[str]]]
"""(values to hold, first pixel, last pixel) -> (the scale, the text of each of its ticks)."""


def linear(values: Sequence[float], start: float, end: float) -> tuple[Ticked, list[str]]:
    """Equal steps are equal lengths."""
    return _linear(values, start, end, finest=0.0)


def whole(values: Sequence[float], start: float, end: float) -> tuple[Ticked, list[str]]:
    """The same for whole numbers, such as rounds."""
    return _linear(values, start, end, finest=1.0)


def powers(values: Sequence[float], start: float, end: float) -> tuple[Ticked, list[str]]:
    """Equal factors are equal lengths; every value > 0."""
    axis = PowerAxis.covering(values, start=start, end=end)
    powers_of_ten = [tick for tick in axis.ticks if round(math.log10(tick), 6) % 1 == 0]
    named = axis.ticks if len(axis.ticks) <= _MOST or len(powers_of_ten) < 2 else powers_of_ten
    named = named[:: math.ceil(len(named) / _MOST)]
    return axis, [power_text(tick) if tick in named else "" for tick in axis.ticks]


def _linear(values: Sequence[float], start: float, end: float, finest: float) -> tuple[Ticked, list[str]]:
    axis = Axis.covering(values, start=start, end=end, intervals=5, finest=finest)
    return axis, [tick_text(tick, axis.ticks) for tick in axis.ticks]
