"""Horizontal bars in panels as an SVG file of its own: no script, no network, colours for light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from fedemb.report.style import FIGURE_STYLE

_WIDTH, _LEFT, _RIGHT, _MARGIN = 640, 168, 120, 20
_ROW, _BAR, _HEAD, _PANEL_HEAD, _GAP, _LINE = 26, 16, 42, 24, 22, 17


@dataclass(frozen=True, kw_only=True)
class Bar:
    """value: its length, at least 0; None for words alone. words: behind the bar. style: "first", "second", …"""

    label: str
    value: float | None
    words: str
    style: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Bars on a scale of their own that starts at 0."""

    title: str
    bars: Sequence[Bar]


def bar_figure(*, title: str, legend: Sequence[str], panels: Sequence[Panel]) -> str:
    """The file's text."""
    body, height = [], float(_HEAD + _LINE * len(legend))
    for panel in panels:
        body.append(_panel(panel, height))
        height += _PANEL_HEAD + _ROW * len(panel.bars) + _GAP

    head = _text(_MARGIN, 26, title, "title")
    head += "".join(_text(_MARGIN, 46 + _LINE * row, line) for row, line in enumerate(legend))
    name = escape(title, quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:g}" width="{1.5 * _WIDTH:g}" '
        f'role="img" aria-label="{name}"><style>{FIGURE_STYLE}</style>'
        f'<rect class="paper" width="100%" height="100%"/>{head}{"".join(body)}</svg>\n'
    )


def _panel(panel: Panel, top: float) -> str:
    longest = max((bar.value or 0.0 for bar in panel.bars), default=0.0) or 1.0
    parts = [_text(_MARGIN, top + 12, panel.title, "title")]
    for row, bar in enumerate(panel.bars):
        middle = top + _PANEL_HEAD + _ROW * (row + 0.5)
        length = (_WIDTH - _LEFT - _RIGHT) * (bar.value or 0.0) / longest
        parts.append(_text(_LEFT - 10, middle + 4, bar.label, "end"))
        parts.append(
            f'<rect class="bar {bar.style}" x="{_LEFT}" y="{middle - _BAR / 2:g}" width="{length:.1f}" '
            f'height="{_BAR}"><title>{escape(f"{bar.label}: {bar.words}")}</title></rect>'
        )
        parts.append(_text(_LEFT + length + 8, middle + 4, bar.words))
    bottom = top + _PANEL_HEAD + _ROW * len(panel.bars)
    parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_LEFT}" y1="{top + _PANEL_HEAD:g}" y2="{bottom:g}"/>')
    return "".join(parts)


def _text(x: float, y: float, words: str, style: str = "") -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'
