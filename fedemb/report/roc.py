"""Verification over all pairs: recall against the false accept rate, a line a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fedemb.report import axes, looks
from fedemb.report.frontier import FRACTIONS
from fedemb.report.marks import Mark, Series
from fedemb.report.numbers import metric
from fedemb.report.plot import Plot

_PLACES = 49
_LOWEST = 1e-6

Curve = tuple[Sequence[float], Sequence[float]]
"""(false accept rates, ascending; the recall at each)."""


def chart(curves: Mapping[str, Curve]) -> str:
    """Models by their label; "" where no curve has a false accept rate above 0."""
    lines = []
    for place, (label, (fars, recalls)) in enumerate(curves.items()):
        style, shape = looks.method(place)
        marks = [
            Mark(x=far, y=recall, words=f"{label}: recall {metric(recall)} at FAR {far:.2g}")
            for far, recall in thinned(fars, recalls)
        ]
        lines.append(Series(label=label, style=style, shape=shape, line=marks))
    return Plot(
        title="Recall against the false accept rate",
        x_label="false accept rate (FAR)",
        y_label="recall (true accept rate)",
        x_axis=axes.powers,
        y_axis=axes.linear,
        series=lines,
        held=FRACTIONS,
    ).svg()


def thinned(fars: Sequence[float], recalls: Sequence[float]) -> list[tuple[float, float]]:
    """The curve at rates that are equally many times apart, at each the recall of the nearest rate below."""
    known, values = np.asarray(fars, dtype=float), np.asarray(recalls, dtype=float)
    positive = known[known > 0]
    if len(positive) == 0:
        return []
    grid = np.geomspace(max(positive.min(), _LOWEST), 1.0, _PLACES)
    at = np.searchsorted(known, grid * (1 + 1e-12), side="right") - 1
    return [(float(far), float(values[place])) for far, place in zip(grid, at, strict=True) if place >= 0]
