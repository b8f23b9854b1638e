"""The end of a run: the exported model, report.json, report.html and the table on the console."""

from __future__ import annotations

import resource
import sys
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from fedemb.cli import whole_user
from fedemb.cli.build import Job, is_secret
from fedemb.cli.choice import used
from fedemb.data.sampling import FixedSizeSampler
from fedemb.data.users import Described
from fedemb.models.exported import save_model
from fedemb.models.lora import merged
from fedemb.privacy.accounting import ACCOUNTANT
from fedemb.privacy.extrapolation import POPULATIONS, Simulation, prospect
from fedemb.report import deployments
from fedemb.report.numbers import counted, lower, share, small, upper, weak
from fedemb.report.page import write_page
from fedemb.report.record import NOT_COVERED, TUNING, claim, versions, write_record
from fedemb.server.hooks import NOT_METRICS, Clock, MetricsLog
from fedemb.server.plan import RunState
from fedemb.server.run_folder import RunFolder
from fedemb.tasks.backbone import backbone_params


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
        "method": cfg.method,
        "mode": cfg.mode,
        "privacy": _privacy(cfg, job, state),
        "tuning": TUNING,
        "metrics": _metrics(log, state.round),
        "timing": _timing(cfg, job, clock, state.round),
        "data": _data(cfg, job),
        "versions": versions(),
        "seed": None if is_secret(cfg) else cfg.seed,
        "extrapolation": _extrapolation(job, state.round),
        "command": folder.config.read_text().splitlines()[0].removeprefix("# "),
    }
    save_model(
        folder.model,
        backbone=job.model.spec,
        changes=job.model.changes,
        images=job.model.images,
        params=merged(job.model.backbone, backbone_params(job.model.backbone, state.server.averaged())),
        about={"recipe": cfg.name, "privacy": report["privacy"]["claim"]},
    )
    write_record(folder.report, report)
    page = write_page(folder.path)
    console.print(_table(report))
    console.print(_terms(report), highlight=False, soft_wrap=True)
    console.print(f"report  {page}\nmodel   {folder.model}", highlight=False, soft_wrap=True)


def _privacy(cfg: DictConfig, job: Job, state: RunState) -> dict[str, Any]:
    """The claim and everything that it follows from."""
    spent, sampler, unit = job.spend(state.ledger), job.plan.sampler, job.users.unit
    whole = whole_user.conversion(job.users, state.ledger.events, spent.delta)
    several = f", with the up to {job.plan.ids_per_user} user ids of one person together"
    user = job.users.privacy_unit + (several if job.plan.ids_per_user > 1 else "")
    return {
        "epsilon": spent.epsilon,
        "epsilon_attack": spent.epsilon_attack,
        "delta": spent.delta,
        "unit": unit,
        "user": user,
        "relation": "substitute-one",
        "sampling": sampler.scheme,
        "users": job.users.num_users,
        "users_per_round": cfg.users_per_round,
        "clients_per_round": sampler.planned_clients,
        "users_per_client": cfg.users_per_client,
        "ids_per_user": job.plan.ids_per_user,
        **whole,
        "rounds": state.round,
        "rounds_charged": job.rounds_charged(state.ledger),
        "noise_multiplier": _noise_multiplier(job),
        "clip_norm": cfg.clip_norm,
        "query": type(job.plan.query).__name__,
        "mechanism": type(job.plan.mechanism).__name__,
        "accountant": ACCOUNTANT,
        "provenance": job.start.provenance,
        "claim": claim(
            spent,
            unit=unit,
            user=user,
            sampling=sampler.scheme,
            secret=is_secret(cfg),
            exact=job.plan.mechanism.exact,
            measured=cfg.test_users is not None,
        )
        + whole_user.words(whole, spent),
    }


def _noise_multiplier(job: Job) -> float:
    """z: noise std over the bound of one virtual client; 0 for rounds without noise."""
    return job.plan.mechanism.std / job.plan.query.bound


