"""fedemb train: one run from a configuration to a report."""

from __future__ import annotations

import shlex
import sys
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from fedemb.cli import choice, objective, owners, sweep
from fedemb.cli.build import Job, is_secret
from fedemb.cli.errors import INTERRUPTED
from fedemb.cli.objective import Value
from fedemb.cli.progress import Progress
from fedemb.cli.ranks import everywhere
from fedemb.cli.resume import agreed_config, refuse_nothing_to_resume
from fedemb.cli.stopping import asked_to_stop
from fedemb.cli.summary import conclude
from fedemb.cli.trackers import begin, telling, trackers
from fedemb.core.allocator import keep_freed_memory
from fedemb.core.params import split, to
from fedemb.core.rng import SeededNoise, generator
from fedemb.core.types import Cohort, Params
from fedemb.data.owners import CountsOwners
from fedemb.privacy.accounting import affordable_rounds
from fedemb.privacy.ledger import Ledger
from fedemb.server import checkpoint
from fedemb.server.hooks import Checkpoint, Clock, Evaluate, MetricsLog, WriteDiagnostics
from fedemb.server.plan import RunState
from fedemb.server.run_folder import RunFolder
from fedemb.server.train import Hook, train
from fedemb.tasks.task import Task
from fedemb.tracking.tracking import Tracking

CONFIG_PATH = "pkg://fedemb.conf"
CONFIG = "train"

_NOT_YET = (
    "do not publish the run folder before the run is finished: its checkpoint holds noise that later rounds take back"
)


def run(cfg: DictConfig) -> Value:
    """Train, measure, report; in a sweep, one of its points. Returns: objective=, for sweepers that optimise."""
    if sweep.is_one():
        return sweep.point(cfg, _train_in, _agreed)
    sweep.refuse_no_sweep()
    folder = RunFolder(path=run_path(cfg))
    _train_in(cfg, folder)
    return objective.value(cfg, folder.report)


def _train_in(cfg: DictConfig, folder: RunFolder) -> None:
    """From the start, or from where the folder's run stands, to its report."""
    said = _said()
    resumed = bool(cfg.resume) and folder.is_used()
    if resumed:
        cfg = _agreed(cfg, folder)
    else:
        refuse_nothing_to_resume(cfg, said, folder.path)
        folder.refuse_if_used()
    keep_freed_memory()
    with everywhere(cfg) as job:
        _start(cfg, job, folder, None if resumed else _saved(cfg, said))


def _agreed(cfg: DictConfig, folder: RunFolder) -> DictConfig:
    """The configuration of the folder's run. Raises: ValueError if the command is about another one."""
    said = _said()
    return agreed_config(cfg, DictConfig(OmegaConf.create(_saved(cfg, said))), folder.config, said)


def _said() -> list[str]:
    """The words of the command, or of the point of a sweep."""
    return list(HydraConfig.get().overrides.task)


def _start(cfg: DictConfig, job: Job, folder: RunFolder, config: str | None) -> None:
    """Check that all parts fit one another, then train. config: what config.yaml will hold; None if it is there."""
    start = to(job.start.params(job.task, job.seed), job.device)
    last_round(cfg, job, _with_start(Ledger(), job), first_round=0)  # refuses a budget that pays for nothing
    _rehearse(cfg, job, start)
    if cfg.objective is not None and config is not None:
        objective.refuse_unknown(cfg, [*job.measure(start), *job.plan.query.public(job.plan.query.init())])
    found = trackers(cfg)
    with folder.locked(), job.load, closing(job.executor):
        if config is not None:
            folder.create(config)  # all that can be wrong with the command has been found by now
        with telling(found, folder, job.delta) as tracking:
            _train(cfg, job, folder, start, tracking)


def _train(cfg: DictConfig, job: Job, folder: RunFolder, start: Params, tracking: Tracking) -> None:
    """From the last checkpoint, or from the start, to the report."""
    simulated = not is_secret(cfg)
    state, times = _state(cfg, job, folder, start)
    if "executor" in times:
        job.executor.restore(times.pop("executor"))
    last = last_round(cfg, job, state.ledger, first_round=state.round)
    clock = Clock(**{"examples": 0.0 if simulated else None, **times}, waited=lambda: job.load.waited)
    log = MetricsLog.reopen(folder.metrics, state.round)
    saving = Checkpoint(every=cfg.checkpoint_every, folder=folder, progress=lambda: _progress(clock, job))
    measuring = Evaluate(
        every=cfg.evaluate_every,
        last_round=last,
        measure=job.measure,
        public=job.plan.query.public,
        spend=job.spend,
        clock=clock,
        log=log,
        tell=tracking.measured,
    )
    begin(tracking, cfg, folder, state.round)
    quiet = sweep.is_one() and not simulated  # launchers keep what points print, times with it
    console = Console(quiet=quiet, markup=False)
    fresh = ", from the start: no checkpoint to resume is there" if cfg.resume and state.round == 0 else ""
    console.print(f"run folder {folder.path}{fresh}", highlight=False, soft_wrap=True)
    for note in [*job.model.notes, *_resting(job.task, start)]:
        console.print(note, highlight=False, soft_wrap=True)
    if isinstance(job.users, CountsOwners) and job.users.most_owners > job.plan.ids_per_user:
        console.print(owners.for_ids("some images have", job.users.most_owners), highlight=False, soft_wrap=True)
    if state.round == 0:
        measuring.measure_now(state)  # also finds out early if the test data cannot be read
    progress = Progress(
        rounds=last,
        first_round=state.round,
        delta=job.delta,
        epsilon=lambda ledger: job.epsilon(ledger.events),
        show_private=simulated,
        metrics=log,
        log=folder.log,
        console=console,
    )
    clock.start_round()
    choosing = choice.hooks(job.executor, saving.save, console)
    hooks: list[Hook] = [clock.lap, *([WriteDiagnostics(folder=folder.diagnostics)] if simulated else [])]
    hooks += [tracking.exact] if cfg.track_diagnostics else []
    with progress, asked_to_stop() as asked:
        state = train(
            job.plan,
            state,
            rounds=last,
            hooks=[*hooks, measuring, saving, *choosing, progress, clock.mark],
            stopped=asked.is_set,
        )
    saving.save(state if simulated or state.round < last else replace(state, noise={}))  # noise is a secret to the end
    if asked.is_set() and state.round < last:
        console.print(f"stopped after round {state.round}; go on with: fedemb train run={folder.path} resume=true")
        if state.noise and not simulated:
            console.print(_NOT_YET, highlight=False, soft_wrap=True)
        sys.exit(INTERRUPTED)
    if not log.rows or log.rows[-1]["round"] != state.round:
        measuring.measure_now(state)  # a crash has spent what the budget had left
    conclude(cfg, job, folder, state, clock, log, console)


