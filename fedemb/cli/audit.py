"""fedemb audit: canaries attack a run's configuration; the verdict is whether its epsilon can be true."""

from __future__ import annotations

import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from fedemb.cli.build import Job, build
from fedemb.cli.output import as_json, console, printer_of
from fedemb.cli.pricing import number, whole
from fedemb.cli.settings import path
from fedemb.core import check
from fedemb.core.params import to
from fedemb.core.types import VirtualClient
from fedemb.execution.executor import Load
from fedemb.execution.given import Seating, sum_with_canaries
from fedemb.privacy.canaries import Canaries
from fedemb.privacy.conditioning import separation
from fedemb.privacy.query import SumUpdates
from fedemb.privacy.verdict import Evidence, Verdict, sampler_finding
from fedemb.report.numbers import small
from fedemb.report.record import write_record
from fedemb.server.audit import Attack, gather

CONFIG_PATH = "pkg://fedemb.conf"
CONFIG = "audit"

VIOLATED = 1
"""Exit code of an audit that refutes the claim."""

_ROUNDS, _MOST_ROUNDS = 2, 64
_GUESSED = 5  # one of so many canaries
_LARGEST_DELTA = 1e-5  # what guesses prove fades with canaries * delta


def run(cfg: DictConfig) -> None:
    """Attack, judge, print."""
    show = printer_of(cfg.format, table=_print_table, json=_print_json)
    if cfg.run is not None:
        raise ValueError("run= is of no use here: an audit trains no model; leave it out, or name a file with out=")
    out = _out(cfg)
    cfg.test_users = None
    job = build(cfg)
    with job.load, closing(job.executor):
        answer = audit(cfg, job)
    if out is not None:
        write_record(out, answer)
    show(answer)
    if answer["verdict"] != "ok":
        sys.exit(VIOLATED)


def audit(cfg: DictConfig, job: Job) -> dict[str, Any]:
    """What the audit of a job found, as JSON values."""
    confidence = number(cfg, "confidence")
    check.fraction("confidence", confidence)
    attack = _attack(cfg, job)
    evidence = _evidence(cfg, job, attack)
    sampler, event = job.plan.sampler, job.plan.event(0)
    cohorts = map(sampler.cohort, range(_cohorts(cfg, job)))
    sampling = sampler_finding(event, cohorts, users=job.users.num_users)
    return _answer(attack, evidence, Verdict(findings=(*evidence.findings(), sampling), confidence=confidence))


def _out(cfg: DictConfig) -> Path | None:
    """out=, found to be a file that can be written before the audit is made."""
    out = None if cfg.out is None else path(cfg, "out")
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise ValueError(f"out={out} must be a file in a folder that exists")
    return out


def _attack(cfg: DictConfig, job: Job) -> Attack:
    """The attack that the keys ask for."""
    some = next(iter(job.load([VirtualClient(round=0, seed=0, users=(0,))])))
    no_steps = {name: value[:0] for name, value in some.items()}
    loads: dict[str, Load] = {"idle": lambda clients: (no_steps for _ in clients), "train": job.load}
    if cfg.others not in loads:
        raise ValueError(f"others must be one of {', '.join(loads)}, got others={cfg.others}")

    def sum_with(canaries: Canaries, coins: Tensor, seating: Seating) -> SumUpdates:
        return sum_with_canaries(
            job.executor,
            job.work,
            loads[cfg.others],
            no_steps=no_steps,
            canaries=canaries,
            coins=coins,
            seating=seating,
        )

    return Attack(
        plan=job.plan,
        start=to(job.start.params(job.task, job.seed), job.device),
        is_shared=job.task.is_shared,
        sum_with=sum_with,
        rounds=_audited_rounds(cfg, job),
        seats_per_round=_seats_per_round(cfg, job),
        seed=job.seed,
    )


