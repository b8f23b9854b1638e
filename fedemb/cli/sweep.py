"""fedemb train -m: own folders and ledgers, no failed point sinks the rest, and all can be continued."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from fedemb.cli import objective
from fedemb.cli.errors import MISTAKES, is_mistake, one_line
from fedemb.cli.objective import Value
from fedemb.cli.resume import WATCHING, key_of
from fedemb.cli.sweep_end import begins
from fedemb.server.run_folder import RunFolder
from fedemb.server.sweep_folder import Point, Status, SweepFolder, finished

Train = Callable[[DictConfig, RunFolder], Any]
"""Something to do with a configuration in a run folder."""


def point(cfg: DictConfig, train: Train, agree: Train) -> Value:
    """Work on the point that Hydra asks for; a finished one is looked up.

    train: from the start, or from where the folder stands. agree: raises ValueError if the folder's run is not cfg's.
    Returns: its objective; None for a point that failed, or that another process works on.
    """
    hydra = HydraConfig.get()
    sweep = SweepFolder(path=Path(str(hydra.sweep.dir)))
    words = [word for word in hydra.overrides.task if key_of(word) not in ("resume", *WATCHING)]
    number = sweep.claim(words, int(hydra.job.num)).number
    with sweep.working_on(number) as mine:
        if not mine:
            print(f"point {number} is in the work of another process")
            return None
        here = next(point for point in sweep.points() if point.number == number)
        return _work(cfg, sweep, here, train, agree)


def _work(cfg: DictConfig, sweep: SweepFolder, here: Point, train: Train, agree: Train) -> Value:
    """Train this point to its end and note how it went; Ctrl-C and SIGTERM go on to end the sweep."""
    folder = sweep.run(here.number)
    cfg = cfg.copy()
    cfg.resume = folder.is_used()  # also when Slurm starts a preempted job again
    try:
        if here.status is Status.FINISHED and folder.report.exists():
            agree(cfg, folder)
            print(f"point {here.number} is finished: {folder.path}")
        else:
            sweep.note(replace(here, status=Status.RUNNING, reason=None, mistake=False))
            train(cfg, folder)
        found = objective.value(cfg, folder.report)
    except (KeyboardInterrupt, SystemExit):
        sweep.note(replace(here, status=Status.STOPPED))
        raise
    except Exception as error:
        reason, mistake = _reason(cfg, error), is_mistake(error)
        if not mistake and cfg.mode != "release":  # launchers keep what points print
            traceback.print_exception(error)
        print(f"point {here.number} failed: {reason}", flush=True)
        sweep.note(replace(here, status=Status.FAILED, reason=reason, mistake=mistake))
        return None
    sweep.note(finished(here, json.loads(folder.report.read_text(encoding="utf-8"))))
    return found


def _reason(cfg: DictConfig, error: Exception) -> str:
    """In one line. What a defect says of itself may hold exact private values, which a release does not write down."""
    if is_mistake(error):
        return one_line(error)
    kind = type(error).__name__
    return kind if cfg.mode == "release" else f"{kind}: {one_line(error)}"


class Sweep(Callback):
    """Hydra calls it before a sweep."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse what cannot be a sweep; else say where it is. Hydra lets nothing but SystemExit stop it here."""
        if kwargs.get("config_name") != "train":  # other commands' configurations may build on this one's
            return
        begun = begins()
        try:
            begun.folder = _checked(config)
        except MISTAKES as error:
            begun.refusal = error
            raise SystemExit(2) from error
        print(f"sweep folder {begun.folder.path}; after a stop, {begun.remedy}", flush=True)


def _checked(config: DictConfig) -> SweepFolder:
    """The folder, ready to be worked in. Raises: ValueError in one line for settings that make no sweep."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("torchrun's processes share one run: sweep without torchrun, e.g. with hydra/launcher=joblib")
    if config.run is not None:
        raise ValueError(f"run={config.run} is the folder of one run: name the sweep's folder with sweep=FOLDER")
    if "optuna" in str(config.hydra.sweeper._target_) and config.objective is None:
        raise ValueError("hydra/sweeper=optuna needs a number to optimise: name a metric, e.g. objective=recall@1")
    if not str(config.hydra.sweep.dir).strip():
        raise ValueError("sweep= is empty: name a folder, or leave it out")
    sweep = SweepFolder(path=Path(str(config.hydra.sweep.dir)))
    if not sweep.points():
        return sweep
    sweep.forget_what_never_began()
    if sweep.points() and not config.resume:
        raise ValueError(f"{sweep.path} holds a sweep already: go on with resume=true or take another sweep=")
    return sweep


def is_one() -> bool:
    """Is the command a sweep?"""
    return HydraConfig.get().mode is RunMode.MULTIRUN


def refuse_no_sweep() -> None:
    """Raise ValueError if sweep= is given for a single run."""
    if any(word.startswith("hydra.sweep.dir=") for word in HydraConfig.get().overrides.hydra):
        raise ValueError("sweep= names the folder of a sweep: add -m, or name a run's folder with run=FOLDER")
