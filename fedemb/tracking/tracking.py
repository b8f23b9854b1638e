"""A run's public numbers to all of its trackers. One that fails is left alone: no tracker ends a training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from fedemb.core.files import write_atomically
from fedemb.core.types import Diagnostics
from fedemb.server.hooks import NOT_METRICS
from fedemb.server.plan import RunState
from fedemb.tracking.tracker import Track, TrackedRun, Tracker

EXACT = "diagnostics/exact_private"
"""Prefix of what a simulation tells of exact private values, if it is asked to."""


@dataclass(kw_only=True)
class Tracking:
    """The trackers of one run, by name.

    delta: told beside every ε. warn: gets one line for each tracker that fails; it is told nothing from then on.
    """

    trackers: Mapping[str, Tracker]
    delta: float
    warn: Callable[[str], None]
    _open: dict[str, Track] = field(default_factory=dict)

    def start(self, run: TrackedRun, identities: Path) -> None:
        """Open all. identities: the file, made at the first start, that says how each tracker calls the run."""
        known: dict[str, str] = _read(identities)
        for name, tracker in self.trackers.items():

            def begin(name: str = name, tracker: Tracker = tracker) -> None:
                self._open[name] = tracker.open(replace(run, known=known.get(name)))

            self._cautiously(name, begin)
        found = known | {name: track.identity for name, track in self._open.items()}
        if found != known:
            write_atomically(identities, json.dumps(found) + "\n")

    def measured(self, row: Mapping[str, float | None]) -> None:
        """Tell a line of metrics.csv: metrics and ε with its δ, without times and without what is not finite."""
        metrics = {f"metrics/{name}": value for name, value in row.items() if name not in NOT_METRICS}
        spent = {f"privacy/{name}": row.get(name) for name in ("epsilon", "epsilon_attack")}
        self._tell(int(row["round"] or 0), {**metrics, **spent, "privacy/delta": self.delta})

    def exact(self, state: RunState, diagnostics: Diagnostics) -> None:
        """A hook for simulations that ask for it: means of exact private values, named as such."""
        means = {"mean_local_loss": _mean(diagnostics.losses), "mean_update_norm": _mean(diagnostics.norms)}
        self._tell(state.round, {f"{EXACT}/{name}": value for name, value in means.items()})

    def close(self, facts: Mapping[str, str], *, finished: bool) -> None:
        """The end of this process. facts: name -> text about the whole run."""
        for name, track in list(self._open.items()):

            def end(track: Track = track) -> None:
                track.close(facts, finished=finished)

            self._cautiously(name, end)
        self._open.clear()

    def _tell(self, round: int, numbers: Mapping[str, float | None]) -> None:
        told = {name: value for name, value in numbers.items() if value is not None and math.isfinite(value)}
        for name, track in list(self._open.items()):

            def write(track: Track = track) -> None:
                track.write(round, told)

            self._cautiously(name, write)

    def _cautiously(self, name: str, act: Callable[[], None]) -> None:
        """A lost server, a full disk or a defect of the tracker costs the tracker, never the run."""
        try:
            act()
        except Exception as error:
            self._open.pop(name, None)
            reason = " ".join(str(error).split()) or type(error).__name__
            self.warn(f"tracker {name} failed and is told nothing more; training goes on: {reason}")


def _mean(values: Tensor) -> float:
    """Of the finite ones; NaN without any."""
    return float(values[values.isfinite()].mean())


def _read(identities: Path) -> dict[str, str]:
    try:
        return dict(json.loads(identities.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{identities} is damaged ({error}): restore it, or remove it to begin anew there") from None
