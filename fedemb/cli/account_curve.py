"""fedemb account curve: epsilon after each of some twenty rounds, as a table, curve.csv and curve.svg."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
from omegaconf import DictConfig

from fedemb.cli.charged import Charged
from fedemb.cli.output import aligned, as_csv, console, numbers_table, show, write_files
from fedemb.privacy.accounting import PrivacySpend, spend
from fedemb.report.figures import Line, line_chart, standalone
from fedemb.report.numbers import small, upper

_POINTS = 20  # at equal distances, besides the round powers of ten and their doubles and halves
_FEW_POINTS = 8  # where many rounds are all different and a point takes seconds
_FEW_SETTINGS = 64
_COLUMNS = ("round", "epsilon_attack", "epsilon")


def run(cfg: DictConfig, what: Charged) -> None:
    """Print the curve; write it where out= says."""
    shown = rounds_shown(what.rounds, _POINTS if len(what.events) <= _FEW_SETTINGS else _FEW_POINTS)
    curve = [(rounds, spend(what.first(rounds).events, what.delta)) for rounds in shown]
    rows = [(rounds, spent.epsilon_attack, spent.epsilon) for rounds, spent in curve]
    terms = {"unit": what.unit, "user": what.user, "relation": "substitute-one", "delta": what.delta}
    points = [{"round": rounds, **asdict(spent)} for rounds, spent in curve]
    files = write_files(cfg, {"curve.csv": as_csv(_COLUMNS, rows), "curve.svg": _figure(what, curve)})
    answer = {**terms, **what.settings, "curve": points, "files": [str(path) for path in files]}

    def table() -> None:
        out = console()
        out.print(_title(what))
        grid = numbers_table(("round", "attack ε", "certified ε"))
        for rounds, spent in curve:
            grid.add_row(f"{rounds:,}", aligned(spent.epsilon_attack, math.floor), aligned(spent.epsilon, math.ceil))
        out.print(grid)
        for path in files:
            out.print(f"wrote {path}")

    show(cfg, answer, table)


def rounds_shown(rounds: int, points: int) -> list[int]:
    """Increasing numbers of rounds up to the last: equal distances, and 1, 2, 5, 10, 20, 50, ... before the first."""
    even = {int(value) for value in np.rint(np.linspace(0, rounds, points + 1)[1:])}
    first = max(min(even), 1)
    early = {factor * 10**power for power in range(len(str(first))) for factor in (1, 2, 5)}
    return sorted({value for value in even if value >= 1} | {value for value in early if value < first})


def _title(what: Charged) -> str:
    sampling = what.settings["sampling"] or "rounds of several kinds"
    return f"ε by round at δ = {small(what.delta)}, substitute-one, {what.unit}-level, {sampling}"


def _figure(what: Charged, curve: list[tuple[int, PrivacySpend]]) -> str:
    """The certified curve over the band down to the attack; a single point, or an infinite one, has no curve."""
    finite = [(rounds, spent) for rounds, spent in curve if math.isfinite(spent.epsilon)]
    start = [(0.0, 0.0)] if finite else []
    certified = [*start, *((float(rounds), spent.epsilon) for rounds, spent in finite)]
    attack = [*start, *((float(rounds), spent.epsilon_attack) for rounds, spent in finite)]
    line = Line(label="certified ε", style="first", points=certified)
    chart = line_chart(title=_title(what), lines=[line], x_label="round", value_text=upper, band=(attack, certified))
    legend = "line: certified ε (upper bound); band: down to what an attack shows"
    return standalone(chart, title=f"ε at δ = {small(what.delta)}, {what.unit}-level, substitute-one", legend=legend)
