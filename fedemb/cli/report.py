"""fedemb report: run folders to one page and its figures."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, ListConfig

from fedemb.cli.looks import looks_of
from fedemb.cli.output import console
from fedemb.cli.settings import path as folder_of
from fedemb.core import check
from fedemb.core.files import write_atomically
from fedemb.report.chapters import OWN
from fedemb.report.choices import MOST
from fedemb.report.files import MISSING, write_figures
from fedemb.report.frame import frame
from fedemb.report.numbers import counted
from fedemb.report.overview import overview
from fedemb.report.runs import Run, Sweep, read_sweep

CONFIG_PATH = "pkg://fedemb.conf"
CONFIG = "report"

_INDIVIDUALS = ("simulations", "always", "never")


def run(cfg: DictConfig) -> None:
    """Read, draw, write; nothing is written before everything has been drawn."""
    out, populations = folder_of(cfg, "out"), _populations(cfg)
    if cfg.individuals not in _INDIVIDUALS:
        raise ValueError(f"individuals must be one of {', '.join(_INDIVIDUALS)}, got individuals={cfg.individuals}")
    check.at_least("most_images", cfg.most_images, 1)
    sweep = read_sweep(_places(cfg))
    metric = _metric(cfg, sweep)
    looks, notes = looks_of(
        _models(cfg, sweep, metric),
        device=cfg.device,
        most_images=cfg.most_images,
        individuals=lambda run: {"simulations": run.simulated, "always": True, "never": False}[cfg.individuals],
    )
    shown, methods = len(sweep.leading(metric, MOST)), len(sweep.best(metric))
    if cfg.models == "best" and shown < methods:
        notes.append(f"test images for {shown} of {methods} methods, the best ones; name others with models=[RUN,...]")
    made = overview(
        sweep,
        metric=metric,
        populations=populations,
        looks=looks,
        asked=cfg.individuals == "always",
        notes=notes,
    )
    table = frame(sweep).to_csv(index=False)
    try:
        out.mkdir(parents=True, exist_ok=True)
        drawn = write_figures(out / "figures", made.charts)
        write_atomically(out / "runs.csv", table)
        write_atomically(out / "report.html", made.html)
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror}; take another out=") from error
    show = console()
    notes += [f"not finished, left out: {folder}" for folder in sweep.unfinished]
    notes += [f"damaged, left out: {told}" for told in sweep.damaged]
    for note in notes:
        show.print(note)
    if not drawn:
        show.print(MISSING)
    runs = counted(len(sweep.runs), "run")
    show.print(f"{runs}, {counted(len(made.charts), 'figure')} in {out / 'figures'}")
    show.print(f"table   {out / 'runs.csv'}")
    show.print(f"report  {out / 'report.html'}")


def _places(cfg: DictConfig) -> list[str]:
    """runs= or run= as a list of texts."""
    given = [cfg[key] for key in ("runs", "run") if cfg[key] is not None]
    if len(given) != 1:
        raise ValueError("name the runs with one of runs= and run=, e.g. fedemb report runs=runs/sweep out=report")
    places = list(given[0]) if isinstance(given[0], ListConfig) else [given[0]]
    if not places or not all(isinstance(place, str | int) and str(place).strip() for place in places):
        raise ValueError(f"runs must be a folder, a pattern or a list of them, got runs={given[0]}")
    return [str(place) for place in places]


def _populations(cfg: DictConfig) -> list[int]:
    """What the frontier's x axis can be, the one that is shown first in front."""
    listed = list(cfg.populations) if isinstance(cfg.populations, ListConfig) else [cfg.populations]
    users = [_users("populations", value) for value in listed]
    if cfg.epsilon_at == "run":
        return [OWN, *users]
    return [_users("epsilon_at", cfg.epsilon_at, "run, or "), OWN, *users]


def _users(key: str, value: object, other: str = "") -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 2 or value != int(value):
        raise ValueError(f"{key} must be {other}whole numbers of users, e.g. 1000000, got {key}={value}")
    return int(value)


def _metric(cfg: DictConfig, sweep: Sweep) -> str:
    """metric=, or the first that a run has."""
    known = sweep.metrics
    if cfg.metric is None:
        return known[0] if known else ""
    if cfg.metric not in known:
        raise ValueError(f"metric={cfg.metric} was not measured; choose one of {', '.join(known) or '(none at all)'}")
    return str(cfg.metric)


def _models(cfg: DictConfig, sweep: Sweep, metric: str) -> dict[str, Run]:
    """Label -> run whose model looks at its test images."""
    if cfg.models == "none":
        return {}
    if cfg.models == "best":
        best = sweep.leading(metric, MOST)
        return {name: run for name, run in best.items() if (run.path / "model").is_dir()}
    named = list(cfg.models) if isinstance(cfg.models, ListConfig) else [cfg.models]
    known = {run.path.resolve(): run for run in sweep.runs}
    missing = [str(name) for name in named if Path(str(name)).expanduser().resolve() not in known]
    if missing:
        raise ValueError(f"models= names {', '.join(missing)}, which is not among the runs; or take best or none")
    chosen = [known[Path(str(name)).expanduser().resolve()] for name in named]
    return {f"{run.method}, {run.path.name}": run for run in chosen}
