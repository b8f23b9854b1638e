"""Weights & Biases: offline in the run folder unless told otherwise; `wandb sync` uploads it later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from fedemb.tracking.tracker import Track, TrackedRun, Tracker, require

_MODES = ("offline", "online")


@dataclass(frozen=True, kw_only=True)
class WandB(Tracker):
    """project: null is the run's group. mode: offline or online. entity: whose project; null: your own."""

    project: str | None
    mode: str
    entity: str | None

    @property
    def keeps_times(self) -> bool:
        """It notes the time of every number, also offline."""
        return True

    def __post_init__(self) -> None:
        require("wandb", "Weights & Biases", "wandb")
        if self.mode not in _MODES:
            raise ValueError(f"tracker.wandb.mode must be one of {', '.join(_MODES)}, got {self.mode}")

    def open(self, run: TrackedRun) -> Track:
        """Nothing but what it is told: no console, which shows local losses, no code, host or load of the machine."""
        import wandb

        settings = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            silent=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        track = wandb.init(
            project=self.project or run.group,
            entity=self.entity,
            name=str(run.folder),
            id=run.known or uuid4().hex,
            resume="allow",
            mode=self.mode,
            dir=run.folder,
            config=dict(run.settings),
            settings=settings,
        )
        track.define_metric("round")
        track.define_metric("*", step_metric="round")
        return _Run(run=track, identity=track.id)


@dataclass(kw_only=True)
class _Run(Track):
    run: Any
    identity: str

    def write(self, round: int, numbers: Mapping[str, float]) -> None:
        """One step; its axis is the round."""
        self.run.log({"round": round, **numbers})

    def close(self, facts: Mapping[str, str], *, finished: bool) -> None:
        """Facts are in the summary."""
        self.run.summary.update(dict(facts))
        self.run.finish(exit_code=0 if finished else 1)
