"""How a run grows with its users, from the plain records of fedemb/bench/users.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedemb.report.figures import Line, Point
from fedemb.report.numbers import duration, plain
from fedemb.report.panels import Panel, panels

HEADER = ("Users N", "M", "Start-up", "Round", "CPU", "Memory", "Ledger", "Checkpoint")
"""Of the table of `cells`: M users a round, CPU time of the whole run, peak memory, a round's line in the ledger."""

_TITLE = "fedemb train with N users, M of them a round"
_USERS = "users: N or M"
_MEGA = 1e6

Row = Mapping[str, Any]


def rows(record: Mapping[str, Any]) -> list[Row]:
    """All points, each once."""
    points = {(row["users"], row["users_per_round"]): row for row in [*record["populations"], *record["cohorts"]]}
    return list(points.values())


def cells(row: Row) -> list[str]:
    """One point."""
    return [
        plain(row["users"]),
        plain(row["users_per_round"]),
        duration(row["startup_seconds"]),
        duration(row["seconds_per_round"]),
        duration(row["processor_seconds"]),
        _megabytes(row["peak_bytes"] / _MEGA),
        f"{row['ledger_bytes_per_round']:.0f} B",
        f"{row['checkpoint_bytes'] / _MEGA:.2f} MB",
    ]


def figure(record: Mapping[str, Any], *, note: str) -> str:
    """Seconds and memory as N grows and as M does, as an SVG file. note: what it was measured on."""
    populations, cohorts = record["populations"], record["cohorts"]
    some = f"as N grows, M = {plain(populations[0]['users_per_round'])}"
    more = f"as M grows, N = {plain(cohorts[0]['users'])}"
    seconds = [
        Line(label=some, style="first", points=_points(populations, "users", "seconds_per_round")),
        Line(label=more, style="second", points=_points(cohorts, "users_per_round", "seconds_per_round")),
        Line(label="start-up, as N grows", style="third", points=_points(populations, "users", "startup_seconds")),
    ]
    memory = [
        Line(label=some, style="first", points=_points(populations, "users", "peak_bytes", _MEGA)),
        Line(label=more, style="second", points=_points(cohorts, "users_per_round", "peak_bytes", _MEGA)),
    ]
    return panels(
        [
            Panel(title="Seconds a round, and to start up", x_label=_USERS, lines=seconds, value_text=duration),
            Panel(title="Peak memory in MB", x_label=_USERS, lines=memory, value_text=_megabytes),
        ],
        title=_TITLE,
        note=note,
    )


def _points(rows: Sequence[Row], x: str, y: str, unit: float = 1.0) -> list[Point]:
    return [(row[x], row[y] / unit) for row in rows]


def _megabytes(value: float) -> str:
    return f"{value:,.0f} MB"
