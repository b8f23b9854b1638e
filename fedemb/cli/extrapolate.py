"""fedemb extrapolate: the price of a run's signal-to-noise ratio if millions of users took part."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from fedemb.cli.pricing import PRICING, number, whole
from fedemb.core.files import write_atomically
from fedemb.privacy.accounting import default_delta
from fedemb.privacy.extrapolation import Simulation, prospect
from fedemb.report.deployments import cells, chart, header, record
from fedemb.report.figures import standalone
from fedemb.report.numbers import small, upper
from fedemb.report.record import finite

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
    if cfg.format not in ("table", "json"):
        raise ValueError(f"format must be one of table, json, got format={cfg.format}")
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
    answer = {"simulation": vars(simulation), "own": own, "deployments": rows}
    if cfg.format == "json":
        print(json.dumps(finite(answer), indent=2, allow_nan=False, ensure_ascii=False))
    else:
        _print(simulation, own, rows)
    if cfg.out is not None:
        _write(Path(str(cfg.out)), rows, quiet=cfg.format == "json")


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
    console = Console(highlight=False, soft_wrap=True)
    settings = (
        f"M0 = {simulation.users_per_round:,} users a round, z0 = {simulation.noise_multiplier:.4g}, "
        f"T = {simulation.rounds:,} rounds"
    )
    console.print(f"Simulated: {settings}", markup=False)
    if own is not None:
        epsilon = "∞" if own["epsilon"] is None else upper(own["epsilon"])
        console.print(f"The run's own ε, at N = {own['users']:,}: {epsilon}", markup=False)
    delta = "N^-1.1" if rows[0]["delta"] == default_delta(rows[0]["users"]) else small(rows[0]["delta"])
    table = Table(box=None, padding=(0, 1, 0, 0), title=f"at δ = {delta}", title_justify="left")
    for position, name in enumerate(header(rows)):
        table.add_column(name.replace(": ", "\n"), justify="right" if position else "left", no_wrap=True)
    for row in rows:
        table.add_row(*cells(row))
    console.print(table)
    console.print(_WORDS, markup=False)


def _write(out: Path, rows: list[dict[str, Any]], *, quiet: bool) -> None:
    """extrapolation.csv and extrapolation.svg."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "extrapolation.csv", _table(rows))
        write_atomically(out / "extrapolation.svg", standalone(chart(rows), title=_TITLE, legend=_LEGEND))
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror}; take another out=") from error
    if not quiet:
        print(f"written {out / 'extrapolation.csv'} and {out / 'extrapolation.svg'}")


def _table(rows: list[dict[str, Any]]) -> str:
    """One line for each population and target; empty cells where the target is unreachable."""
    text = io.StringIO()
    names = ("scale", "users_per_round", "noise_multiplier", "rounds", "epsilon")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["users", "delta", "signal_floor", "least_epsilon", "target_epsilon", *names])
    for row in rows:
        for entry in row["targets"]:
            found = entry["deployment"] or {}
            known = [row["users"], row["delta"], row["signal_floor"], row["least_epsilon"], entry["target_epsilon"]]
            writer.writerow([*known, *(found.get(name, "") for name in names)])
    return text.getvalue()