def _resting(task: Task, start: Params) -> list[str]:
    """How much is trained, if not all of it."""
    trained, resting = ([value.numel() for value in part.values()] for part in split(start, task.is_shared))
    return [f"trained {sum(trained):,} of {sum(trained) + sum(resting):,} parameters"] if resting else []


def _progress(clock: Clock, job: Job) -> dict[str, Any]:
    """What a later process goes on from, beside the state."""
    found = job.executor.record()
    return {**clock.record(), **({"executor": found} if found else {})}


def _rehearse(cfg: DictConfig, job: Job, start: Params) -> None:
    """A round with nobody, and the price of all rounds: raises ValueError where the parts do not fit one another."""
    plan, (trained, _) = job.plan, split(start, job.task.is_shared)
    job.epsilon(plan.events(0, int(cfg.rounds)))
    answer, _ = plan.query.answer(plan.query.init(), start, Cohort(round=0, clients=()))
    noise = plan.mechanism.init(plan.query.blank(trained))
    plan.mechanism.release(answer, noise, SeededNoise(generator(0, "rehearsal")))


def _state(cfg: DictConfig, job: Job, folder: RunFolder, start: Params) -> tuple[RunState, dict[str, Any]]:
    """(the state to go on from, what was measured so far); a run that never saved starts again and keeps its ledger."""
    ledger = Ledger.resume(folder.ledger) if folder.ledger.exists() else Ledger.create(folder.ledger)
    ledger = _with_start(ledger, job)
    _refuse_other_rounds(ledger, job, folder, int(cfg.rounds))
    saved = checkpoint.load(folder.checkpoints, ledger, job.device)
    if saved is not None:
        if saved[0].round > job.rounds_charged(ledger):
            raise ValueError(f"{folder.ledger} holds fewer charges than the checkpoint has rounds: restore it")
        return saved
    trained, _ = split(start, job.task.is_shared)
    query = job.plan.query
    noise = job.plan.mechanism.init(query.blank(trained))
    server = job.plan.server.init(start, trained)
    return RunState(round=0, server=server, query=query.init(), noise=noise, ledger=ledger), {}


def _with_start(ledger: Ledger, job: Job) -> Ledger:
    """A new ledger's first entry is what the start has already cost; one entry, so that no crash can split it."""
    cost = job.start.cost()
    return ledger if ledger.entries or cost is None else ledger.charge(cost)


def _refuse_other_rounds(ledger: Ledger, job: Job, folder: RunFolder, rounds: int) -> None:
    """Raise ValueError if the ledger holds rounds that this configuration, with this data, does not run."""
    start = _with_start(Ledger(), job).events
    if not ledger.holds_only(event for event, _ in [*start, *job.plan.events(0, rounds)]):
        raise ValueError(
            f"{folder.ledger} holds rounds of other settings than this run's: has the data changed? take another run="
        )


def last_round(cfg: DictConfig, job: Job, ledger: Ledger, first_round: int) -> int:
    """`rounds`, or the last round that budget.epsilon pays for.

    Raises: ValueError if a run that has not started cannot pay for a single round.
    """
    target = cfg.budget.epsilon
    if target is None:
        return int(cfg.rounds)
    payable = affordable_rounds(
        ledger.events,
        partial(job.plan.events, first_round),
        delta=job.delta,
        target_epsilon=target,
        limit=cfg.rounds - first_round,
    )
    if payable == 0 and job.rounds_charged(ledger) == 0:
        raise ValueError(
            f"budget.epsilon={target} at delta={job.delta:.3g} pays for no round: raise the budget or noise_multiplier"
        )
    return first_round + payable


def run_path(cfg: DictConfig) -> Path:
    """run=, or a folder of its own by time. Raises: ValueError for a name that would lead elsewhere."""
    if cfg.run is not None:
        return Path(cfg.run)
    if "/" in str(cfg.name) or str(cfg.name) in (".", ".."):
        raise ValueError(f"name={cfg.name} is no name of a folder in runs/: leave out the slashes, or set run=")
    return Path("runs") / str(cfg.name) / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"


def _saved(cfg: DictConfig, said: list[str]) -> str:
    """config.yaml: the command as a comment, the configuration as composed; a released run keeps no seed."""
    kept = cfg.copy()
    if is_secret(cfg):
        kept.seed = None
        said = [word for word in said if not word.startswith("seed=")]
    return f"# {' '.join(['fedemb train', *map(shlex.quote, said)])}\n{OmegaConf.to_yaml(kept)}"
