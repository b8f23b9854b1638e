"""What a run folder says about its run: read once, used by every table and figure."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedemb.server.hooks import NOT_METRICS

EMA = "ema/"
"""Prefix of a metric that was measured on the moving average of the model."""


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One run.

    report: report.json. rows: metrics.csv, a mapping a line, None where a cell is empty or not finite.
    config: config.yaml as it was written; "" without one.
    """

    name: str
    report: Mapping[str, Any]
    rows: tuple[Mapping[str, float | None], ...]
    config: str

    def section(self, key: str) -> Mapping[str, Any]:
        """A group of the report; empty where the run has none."""
        found = self.report.get(key)
        return found if isinstance(found, Mapping) else {}

    def metric(self, name: str) -> float | None:
        """The last value: of the moving average where there is one, as that is the model that is exported."""
        values = self.section("metrics")
        value = values.get(EMA + name, values.get(name))
        return None if value is None else float(value)

    def metric_names(self) -> list[str]:
        """Every metric of the report or the history once, without the EMA prefix, in the order of appearance."""
        columns = [name for row in self.rows for name in row if name not in NOT_METRICS]
        names = [*self.section("metrics"), *columns]
        return list(dict.fromkeys(name.removeprefix(EMA) for name in names))

    def curve(self, column: str) -> list[tuple[float, float]]:
        """(round, value) wherever the history has both, in order of round."""
        points = [(row.get("round"), row.get(column)) for row in self.rows]
        return sorted((x, y) for x, y in points if x is not None and y is not None)


def read_run(run: Path) -> RunSummary:
    """Read report.json, and metrics.csv and config.yaml where they exist.

    Raises: ValueError that names the file, where report.json is missing or either file cannot be understood.
    """
    record = run / "report.json"
    if not record.is_file():
        raise ValueError(f"{run} is not a finished run: it has no report.json")
    try:
        report = json.loads(record.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{record} is not valid JSON: {error}") from error
    if not isinstance(report, dict):
        raise ValueError(f"{record} must hold a JSON object, got {type(report).__name__}")
    history, config = run / "metrics.csv", run / "config.yaml"
    return RunSummary(
        name=str(report.get("recipe") or run.resolve().name),
        report=report,
        rows=_read_rows(history) if history.is_file() else (),
        config=config.read_text(encoding="utf-8") if config.is_file() else "",
    )


def _read_rows(history: Path) -> tuple[Mapping[str, float | None], ...]:
    with history.open(newline="", encoding="utf-8") as lines:
        try:
            return tuple({name: _number(cell) for name, cell in row.items()} for row in csv.DictReader(lines))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{history} has a cell that is not a number: {error}") from error


def _number(cell: str | None) -> float | None:
    value = float(cell) if cell else math.nan
    return value if math.isfinite(value) else None
