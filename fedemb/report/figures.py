"""Line charts as inline SVG: no script, no network; colours and fonts come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Protocol

from fedemb.report.style import FIGURE_STYLE

Point = tuple[float, float]

_WIDTH, _HEIGHT = 480, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 12, 40
_HEADING = 48  # pixels above a chart that is a file of its own
_MANY = 80  # points beyond which markers hide the line


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve. style: class in the style sheet ("first", "second"). label: for the legend and the hover text."""

    label: str
    style: str
    points: Sequence[Point]


class Scale(Protocol):
    """Where a value lies in the picture."""

    def at(self, value: float) -> float:
        """The pixel of a value."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A linear map from [low, high] to pixels, with round ticks."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    @classmethod
    def covering(cls, values: Sequence[float], *, start: float, end: float, intervals: int, finest: float) -> Axis:
        """An axis whose ends are ticks, at least `finest` apart, and that holds all values, equal ones too."""
        low, high = min(values), max(values)
        if high - low < 1e-9 * max(1.0, abs(high)):
            low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
        step = max(finest, _round_step((high - low) / intervals))
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        ticks = tuple(index * step for index in range(first, last + 1))
        return cls(low=ticks[0], high=ticks[-1], start=start, end=end, ticks=ticks)

    def at(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def line_chart(
    *,
    title: str,
    lines: Sequence[Line],
    x_label: str,
    value_text: Callable[[float], str],
    band: tuple[Sequence[Point], Sequence[Point]] | None = None,
    named: bool = False,
) -> str:
    """A chart over whole numbers as one <svg> element, or "" where no line has two points.

    Args: band: (lower, upper) curve over the same x; the area between them is shaded.
          value_text: how a value reads when the pointer rests on a marker.
          named: write each line's label beside its first point.
    """
    points = [point for line in lines for point in line.points]
    if all(len(line.points) < 2 for line in lines):
        return ""
    shaded = [*band[0], *band[1]] if band else []
    x = Axis.covering([p[0] for p in points], start=_LEFT, end=_WIDTH - _RIGHT, intervals=5, finest=1.0)
    heights = [p[1] for p in [*points, *shaded]]
    y = Axis.covering(heights, start=_HEIGHT - _BOTTOM, end=_TOP, intervals=4, finest=0.0)
    body = [_grid(x, y), text(_WIDTH / 2 + _LEFT / 2, _HEIGHT - 6, x_label, "middle")]
    if band and len(band[0]) > 1:
        body.append(f'<polygon class="band" points="{_path([*band[0], *reversed(band[1])], x, y)}"/>')
    body += [curve(line, x, y, value_text, x_label) for line in lines if line.points]
    if named:
        starts = [(line.label, line.points[0]) for line in lines if line.points]
        body += [text(x.at(px) + 9, y.at(py) - 6, label, "start") for label, (px, py) in starts]
    name = escape(title, quote=True)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{name}">{"".join(body)}</svg>'


def _round_step(rough: float) -> float:
    """The smallest of 1, 2, 2.5, 5, 10 times a power of ten that is at least `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _grid(x: Axis, y: Axis) -> str:
    parts = []
    for tick in y.ticks:
        height = y.at(tick)
        parts.append(f'<line class="grid" x1="{x.start}" x2="{x.end}" y1="{height:.1f}" y2="{height:.1f}"/>')
        parts.append(text(_LEFT - 8, height + 4, tick_text(tick, y.ticks), "end"))
    for tick in x.ticks:
        parts.append(text(x.at(tick), _HEIGHT - _BOTTOM + 18, tick_text(tick, x.ticks), "middle"))
    return "".join(parts)


def curve(line: Line, x: Scale, y: Scale, value_text: Callable[[float], str], x_label: str) -> str:
    """A line with its markers, which tell their values to a pointer."""
    path = f'<polyline class="line {line.style}" points="{_path(line.points, x, y)}"/>'
    kind = "dot" if len(line.points) <= _MANY else "dot faint"
    dots = [
        f'<circle class="{kind} {line.style}" cx="{x.at(px):.1f}" cy="{y.at(py):.1f}" r="2.6">'
        f"<title>{escape(f'{line.label}, {x_label} {px:g}: {value_text(py)}')}</title></circle>"
        for px, py in line.points
    ]
    return path + "".join(dots)


def _path(points: Sequence[Point], x: Scale, y: Scale) -> str:
    return " ".join(f"{x.at(px):.1f},{y.at(py):.1f}" for px, py in points)


def text(x: float, y: float, words: str, anchor: str) -> str:
    """Words at a point, in pixels; anchor: "start", "middle" or "end"."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def tick_text(tick: float, ticks: Sequence[float]) -> str:
    """A tick as it is written: with as many decimals as tell it from its neighbours, short from 10,000 on."""
    if max(map(abs, ticks)) >= 1e4:
        return f"{tick:.2g}".replace("e+0", "e").replace("e+", "e")
    step = ticks[1] - ticks[0]
    decimals = max(0, math.ceil(-math.log10(step) - 1e-9))
    decimals += round(step * 10**decimals, 6) % 1 != 0  # a step of 2.5 needs one more
    return f"{tick + 0.0:,.{decimals}f}"


def standalone(chart: str, *, title: str, legend: str) -> str:
    """A chart as an SVG file of its own: with heading, colours for light and dark, and nothing to download.

    chart: from `line_chart`; "" gives a file with the heading alone.
    """
    head = text(_LEFT, -30, title, "start") + text(_LEFT, -10, legend, "start")
    body = chart[chart.index(">") + 1 : chart.rindex("</svg>")] if chart else ""
    return svg_file(head + body, title=title, width=_WIDTH + _RIGHT, top=-_HEADING, height=_HEIGHT + _HEADING)


def svg_file(body: str, *, title: str, width: float, top: float, height: float) -> str:
    """Marks and texts on paper of this size, from `top` on, in pixels."""
    name = escape(title, quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 {top:g} {width:g} {height:g}" '
        f'width="{1.5 * width:g}" role="img" aria-label="{name}"><style>{FIGURE_STYLE}</style>'
        f'<rect class="paper" x="0" y="{top:g}" width="100%" height="100%"/>{body}</svg>\n'
    )
