"""Charts over powers of ten, side by side in one SVG file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fedemb.report.figures import Line, curve, svg_file, text

_WIDTH, _HEIGHT = 470, 300  # of a panel
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 22, 34, 44
_HEADING, _LEGEND_LINE = 54, 20
_SAMPLE = 34  # pixels of a line in the legend
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_FEW = 3  # powers of ten that have ticks between them


@dataclass(frozen=True, kw_only=True)
class PowerAxis:
    """A logarithmic map from [low, high] to pixels; low, high > 0 are its first and last tick."""

    start: float
    end: float
    ticks: tuple[float, ...]

    @classmethod
    def covering(cls, values: Iterable[float], *, start: float, end: float) -> PowerAxis:
        """An axis that holds all values, each > 0: ticks at powers of ten, and at 2 and 5 times those of a few.

        Values within one power of ten get all of it: what is nearly constant looks so.
        """
        logs = [math.log10(value) for value in values]
        low, high = math.floor(min(logs)), max(math.ceil(max(logs)), math.floor(min(logs)) + 1)
        factors = (1, 2, 5) if high - low <= _FEW else (1,)
        ticks = [10.0**power * factor for power in range(low, high) for factor in factors] + [10.0**high]
        if high - low > 1:
            ticks = [
                tick
                for tick, before, after in zip(ticks, [0.0, *ticks], [*ticks[1:], math.inf], strict=False)
                if math.log10(after) > min(logs) and (before == 0 or math.log10(before) < max(logs))
            ]
        return cls(start=start, end=end, ticks=tuple(ticks))

    def at(self, value: float) -> float:
        """The pixel of a value > 0."""
        low, high = math.log10(self.ticks[0]), math.log10(self.ticks[-1])
        return self.start + (math.log10(value) - low) / (high - low) * (self.end - self.start)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One chart. lines: x and y > 0. value_text: how a value reads when the pointer rests on a marker."""

    title: str
    x_label: str
    lines: Sequence[Line]
    value_text: Callable[[float], str]


def panels(charts: Sequence[Panel], *, title: str, note: str) -> str:
    """An SVG file of charts from left to right, under title, note and a legend that has each label once."""
    labels = {line.label: line.style for chart in charts for line in chart.lines}
    top = _HEADING + _LEGEND_LINE * len(labels)
    parts = [text(_LEFT, 24, title, "start"), text(_LEFT, 24 + _LEGEND_LINE, note, "start")]
    for place, (label, style) in enumerate(labels.items()):
        parts.append(_legend(label, style, _HEADING + _LEGEND_LINE * (place + 0.5)))
    parts += [_panel(chart, place * _WIDTH, top) for place, chart in enumerate(charts)]
    return svg_file("".join(parts), title=title, width=_WIDTH * len(charts), top=0, height=top + _HEIGHT)


def _legend(label: str, style: str, height: float) -> str:
    end = _LEFT + _SAMPLE
    line = f'<polyline class="line {style}" points="{_LEFT},{height:g} {end},{height:g}"/>'
    return line + text(end + 10, height + 4, label, "start")


def _panel(chart: Panel, left: float, top: float) -> str:
    points = [point for line in chart.lines for point in line.points]
    x = PowerAxis.covering([p[0] for p in points], start=left + _LEFT, end=left + _WIDTH - _RIGHT)
    y = PowerAxis.covering([p[1] for p in points], start=top + _HEIGHT - _BOTTOM, end=top + _TOP)
    parts = [text(x.start, top + 18, chart.title, "start")]
    for tick in y.ticks:
        height = y.at(tick)
        parts.append(f'<line class="grid" x1="{x.start:g}" x2="{x.end:g}" y1="{height:.1f}" y2="{height:.1f}"/>')
        parts.append(text(x.start - 8, height + 4, power_text(tick), "end"))
    for tick in x.ticks:
        place = x.at(tick)
        parts.append(f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="{y.start:g}" y2="{y.start + 4:g}"/>')
        parts.append(text(place, y.start + 19, power_text(tick), "middle"))
    parts.append(text((x.start + x.end) / 2, top + _HEIGHT - 6, chart.x_label, "middle"))
    parts += [curve(line, x, y, chart.value_text, chart.x_label) for line in chart.lines]
    return "".join(parts)


def power_text(tick: float) -> str:
    """From 0.001 to 5,000 in full, a power of ten beyond."""
    if 1e-3 <= tick < 1e4:
        return f"{tick:,.10g}"
    power = math.floor(math.log10(tick) + 1e-9)
    factor = f"{tick / 10.0**power:g}·"
    return f"{factor}10{str(power).translate(_SUPERSCRIPTS)}".removeprefix("1·")
