"""The points of a sweep as a table for the console."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table

from fedemb.cli.output import numbers_table
from fedemb.report.numbers import DASH, lower, metric, small, upper
from fedemb.report.summary import EMA
from fedemb.server.sweep_folder import Point, Status


def points_table(points: Sequence[Point]) -> Table:
    """A line a point: what it differs in, its metrics (the averaged model's where there is one), its own ε with δ."""
    own, names = varying(points), _metric_names(points)
    table = numbers_table(["point", *own, *names, "own ε", "δ", "status"])
    for point in points:
        values = dict(_split(word) for word in point.overrides)
        settings = [values.get(key, DASH) for key in own]
        measured = [metric(point.metrics.get(name)) for name in names]
        status = "unfinished" if point.status is Status.RUNNING else str(point.status)
        table.add_row(str(point.number), *settings, *measured, *_spent(point), status)
    return table


def epsilon_terms(points: Sequence[Point]) -> str:
    """What the ε of the points is about."""
    condition = {"simulate": ", if the seed were secret"}
    terms = [
        f"{point.privacy['unit']}-level, {point.privacy['relation']}{condition.get(point.privacy['mode'], '')}"
        for point in points
        if point.privacy
    ]
    return f"ε: {'; '.join(dict.fromkeys(terms))}" if terms else ""


def varying(points: Sequence[Point]) -> list[str]:
    """The keys in which points differ, in the order of the commands."""
    told = [dict(_split(word) for word in point.overrides) for point in points]
    keys = dict.fromkeys(key for values in told for key in values)
    return [key for key in keys if len({values.get(key) for values in told}) > 1]


def _spent(point: Point) -> tuple[str, str]:
    """(interval of ε, δ)."""
    if not point.privacy:
        return DASH, DASH
    found = [point.privacy["epsilon_attack"], point.privacy["epsilon"]]
    low, high = (math.inf if value is None else value for value in found)
    return f"[{lower(low)}, {upper(high)}]", small(point.privacy["delta"])


def _metric_names(points: Sequence[Point]) -> list[str]:
    names = list(dict.fromkeys(name for point in points for name in point.metrics))
    return [name for name in names if EMA + name not in names]


def _split(word: str) -> tuple[str, str]:
    key, _, value = word.partition("=")
    return key, value