def _extrapolation(job: Job, rounds: int) -> list[dict[str, Any]]:
    """Hypothetical deployments with this run's signal-to-noise ratio.

    None for a run without noise or rounds, after a start that has cost something, for a sampling that the law does
    not scale, or where a user is a single example.
    """
    sampler, noise_multiplier = job.plan.sampler, _noise_multiplier(job)
    if not isinstance(sampler, FixedSizeSampler) or not rounds or not noise_multiplier or job.start.cost() is not None:
        return []
    if job.users.unit != "user":
        return []
    simulation = Simulation(users_per_round=sampler.users_per_round, noise_multiplier=noise_multiplier, rounds=rounds)
    return [
        deployments.record(
            prospect(simulation, users=users, users_per_client=sampler.users_per_client), sampler.users_per_round
        )
        for users in POPULATIONS
        if users >= sampler.users_per_round
    ]


def _metrics(log: MetricsLog, round: int) -> dict[str, float | None]:
    """The last row, if it belongs to the last round."""
    row = log.rows[-1] if log.rows and log.rows[-1]["round"] == round else {}
    return {name: value for name, value in row.items() if name not in NOT_METRICS}


def _timing(cfg: DictConfig, job: Job, clock: Clock, rounds: int) -> dict[str, Any]:
    """Speed, and the peak of memory; all of them follow the amount of private data, so that nothing is released."""
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    training = max(clock.training, 1e-9)
    timing = {
        "seconds": clock.seconds(),
        "seconds_per_round": clock.training / max(rounds, 1),
        "client_updates_per_second": rounds * job.plan.sampler.planned_clients / training,
        "examples_per_second": (clock.examples or 0.0) / training,
        "waiting_for_data_fraction": None if clock.waiting is None else clock.waiting / training,
        "peak_memory_bytes": kibibytes * (1 if sys.platform == "darwin" else 1024),
        "executor": used(job.executor),
    }
    return dict.fromkeys(timing) if clock.examples is None else timing


def _data(cfg: DictConfig, job: Job) -> dict[str, Any]:
    """Which data; how many examples and their checksum are exact private numbers and not released."""
    users = job.users
    if not isinstance(users, Described):
        return {"name": type(users).__name__, "users": users.num_users, "examples": None, "checksum": None}
    private = {"examples": None, "checksum": None}
    exact = {"examples": users.num_examples_total, "checksum": users.checksum}
    return {"name": users.name, "users": users.num_users, **(private if is_secret(cfg) else exact)}


def _table(report: dict[str, Any]) -> Table:
    """Metrics, privacy and speed for the console."""
    table = Table(
        title=f"{report['recipe']}: {counted(report['privacy']['rounds'], 'round')}",
        show_header=False,
        title_justify="left",
    )
    for name, value in report["metrics"].items():
        table.add_row(name, "–" if value is None else f"{value:.4f}")
    privacy, timing = report["privacy"], report["timing"]
    interval = f"[{lower(privacy['epsilon_attack'])}, {upper(privacy['epsilon'])}]"
    table.add_section()
    table.add_row("ε", f"{interval} at δ = {small(privacy['delta'])}")
    condition = "" if report["seed"] is None else ", if the seed were secret"
    table.add_row("", f"{privacy['unit']}-level, substitute-one{condition}")
    if "user_epsilon" in privacy:
        table.add_row("ε of a whole user", f"≤ {upper(privacy['user_epsilon'])}")
    if told := weak(privacy["epsilon"]):
        table.add_row("", told)
    table.add_section()
    if timing["seconds"] is not None:
        table.add_row("time", f"{timing['seconds']:.0f} s, {timing['client_updates_per_second']:.1f} client updates/s")
        if timing["waiting_for_data_fraction"] is not None:
            table.add_row("waiting for data", f"{share(timing['waiting_for_data_fraction'])} of the rounds' time")
    return table


def _terms(report: dict[str, Any]) -> str:
    """Whom the guarantee is for, and that it is not for whom the metrics were measured on."""
    return "; ".join([f"a user is {report['privacy']['user']}", *([NOT_COVERED] if report["metrics"] else [])])
