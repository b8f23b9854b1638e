"""Hypothetical deployments: what a run's signal-to-noise ratio would cost at other populations, as plain records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fedemb.privacy.extrapolation import Prospect
from fedemb.report.figures import Line, line_chart
from fedemb.report.numbers import plain, upper

STYLES = ("first", "second", "third", "fourth")
UNREACHABLE = "unreachable"

Row = Mapping[str, Any]


def record(prospect: Prospect, scale_from: int) -> dict[str, Any]:
    """One population as report.json holds it. scale_from: users a round of the simulation."""
    least = prospect.least
    return {
        "users": prospect.users,
        "delta": prospect.delta,
        "signal_floor": prospect.floor,
        "least_epsilon": least.epsilon,
        "rounds": least.rounds,
        "targets": [
            {
                "target_epsilon": target,
                "deployment": None if found is None else {**asdict(found), "scale": found.users_per_round / scale_from},
            }
            for target, found in prospect.deployments.items()
        ],
    }


def targets(rows: Sequence[Row]) -> list[float]:
    """The target epsilons, in the order of the first row."""
    return [entry["target_epsilon"] for entry in rows[0]["targets"]] if rows else []


def header(rows: Sequence[Row]) -> list[str]:
    """Of the table of `cells`."""
    return ["Users", "Floor µ*", "Least ε", *(f"ε ≤ {target:g}: M, z" for target in targets(rows))]


def cells(row: Row) -> list[str]:
    """One population: the floor, the least epsilon, and for each target users a round and noise multiplier."""
    least = "∞" if row["least_epsilon"] is None else upper(row["least_epsilon"])
    known = [_population(row["users"]), f"{row['signal_floor']:.2g}", least]
    return [*known, *(_needed(entry["deployment"]) for entry in row["targets"])]


def chart(rows: Sequence[Row]) -> str:
    """The noise multiplier that each target needs against the population, as <svg>; "" where nothing is reachable."""
    lines = [
        Line(label=f"ε ≤ {target:g}", style=style, points=list(_points(rows, target)))
        for target, style in zip(targets(rows), STYLES, strict=False)
    ]
    return line_chart(
        title="Noise multiplier that a deployment needs",
        lines=lines,
        x_label="users N, as a power of ten",
        value_text=lambda value: f"z = {value:.3g}",
        named=True,
    )


def _points(rows: Sequence[Row], target: float) -> Iterable[tuple[float, float]]:
    for row in rows:
        found = next(entry["deployment"] for entry in row["targets"] if entry["target_epsilon"] == target)
        if found is not None:
            yield math.log10(row["users"]), found["noise_multiplier"]


def _population(users: int) -> str:
    """ "10^6", or the number itself."""
    exponent = len(str(users)) - 1
    return f"10^{exponent}" if users == 10**exponent and exponent > 3 else plain(users)


def _needed(deployment: Mapping[str, Any] | None) -> str:
    if deployment is None:
        return UNREACHABLE
    return f"{deployment['users_per_round']:,}, {deployment['noise_multiplier']:.3g}"
