"""tracker=: who is told a run's public numbers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fedemb.cli.build import is_secret
from fedemb.cli.resume import flat
from fedemb.cli.settings import check_settings
from fedemb.server.run_folder import RunFolder
from fedemb.tracking.tracker import TrackedRun, Tracker
from fedemb.tracking.tracking import Tracking


def trackers(cfg: DictConfig) -> dict[str, Tracker]:
    """By name, none of them opened.

    Raises: ValueError in one line for what is not installed, or what a release cannot have.
    """
    found: dict[str, Tracker] = {}
    for name, node in (cfg.tracker or {}).items():
        check_settings(node)
        found[name] = instantiate(node)
        if is_secret(cfg) and found[name].keeps_times:
            raise ValueError(
                f"mode=release: tracker={name} would learn when each number comes, which follows the amount of private "
                "data; take tracker=tensorboard, or tracker=mlflow with a local tracker.mlflow.uri"
            )
    if is_secret(cfg) and cfg.track_diagnostics:
        raise ValueError("mode=release tells nobody exact private values: leave out track_diagnostics=true")
    return found


@contextmanager
def telling(found: dict[str, Tracker], folder: RunFolder, delta: float) -> Iterator[Tracking]:
    """Trackers of a run, to be opened by `begin`; closed however training ends, with the claim if there is one."""
    tracking = Tracking(trackers=found, delta=delta, warn=_warn)
    try:
        yield tracking
    finally:
        finished = folder.report.exists()
        tracking.close(_facts(folder) if finished and found else {}, finished=finished)


def begin(tracking: Tracking, cfg: DictConfig, folder: RunFolder, first_round: int) -> None:
    """Open the trackers. Their settings are the run's, without their own and without a release's seed."""
    kept = cfg.copy()
    if is_secret(cfg):
        kept.seed = None
    settings = flat(DictConfig(OmegaConf.to_container(kept, resolve=True)))
    run = TrackedRun(
        folder=folder.path,
        group=str(cfg.name),
        settings={
            key: value if isinstance(value, int | float | None) else str(value) for key, value in settings.items()
        },
        first_round=first_round,
        known=None,
        secret=is_secret(cfg),
    )
    tracking.start(run, folder.trackers)


def _facts(folder: RunFolder) -> dict[str, str]:
    report = json.loads(folder.report.read_text(encoding="utf-8"))
    return {"privacy/claim": report["privacy"]["claim"], "privacy/tuning": report["tuning"]}


def _warn(line: str) -> None:
    """One line on stderr."""
    print(f"fedemb: {line}", file=sys.stderr, flush=True)
