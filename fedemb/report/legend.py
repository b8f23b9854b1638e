"""The legend above a plot: as many entries in a row as fit."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from fedemb.report.marks import Level, Series

_ROW, _SAMPLE, _GAP = 22, 30, 14
_LETTER = 8.6  # pixels, at the size that letters have on a phone


def legend(series: Sequence[Series], levels: Sequence[Level], *, left: float, width: float) -> tuple[str, float]:
    """(the entries, the height they take); nothing for a single line without a label."""
    samples = [(line.label, _line(line)) for line in series if line.label]
    keys = {level.label: level.key for level in levels}
    samples += [(label, f'<path class="line level {key}" d="M0,0H26"/>') for label, key in keys.items()]
    parts, x, row = [], left, 0
    for label, sample in samples:
        taken = _SAMPLE + _LETTER * len(label) + _GAP
        if x > left and x + taken - _GAP > left + width:
            x, row = left, row + 1
        parts.append(
            f'<g transform="translate({x:.1f} {14 + row * _ROW})">{sample}'
            f'<text class="key" x="{_SAMPLE + 4}" y="4.5">{escape(label)}</text></g>'
        )
        x += taken
    return "".join(parts), float(_ROW * (row + 1) + 4 if samples else 0)


def _line(line: Series) -> str:
    """A piece of the line with its marker."""
    drawn = f'<path class="line {line.style}" d="M0,0H26"/>' if len(line.line) > 1 else ""
    return f'{drawn}<path class="mark {line.style}" d="{line.shape}" transform="translate(13 0)"/>'
