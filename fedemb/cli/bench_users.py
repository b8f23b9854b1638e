"""fedemb bench suite=users: what more users cost, in all and in a round."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from fedemb.bench import users
from fedemb.cli.bench_ways import threads
from fedemb.cli.output import console, numbers_table
from fedemb.cli.pricing import number, whole
from fedemb.core import check
from fedemb.report import scaling


def measure(cfg: DictConfig) -> dict[str, Any]:
    """Every point `runs` times, in turn, as JSON values."""
    seconds, count, runs = number(cfg, "timeout_seconds"), whole(cfg, "threads"), whole(cfg, "runs")
    check.positive("timeout_seconds", seconds)
    check.at_least("threads", count, 1)
    check.at_least("runs", runs, 1)
    points = list(dict.fromkeys([*users.POPULATIONS, *users.COHORTS]))
    turns = track(range(runs), description="users", console=Console(stderr=True), transient=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(count)}
    return {**users.record(users.measure(points, turns, environment=environment, seconds=seconds)), "complete": True}


def table(answer: Mapping[str, Any]) -> None:
    """Print a line for each point."""
    shown = numbers_table(list(scaling.HEADER))
    for row in scaling.rows(answer):
        shown.add_row(*scaling.cells(row))
    console().print(shown)


def figure(answer: Mapping[str, Any]) -> str:
    """Seconds and memory against users."""
    settings, machine = answer["settings"], answer["machine"]
    runs = "One run each" if settings["runs"] == 1 else f"Medians of {settings['runs']} runs in turn"
    note = f"{runs}, {threads(settings)}, {machine['cores']} cores, {machine['cpu']}"
    return scaling.figure(answer, note=note)
