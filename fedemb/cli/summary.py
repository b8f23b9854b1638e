"""The end of a run: the exported model, report.json, report.html and the table on the console."""

from __future__ import annotations

import resource
import shlex
import sys
from dataclasses import asdict
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from fedemb.cli.build import Job, is_secret
from fedemb.data.users import Described
from fedemb.models.exported import save_model
from fedemb.privacy.extrapolation import Simulation, deploy
from fedemb.report.numbers import lower, small, upper
from fedemb.report.page import write_page
from fedemb.report.record import claim, versions, write_record
from fedemb.server.hooks import Clock, MetricsLog
from fedemb.server.plan import RunState
from fedemb.server.run_folder import RunFolder

_HYPOTHETICAL_USERS = (10**5, 10**6, 10**7)
_HYPOTHETICAL_NOISE = 5.0  # noise multiplier beyond which more users a round lower epsilon no further


def conclude(
    cfg: DictConfig,
    job: Job,
    folder: RunFolder,
    state: RunState,
    clock: Clock,
    log: MetricsLog,
    console: Console,
) -> None:
    """Write everything that a finished run leaves behind."""
    report = {
        "recipe": cfg.name,
        "mode": cfg.mode,
        "privacy": _privacy(cfg, job, state),
        "metrics": _metrics(log, state.round),
        "timing": _timing(cfg, clock, state.round),
        "data": _data(cfg, job),
        "versions": versions(),
        "seed": None if is_secret(cfg) else cfg.seed,
        "extrapolation": _extrapolation(cfg, state.round),
        "command": _command(cfg),
    }
    save_model(
        folder.model,
        backbone=OmegaConf.to_container(cfg.model, resolve=True),  # type: ignore[arg-type]
        params=state.server.averaged(),
        about={"recipe": cfg.name, "privacy": report["privacy"]["claim"]},
    )
    write_record(folder.report, report)
    page = write_page(folder.path)
    console.print(_table(report))
    console.print(f"report  {page}\nmodel   {folder.model}", highlight=False, soft_wrap=True)


def _privacy(cfg: DictConfig, job: Job, state: RunState) -> dict[str, Any]:
    """The claim and everything that it follows from."""
    spent = job.spend(state.ledger)
    said = claim(
        epsilon=spent.epsilon,
        epsilon_attack=spent.epsilon_attack,
        delta=spent.delta,
        sampling=job.plan.sampler.scheme,
        secret=is_secret(cfg),
    )
    return {
        "epsilon": spent.epsilon,
        "epsilon_attack": spent.epsilon_attack,
        "delta": spent.delta,
        "unit": "user",
        "relation": "substitute-one",
        "sampling": job.plan.sampler.scheme,
        "users": job.users.num_users,
        "users_per_round": cfg.users_per_round,
        "clients_per_round": job.plan.sampler.planned_clients,
        "users_per_client": cfg.users_per_client,
        "rounds": state.round,
        "rounds_charged": state.ledger.entries - (job.start.cost() is not None),
        "noise_multiplier": cfg.noise_multiplier,
        "clip_norm": cfg.clip_norm,
        "accountant": "hinge privacy-loss distribution; lower end: a concrete attack pair",
        "provenance": cfg.get("provenance", "random"),
        "claim": said,
    }


def _extrapolation(cfg: DictConfig, rounds: int) -> list[dict[str, Any]]:
    """Hypothetical deployments with this run's signal-to-noise ratio; none for a run without noise or a budget."""
    if not rounds or not cfg.noise_multiplier:
        return []
    simulation = Simulation(users_per_round=cfg.users_per_round, noise_multiplier=cfg.noise_multiplier, rounds=rounds)
    found = []
    for users in _HYPOTHETICAL_USERS:
        wanted = int(simulation.users_per_round * max(1.0, _HYPOTHETICAL_NOISE / simulation.noise_multiplier))
        if users >= simulation.users_per_round:
            found.append(asdict(deploy(simulation, users=users, users_per_round=min(wanted, users))))
    return found


def _metrics(log: MetricsLog, round: int) -> dict[str, float | None]:
    """The last row, if it belongs to the last round."""
    columns = ("round", "seconds", "epsilon", "epsilon_attack")
    row = log.rows[-1] if log.rows and log.rows[-1]["round"] == round else {}
    return {name: value for name, value in row.items() if name not in columns}


def _timing(cfg: DictConfig, clock: Clock, rounds: int) -> dict[str, Any]:
    """Speed, and the peak of memory; how many examples a second is an exact private number and not released."""
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    training = max(clock.training, 1e-9)
    return {
        "seconds": clock.seconds(),
        "seconds_per_round": clock.training / max(rounds, 1),
        "client_updates_per_second": clock.updates / training,
        "examples_per_second": None if is_secret(cfg) else clock.examples / training,
        "peak_memory_bytes": kibibytes * (1 if sys.platform == "darwin" else 1024),
    }


def _data(cfg: DictConfig, job: Job) -> dict[str, Any]:
    """Which data; how many examples and their checksum are exact private numbers and not released."""
    users = job.users
    if not isinstance(users, Described):
        return {"name": type(users).__name__, "users": users.num_users, "examples": None, "checksum": None}
    private = {"examples": None, "checksum": None}
    exact = {"examples": users.num_examples_total, "checksum": users.checksum}
    return {"name": users.name, "users": users.num_users, **(private if is_secret(cfg) else exact)}


def _command(cfg: DictConfig) -> str:
    """What to type for the same run; a released run has no seed to repeat."""
    said = [word for word in HydraConfig.get().overrides.task if not (is_secret(cfg) and word.startswith("seed="))]
    return " ".join(["fedemb train", *map(shlex.quote, said)])


def _table(report: dict[str, Any]) -> Table:
    """Metrics, privacy and speed for the console."""
    table = Table(
        title=f"{report['recipe']}: {report['privacy']['rounds']} rounds", show_header=False, title_justify="left"
    )
    for name, value in report["metrics"].items():
        table.add_row(name, "–" if value is None else f"{value:.4f}")
    privacy, timing = report["privacy"], report["timing"]
    interval = f"[{lower(privacy['epsilon_attack'])}, {upper(privacy['epsilon'])}]"
    table.add_row("ε", f"{interval} at δ = {small(privacy['delta'])}", end_section=True)
    table.add_row("", "user-level, substitute-one" + ("" if report["seed"] is None else ", if the seed were secret"))
    table.add_row("time", f"{timing['seconds']:.0f} s, {timing['client_updates_per_second']:.1f} client updates/s")
    return table
