"""Utility against epsilon: for each method the best that its settings reach with at most so much of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedemb.privacy import extrapolation
from fedemb.report import axes, looks
from fedemb.report.confidence import Estimate
from fedemb.report.marks import Level, Mark, Series
from fedemb.report.metric_names import metric_label
from fedemb.report.numbers import small, upper
from fedemb.report.plot import Plot
from fedemb.report.runs import Run, Setting, Sweep

Cost = Callable[[Run], float | None]
"""The epsilon of a run on the x axis; infinite without a guarantee; None where it has none of that kind."""

_FREE = "dashed: the same with ε = ∞"

FRACTIONS = (0.0, 1.0)
"""What every metric of an embedding lies in."""


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A setting in the plane of epsilon and utility."""

    epsilon: float
    utility: Estimate
    setting: Setting


def own(run: Run) -> float:
    """The certified epsilon of the run itself."""
    return run.epsilon


def at_users(users: int) -> Cost:
    """The least epsilon of a hypothetical deployment at so many users with the run's signal-to-noise ratio."""

    def cost(run: Run) -> float | None:
        privacy = run.summary.section("privacy")
        if privacy.get("noise_multiplier") == 0:
            return math.inf
        for row in run.summary.report.get("extrapolation") or []:
            if row.get("users") == users:
                return math.inf if row["least_epsilon"] is None else float(row["least_epsilon"])
        return _least(privacy, users) if run.summary.report.get("extrapolation") else None

    return cost


def front(spots: Sequence[Spot]) -> tuple[list[Spot], list[Spot]]:
    """(the frontier by epsilon, the others): on the frontier is what no setting of less or equal epsilon beats."""
    best, others = list[Spot](), list[Spot]()
    for spot in sorted(spots, key=lambda spot: (spot.epsilon, -spot.utility.mean)):
        on_it = not best or spot.utility.mean > best[-1].utility.mean
        (best if on_it else others).append(spot)
    return best, others


def frontier(sweep: Sweep, metric: str, cost: Cost, x_label: str) -> str:
    """The chart as <svg>; "" where fewer than two settings have an epsilon."""
    series, levels, count = [], [], 0
    for name, settings in sweep.methods.items():
        spots = _spots(settings, metric, cost)
        style, shape = looks.method(sweep.place(settings[0].first))
        on, off = front([spot for spot in spots if math.isfinite(spot.epsilon)])
        count += len(on) + len(off)
        if on:
            series.append(_series(name, style, shape, on, off))
        free = [spot for spot in spots if math.isinf(spot.epsilon)]
        if free:
            best = max(free, key=lambda spot: spot.utility.mean)
            told = f"{name}, {best.setting.label or 'no noise'}: {best.utility.words}; ε = ∞"
            label, key = (_FREE, "neutral") if on else (f"{name}, ε = ∞", style)
            levels.append(Level(label=label, style=style, key=key, y=best.utility.mean, words=told))
    if count < 2:
        return ""
    return Plot(
        title=f"{metric_label(metric)} against ε",
        x_label=x_label,
        y_label=metric_label(metric),
        x_axis=axes.powers,
        y_axis=axes.linear,
        series=series,
        levels=levels,
        limits=FRACTIONS,
    ).svg()


def epsilon_label(sweep: Sweep) -> str:
    """Of the runs' own epsilon: with delta, which they may share, and the unit."""
    units = " / ".join(dict.fromkeys(run.unit for run in sweep.runs))
    deltas = {run.summary.section("privacy").get("delta") for run in sweep.runs}
    delta = f"δ = {small(deltas.pop())}" if len(deltas) == 1 else "each run's own δ"
    return f"certified {units}-level ε, {delta}"


def users_label(users: int) -> str:
    """Of the x axis with deployments at so many users."""
    return f"least ε of a hypothetical deployment, N = {users:,}, δ = N^-1.1"


def _spots(settings: Sequence[Setting], metric: str, cost: Cost) -> list[Spot]:
    """The settings that have both an epsilon and a value."""
    spots = []
    for setting in settings:
        values = [value for run in setting.runs if (value := run.metric(metric)) is not None]
        costs = [value for run in setting.runs if (value := cost(run)) is not None]
        if values and costs and max(costs) > 0:
            spots.append(Spot(epsilon=max(costs), utility=Estimate.of(values), setting=setting))
    return spots


def _series(name: str, style: str, shape: str, on: Sequence[Spot], off: Sequence[Spot]) -> Series:
    """A method's line, its band over seeds, and the settings that it passes by."""
    marks = [
        [Mark(x=spot.epsilon, y=spot.utility.mean, words=_told(name, spot)) for spot in spots] for spots in (on, off)
    ]
    seeds = max(spot.utility.seeds for spot in on)
    band = [(spot.epsilon, spot.utility.low, spot.utility.high) for spot in on] if seeds > 1 else []
    return Series(label=name, style=style, shape=shape, line=marks[0], loose=marks[1], band=band)


def _told(name: str, spot: Spot) -> str:
    label = f"{name}, {spot.setting.label}" if spot.setting.label else name
    return f"{label}: {spot.utility.words}; ε ≤ {upper(spot.epsilon)}"


def _least(privacy: Mapping[str, Any], users: int) -> float | None:
    """For a population that the report does not hold; None where it is smaller than a round."""
    if users < privacy["users_per_round"]:
        return None
    simulation = extrapolation.Simulation(
        users_per_round=privacy["users_per_round"],
        noise_multiplier=privacy["noise_multiplier"],
        rounds=privacy["rounds"],
    )
    return extrapolation.least_epsilon(simulation, users=users).epsilon
