"""What the signal-to-noise ratio of the best runs would cost at more users: hypothetical, and marked so."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from fedemb.report import axes, deployments, looks
from fedemb.report.marks import Mark, Series
from fedemb.report.metric_names import metric_label
from fedemb.report.numbers import metric as metric_text
from fedemb.report.numbers import upper
from fedemb.report.plot import Plot
from fedemb.report.runs import Run
from fedemb.report.tables import grid_table


def chart(best: Mapping[str, Run], metric: str) -> str:
    """The least epsilon against the population, a line a method; "" where no run can be extrapolated."""
    lines = []
    for place, (name, run) in enumerate(best.items()):
        style, shape = looks.method(place)
        value = f"{metric_label(metric)} {metric_text(run.metric(metric))}"
        marks = [
            Mark(
                x=row["users"],
                y=row["least_epsilon"],
                words=f"{name}, N = {row['users']:,}: least ε ≤ {upper(row['least_epsilon'])}; {value} in the run",
            )
            for row in _rows(run)
            if row["least_epsilon"]
        ]
        if marks:
            lines.append(Series(label=name, style=style, shape=shape, line=marks))
    return Plot(
        title="Least ε of a hypothetical deployment against its users",
        x_label="users N of a hypothetical deployment, all in every round",
        y_label="least ε at δ = N^-1.1",
        x_axis=axes.powers,
        y_axis=axes.powers,
        series=lines,
    ).svg()


def tables(best: Mapping[str, Run], metric: str) -> str:
    """For each method what a deployment needs to meet a few targets."""
    parts = []
    for name, run in best.items():
        rows = _rows(run)
        if rows:
            title = f"{name}: {metric_label(metric)} {metric_text(run.metric(metric))}"
            table = grid_table(deployments.header(rows), [deployments.cells(row) for row in rows], "wide")
            parts.append(f"<details><summary>{escape(title)}</summary>{table}</details>")
    return "".join(parts)


def _rows(run: Run) -> list[Mapping[str, Any]]:
    return [row for row in run.summary.report.get("extrapolation") or [] if isinstance(row, Mapping)]
