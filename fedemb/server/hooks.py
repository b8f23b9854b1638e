"""What happens between rounds: measuring, checkpoints, diagnostics."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from fedemb.core.files import write_atomically
from fedemb.core.types import Diagnostics, Params
from fedemb.privacy.accounting import PrivacySpend
from fedemb.privacy.ledger import Ledger
from fedemb.privacy.query import QueryState
from fedemb.server import checkpoint
from fedemb.server.plan import RunState
from fedemb.server.run_folder import RunFolder

Metrics = dict[str, float | None]
NOT_METRICS = ("round", "seconds", "epsilon", "epsilon_attack")
"""Columns of metrics.csv that stand beside the metrics."""

Measure = Callable[[Params], Metrics]
"""Global parameters -> named metrics of public test data."""


@dataclass(kw_only=True)
class Clock:
    """How long a run has taken, over all processes that worked on it.

    elapsed: seconds in earlier processes. training: seconds within rounds.
    examples: images that those rounds trained on, an exact private number; None where it must not be kept.
    """

    elapsed: float = 0.0
    training: float = 0.0
    examples: float | None = None
    _started: float = field(default_factory=time.perf_counter)
    _round_started: float = field(default_factory=time.perf_counter)

    def seconds(self) -> float:
        """Since the run began, measuring and saving included, pauses between processes left out."""
        return self.elapsed + time.perf_counter() - self._started

    def public_seconds(self) -> float | None:
        """The same where exact private values may be kept; None elsewhere, as time follows the amount of data."""
        return None if self.examples is None else self.seconds()

    def lap(self, state: RunState, diagnostics: Diagnostics) -> None:
        """The first hook: a round is over."""
        self.training += time.perf_counter() - self._round_started
        if self.examples is not None:
            self.examples += float(diagnostics.examples.sum())

    def start_round(self) -> None:
        """A round begins now."""
        self._round_started = time.perf_counter()

    def mark(self, state: RunState, diagnostics: Diagnostics) -> None:
        """The last hook: the next round begins."""
        self.start_round()

    def record(self) -> dict[str, float | None]:
        """What a later process goes on from; nothing where exact private values must not be kept."""
        if self.examples is None:
            return {}
        return {"elapsed": self.seconds(), "training": self.training, "examples": self.examples}


@dataclass(kw_only=True)
class MetricsLog:
    """metrics.csv: one row a measured round, rewritten in one step so that no reader sees half of it."""

    path: Path
    rows: list[dict[str, float | None]] = field(default_factory=list)

    @classmethod
    def reopen(cls, path: Path, up_to_round: int) -> MetricsLog:
        """The rows of an earlier process, without those of rounds that are run again."""
        if not path.exists():
            return cls(path=path)
        frame = pd.read_csv(path)
        kept = frame[frame["round"] <= up_to_round].astype(object)
        rows = kept.where(kept.notna(), None).to_dict("records")
        return cls(path=path, rows=[{str(name): value for name, value in row.items()} for row in rows])

    def append(self, row: dict[str, float | None]) -> None:
        """Add a row and write the file."""
        self.rows = [old for old in self.rows if old["round"] != row["round"]] + [row]
        write_atomically(self.path, pd.DataFrame(self.rows).to_csv(index=False))


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Every `every` rounds and in the last one: metrics of the model, and of its average as "ema/...", with ε.

    public: what the query's state says beside them, such as an adaptive clip norm.
    """

    every: int
    last_round: int
    measure: Measure
    public: Callable[[QueryState], dict[str, float]]
    spend: Callable[[Ledger], PrivacySpend]
    clock: Clock
    log: MetricsLog

    def __call__(self, state: RunState, diagnostics: Diagnostics) -> None:
        """Measure if it is time to."""
        if state.round % self.every == 0 or state.round == self.last_round:
            self.measure_now(state)

    def measure_now(self, state: RunState) -> None:
        """Measure the state as it is."""
        metrics = self.measure(state.server.params)
        if state.server.average:
            averaged = self.measure(state.server.averaged())
            metrics |= {f"ema/{name}": value for name, value in averaged.items()}
        spent = self.spend(state.ledger)
        row: dict[str, float | None] = {"round": state.round, "seconds": self.clock.public_seconds()}
        self.log.append(
            {
                **row,
                "epsilon": spent.epsilon,
                "epsilon_attack": spent.epsilon_attack,
                **metrics,
                **self.public(state.query),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Every `every` rounds: a checkpoint."""

    every: int
    folder: RunFolder
    clock: Clock

    def __call__(self, state: RunState, diagnostics: Diagnostics) -> None:
        """Save if it is time to."""
        if state.round % self.every == 0:
            self.save(state)

    def save(self, state: RunState) -> None:
        """Save now."""
        checkpoint.save(self.folder.checkpoints, state, self.clock.record())


@dataclass(frozen=True, kw_only=True)
class WriteDiagnostics:
    """Appends each round's exact values to diagnostics/rounds.jsonl: for simulations only."""

    folder: Path

    def __call__(self, state: RunState, diagnostics: Diagnostics) -> None:
        """One line a round; non-finite values become null."""
        self.folder.mkdir(exist_ok=True)
        columns = {"norms": diagnostics.norms, "losses": diagnostics.losses, "examples": diagnostics.examples}
        record = {name: [float(v) if bool(v.isfinite()) else None for v in values] for name, values in columns.items()}
        with (self.folder / "rounds.jsonl").open("a") as handle:
            handle.write(json.dumps({"round": state.round, **record}) + "\n")
