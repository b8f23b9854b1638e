"""What a plot shows: marks, series of them, levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Protocol

_MANY = 60  # marks beyond which their shapes would hide the line


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point, with the words that it tells to a pointer."""

    x: float
    y: float
    words: str


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line through marks, with other marks that it passes by.

    style, shape: from `fedemb.report.looks`. band: (x, low, high), the area that is shaded.
    """

    label: str
    style: str
    shape: str
    line: Sequence[Mark]
    loose: Sequence[Mark] = ()
    band: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True, kw_only=True)
class Level:
    """A dashed line across the plot, e.g. what training without noise reaches.

    key: style in the legend, where levels of the same label are one.
    """

    label: str
    style: str
    key: str
    y: float
    words: str


class Place(Protocol):
    """Where a value lies."""

    def at(self, value: float) -> float:
        """The pixel of a value."""


def path_of(points: Sequence[tuple[float, float]]) -> str:
    """Straight lines through points, as path data."""
    return "M" + "L".join(f"{px:.1f},{py:.1f}" for px, py in points)


def marker(mark: Mark, x: Place, y: Place, line: Series, kind: str) -> str:
    """A mark with a wide invisible area around it that a finger can meet; of many marks, that area alone."""
    shape = "" if len(line.line) > _MANY else f'<path class="{kind} {line.style}" d="{line.shape}"/>'
    return (
        f'<g class="point" transform="translate({x.at(mark.x):.1f} {y.at(mark.y):.1f})">'
        f'<title>{escape(mark.words)}</title><circle class="hit" r="11"/>{shape}</g>'
    )