def _seats_per_round(cfg: DictConfig, job: Job) -> int:
    """seats_per_round=, or all seats that are needed."""
    if cfg.seats_per_round is not None:
        return whole(cfg, "seats_per_round")
    sampler = job.plan.sampler
    return min(max(1, int(sampler.planned_clients)), whole(cfg, "canaries"))


def _audited_rounds(cfg: DictConfig, job: Job) -> int:
    """audited_rounds=, or a few, or one turn of all users if that is not too long."""
    if cfg.audited_rounds is not None:
        return whole(cfg, "audited_rounds")
    turn = separation(job.plan.event(0))
    return _ROUNDS if turn is None else min(turn, _MOST_ROUNDS)


def _cohorts(cfg: DictConfig, job: Job) -> int:
    """How many cohorts are drawn: where users take turns, only rounds that the run has."""
    cohorts = whole(cfg, "cohorts")
    return cohorts if separation(job.plan.event(0)) is None else min(cohorts, int(cfg.rounds))


def _delta(cfg: DictConfig, job: Job) -> float:
    """delta=, or one so small that guesses can prove something: the claim holds at every delta."""
    return job.delta if cfg.delta is not None else min(job.delta, _LARGEST_DELTA)


def _evidence(cfg: DictConfig, job: Job, attack: Attack) -> Evidence:
    """What the repetitions show, as many as bring the canaries asked for."""
    canaries = whole(cfg, "canaries")
    guesses = max(1, canaries // _GUESSED) if cfg.guesses is None else whole(cfg, "guesses")
    progress = partial(track, description="canaries", console=Console(stderr=True), disable=not sys.stderr.isatty())
    return gather(attack, canaries=canaries, guesses=guesses, delta=_delta(cfg, job), progress=progress)


def _answer(attack: Attack, evidence: Evidence, verdict: Verdict) -> dict[str, Any]:
    """The audit as JSON values."""
    low, high = evidence.fit.interval(evidence.delta)
    return {
        "verdict": "violated" if verdict.violated else "ok",
        "confidence": verdict.confidence,
        "epsilon": evidence.epsilon,
        "delta": evidence.delta,
        "relation": "substitute-one",
        "epsilon_lower_bound": evidence.lower_bound,
        "epsilon_fit": evidence.fit.epsilon(evidence.delta),
        "epsilon_fit_interval": [low, high],
        "epsilon_one_shot": evidence.one_shot,
        "canaries": evidence.canaries,
        "guesses": evidence.guesses,
        "correct": evidence.correct,
        "seats_per_round": attack.seats_per_round,
        "rounds": attack.rounds,
        "checks": [
            {
                "name": finding.name,
                "claimed": finding.claimed,
                "found": finding.found,
                "p_value": finding.p_value,
                "violated": verdict.refutes(finding),
            }
            for finding in verdict.findings
        ],
    }


def _print_json(answer: dict[str, Any]) -> None:
    print(as_json(answer))


def _print_table(answer: dict[str, Any]) -> None:
    out = console()
    out.print(
        f"claimed: ε = {answer['epsilon']:.4g} at δ = {small(answer['delta'])}, substitute-one, for a user who is "
        f"known to take part; {answer['rounds']} audited rounds, {answer['canaries']} canaries",
        markup=False,
    )
    table = Table(box=None)
    for title in ("check", "claimed", "found", "p", ""):
        table.add_column(title, overflow="fold")
    for check_ in answer["checks"]:
        verdict = "VIOLATED" if check_["violated"] else "ok"
        table.add_row(check_["name"], check_["claimed"], check_["found"], f"{check_['p_value']:.2g}", verdict)
    one_shot = answer["epsilon_one_shot"]
    table.add_row("one shot", "", f"ε ≈ {one_shot:.4g} from the final models, an estimate", "", "")
    out.print(table)
    share = (1 - answer["confidence"]) / len(answer["checks"])
    out.print(
        f"verdict: {answer['verdict']} (a check is violated below p = {share:.2g}; all of a true claim pass with "
        f"{answer['confidence']:.0%} confidence)",
        markup=False,
    )
