"""fedemb extrapolate: the price of a run's signal-to-noise ratio if millions of users took part."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.table import Table

from fedemb.cli.output import as_csv, as_json, console, printer_of, write_files
from fedemb.cli.pricing import PRICING, number, whole
from fedemb.privacy.accounting import default_delta
from fedemb.privacy.extrapolation import Simulation, prospect
from fedemb.report.deployments import cells, chart, header, record
from fedemb.report.figures import standalone
from fedemb.report.numbers import counted, small, upper

CONFIG_PATH = PRICING
CONFIG = "extrapolate"

_SETTINGS = ("users_per_round", "noise_multiplier", "rounds")
_TITLE = "Noise multiplier z that keeps the run's signal-to-noise ratio"
_LEGEND = "hypothetical deployments; no line where the target is unreachable"
_WORDS = (
    "Hypothetical deployments, not the run's own ε: M = κ M0 users a round with noise multiplier z = κ z0 leave the "
    "noise on the mean update, and so the measured utility, as it was. The least ε has all users in every round; "
    "beyond z of about 3 more users a round hardly help, and none goes below µ*-Gaussian differential privacy."
)


def run(cfg: DictConfig) -> None:
    """Compute, print, write."""
    show = printer_of(cfg.format, table=_print, json=_print_json)
    simulation, users_per_client, own = _simulation(cfg) if cfg.run is None else _of_run(cfg)
    populations = _numbers(cfg, "populations")
    rows = []
    for users in populations:
        if users < simulation.users_per_round or not float(users).is_integer():
            raise ValueError(
                "populations must be whole numbers of at least "
                f"users_per_round={simulation.users_per_round}, got {users:g}"
            )
        found = prospect(
            simulation,
            users=int(users),
            targets=_numbers(cfg, "targets"),
            delta=_delta(cfg),
            users_per_client=users_per_client,
        )
        rows.append(record(found, simulation.users_per_round))
    show(simulation, own, rows)
    files = write_files(cfg, {"extrapolation.csv": _csv(rows), "extrapolation.svg": _svg(rows)})
    if files and cfg.format == "table":
        print(f"written {' and '.join(map(str, files))}")


def _simulation(cfg: DictConfig) -> tuple[Simulation, int, dict[str, Any] | None]:
    """(what was simulated, users per client, no epsilon of its own)."""
    noise_multiplier = number(cfg, "noise_multiplier")
    if noise_multiplier == 0:
        raise ValueError("noise_multiplier=0 has no signal-to-noise ratio: ε is infinite at every population; raise it")
    simulation = Simulation(
        users_per_round=whole(cfg, "users_per_round"), noise_multiplier=noise_multiplier, rounds=whole(cfg, "rounds")
    )
    return simulation, whole(cfg, "users_per_client"), None


def _of_run(cfg: DictConfig) -> tuple[Simulation, int, dict[str, Any] | None]:
    """The same of a finished run, with its own epsilon."""
    given = [key for key in _SETTINGS if cfg[key] is not None]
    if given:
        raise ValueError(f"run= takes the settings of its report: leave out {', '.join(given)}")
    path = Path(str(cfg.run)) / "report.json"
    try:
        privacy = json.loads(path.read_text(encoding="utf-8"))["privacy"]
        settings = {key: privacy[key] for key in (*_SETTINGS, "users_per_client", "users", "sampling", "provenance")}
    except FileNotFoundError:
        raise ValueError(f"{cfg.run} is not a finished run: it has no report.json") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is damaged: give users_per_round=, noise_multiplier= and rounds= instead") from None
    if "without replacement" not in settings["sampling"] or settings["provenance"] in ("dp", "private"):
        raise ValueError(
            f"{cfg.run} cannot be extrapolated: the law is for fixed-size sampling from a start that cost nothing, "
            f"this run has {settings['sampling']} and provenance={settings['provenance']}"
        )
    if not settings["noise_multiplier"] or not settings["rounds"]:
        raise ValueError(f"{cfg.run} has no noise or no rounds: its ε is infinite or zero at every population")
    own = {key: privacy.get(key) for key in ("epsilon", "epsilon_attack", "delta", "users")}
    return Simulation(**{key: settings[key] for key in _SETTINGS}), int(settings["users_per_client"]), own


def _numbers(cfg: DictConfig, key: str) -> list[float]:
    """A list of finite numbers above 0."""
    values = list(cfg[key]) if not isinstance(cfg[key], int | float | str | None) else [cfg[key]]
    if not values or any(
        isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf for value in values
    ):
        raise ValueError(f"{key} must be a list of numbers above 0, e.g. {key}=[1e5,1e6], got {key}={cfg[key]}")
    return values


def _delta(cfg: DictConfig) -> float | None:
    return None if cfg.delta is None else number(cfg, "delta")


def _print(simulation: Simulation, own: dict[str, Any] | None, rows: list[dict[str, Any]]) -> None:
    out = console()
    settings = (
        f"M0 = {simulation.users_per_round:,} users a round, z0 = {simulation.noise_multiplier:.4g}, "
        f"T = {counted(simulation.rounds, 'round')}"
    )
    out.print(f"Simulated: {settings}", markup=False)
    if own is not None:
        epsilon = "∞" if own["epsilon"] is None else upper(own["epsilon"])
        out.print(f"The run's own ε, at N = {own['users']:,}: {epsilon}", markup=False)
    delta = "N^-1.1" if rows[0]["delta"] == default_delta(rows[0]["users"]) else small(rows[0]["delta"])
    table = Table(box=None, padding=(0, 1, 0, 0), title=f"at δ = {delta}", title_justify="left")
    for position, name in enumerate(header(rows)):
        table.add_column(name.replace(": ", "\n"), justify="right" if position else "left", no_wrap=True)
    for row in rows:
        table.add_row(*cells(row))
    out.print(table)
    out.print(_WORDS, markup=False)


def _print_json(simulation: Simulation, own: dict[str, Any] | None, rows: list[dict[str, Any]]) -> None:
    print(as_json({"simulation": vars(simulation), "own": own, "deployments": rows}))


def _svg(rows: list[dict[str, Any]]) -> str:
    return standalone(chart(rows), title=_TITLE, legend=_LEGEND)


def _csv(rows: list[dict[str, Any]]) -> str:
    """One line for each population and target; empty cells where the target is unreachable."""
    names = ("scale", "users_per_round", "noise_multiplier", "rounds", "epsilon")
    known = ("users", "delta", "signal_floor", "least_epsilon")
    lines = [
        [
            *(row[name] for name in known),
            entry["target_epsilon"],
            *((entry["deployment"] or {}).get(n, "") for n in names),
        ]
        for row in rows
        for entry in row["targets"]
    ]
    return as_csv([*known, "target_epsilon", *names], lines)
