"""Plots of a page about several runs: lines with bands, markers and a legend, as one <svg> element.

A plot is complete by itself: axes with names and units, a legend, no heading. On a page its colours follow the
page's style sheet; `fedemb.report.files` makes files of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from fedemb.report.axes import AxisMaker, Ticked
from fedemb.report.legend import legend
from fedemb.report.marks import Level, Mark, Series, marker, path_of

WIDTH, HEIGHT = 520, 330
LEFT, RIGHT, TOP, BOTTOM = 72, 18, 10, 48
_END = WIDTH - RIGHT


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One chart.

    x_axis, y_axis: make the scales. held: y values that the y axis has to hold besides the marks.
    under, over: SVG behind and before the curves, from the two scales. limits: what a band may not leave.
    """

    title: str
    x_label: str
    y_label: str
    x_axis: AxisMaker
    y_axis: AxisMaker
    series: Sequence[Series] = ()
    levels: Sequence[Level] = ()
    held: Sequence[float] = field(default=())
    limits: tuple[float, float] | None = None

    def svg(self) -> str:
        """The element; "" where there is nothing to draw."""
        marks = [mark for line in self.series for mark in [*line.line, *line.loose]]
        if not marks:
            return ""
        keys, rows_height = legend(self.series, self.levels, left=LEFT, width=_END - LEFT)
        top = TOP + rows_height
        x, x_texts = self.x_axis([mark.x for mark in marks], LEFT, _END)
        y, y_texts = self.y_axis(self._heights(marks), top + HEIGHT - BOTTOM, top + 8)
        body = [keys, frame(x, x_texts, y, y_texts, self.x_label, self.y_label)]
        body += [_shade(line, x, y, self.limits) for line in self.series]
        body += [_level(level, y, self.limits) for level in self.levels]
        body += [_curve(line, x, y) for line in self.series]
        return element(self.title, "".join(body), height=top + HEIGHT)

    def _heights(self, marks: Sequence[Mark]) -> list[float]:
        """What the y axis has to hold: marks, bands within the limits, levels."""
        ends = [end for line in self.series for _, *ends in line.band for end in ends]
        if self.limits:
            ends = [min(max(end, self.limits[0]), self.limits[1]) for end in ends]
        return [*(mark.y for mark in marks), *ends, *(level.y for level in self.levels), *self.held]


def element(title: str, body: str, *, height: float, width: float = WIDTH) -> str:
    """An <svg> of that size, in pixels."""
    name = escape(title, quote=True)
    return f'<svg class="plot" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{name}">{body}</svg>'


def frame(x: Ticked, x_texts: Sequence[str], y: Ticked, y_texts: Sequence[str], x_label: str, y_label: str) -> str:
    """Grid, ticks and the names of the axes."""
    bottom, top = y.at(y.ticks[0]), y.at(y.ticks[-1])
    parts = []
    for tick, text in zip(y.ticks, y_texts, strict=True):
        height = y.at(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{_END}" y1="{height:.1f}" y2="{height:.1f}"/>')
        parts.append(words(LEFT - 8, height + 4.5, text, "end"))
    for tick, text in zip(x.ticks, x_texts, strict=True):
        place = x.at(tick)
        parts.append(f'<line class="tick" x1="{place:.1f}" x2="{place:.1f}" y1="{bottom:.1f}" y2="{bottom + 4:.1f}"/>')
        parts.append(words(place, bottom + 19, text, "middle"))
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{_END}" y1="{bottom:.1f}" y2="{bottom:.1f}"/>')
    parts.append(words((LEFT + _END) / 2, bottom + 41, x_label, "middle", "name"))
    middle = (bottom + top) / 2
    parts.append(
        f'<text class="name" x="14" y="{middle:.1f}" text-anchor="middle" '
        f'transform="rotate(-90 14 {middle:.1f})">{escape(y_label)}</text>'
    )
    return "".join(parts)


def words(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    """Words at a point, in pixels; nothing for none."""
    kind = f' class="{style}"' if style else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>' if text else ""


def _shade(line: Series, x: Ticked, y: Ticked, limits: tuple[float, float] | None) -> str:
    """The band of a line."""
    if len(line.band) < 2:
        return ""
    low, high = limits or (-float("inf"), float("inf"))
    upper = [(x.at(px), y.at(min(end, high))) for px, _, end in line.band]
    lower = [(x.at(px), y.at(max(start, low))) for px, start, _ in line.band]
    points = " ".join(f"{px:.1f},{py:.1f}" for px, py in [*upper, *reversed(lower)])
    return f'<polygon class="shade {line.style}" points="{points}"/>'


def _level(level: Level, y: Ticked, limits: tuple[float, float] | None) -> str:
    """A line across the plot."""
    height = y.at(level.y)
    return (
        f'<g class="point"><title>{escape(level.words)}</title>'
        f'<line class="hit" x1="{LEFT}" x2="{_END}" y1="{height:.1f}" y2="{height:.1f}"/>'
        f'<line class="line level {level.style}" x1="{LEFT}" x2="{_END}" y1="{height:.1f}" y2="{height:.1f}"/></g>'
    )


def _curve(line: Series, x: Ticked, y: Ticked) -> str:
    """A line through its marks, then the marks, each of which tells its value."""
    path = path_of([(x.at(mark.x), y.at(mark.y)) for mark in line.line])
    parts = [f'<path class="line {line.style}" d="{path}"/>'] if len(line.line) > 1 else []
    for marks, kind in ((line.loose, "mark loose"), (line.line, "mark")):
        parts += [marker(mark, x, y, line, kind) for mark in marks]
    return "".join(parts)
