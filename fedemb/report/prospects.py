"""What the signal-to-noise ratio of the best runs would cost at more users: hypothetical, and marked so."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from fedemb.report import axes, deployments, looks
from fedemb.report.confidence import Estimate
from fedemb.report.marks import Mark, Series
from fedemb.report.metric_names import metric_label
from fedemb.report.numbers import metric as metric_text
from fedemb.report.numbers import upper
from fedemb.report.plot import Plot
from fedemb.report.ramp import Owner, spread, together
from fedemb.report.runs import Run, Setting, Sweep
from fedemb.report.tables import grid_table


def chart(sweep: Sweep, metric: str) -> str:
    """The least epsilon against the population, a line for each different ratio; "" where none can be extrapolated."""
    found = dict[str, tuple[Setting, list[Owner], list[str]]]()
    for name, settings in sweep.methods.items():
        for setting in settings:
            points = [(row["users"], row["least_epsilon"]) for row in _rows(setting.first) if row["least_epsilon"]]
            if points:
                _, owners, told = found.setdefault(str(points), (setting, [], []))
                owners.append((name, setting.label))
                told.append(_words(name, setting, metric))
    chosen = spread(sorted(found.values(), key=lambda entry: -entry[0].epsilon))
    lines = []
    for place, (setting, owners, told) in enumerate(chosen):
        style, shape = looks.step(place, len(chosen))
        marks = [
            Mark(
                x=row["users"],
                y=row["least_epsilon"],
                words=f"N = {row['users']:,}: least ε ≤ {upper(row['least_epsilon'])}; in the run {'; '.join(told)}",
            )
            for row in _rows(setting.first)
            if row["least_epsilon"]
        ]
        lines.append(Series(label=together(owners), style=style, shape=shape, line=marks))
    return Plot(
        title="Least ε of a hypothetical deployment against its users",
        x_label="users N of a hypothetical deployment, all in every round",
        y_label="least ε at δ = N^-1.1",
        x_axis=axes.powers,
        y_axis=axes.powers,
        series=lines,
    ).svg()


def _words(name: str, setting: Setting, metric: str) -> str:
    """ "DP-FedEmb, z = 0.1: Recall at FAR 0.001 0.2810"."""
    values = [value for run in setting.runs if (value := run.metric(metric)) is not None]
    utility = f": {metric_label(metric)} {Estimate.of(values).words}" if values else ""
    return ", ".join(filter(None, (name, setting.label))) + utility


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
