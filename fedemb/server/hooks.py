"""What happens between rounds: measuring, checkpoints, diagnostics."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    waiting: seconds of those rounds in which nothing was trained as batches were not there yet; None if other
        processes loaded all of them.
    waited: such seconds of this process so far.
    """

    elapsed: float = 0.0
    training: float = 0.0
    examples: float | None = None
    waiting: float | None = None
    waited: Callable[[], float | None] = lambda: None
    _started: float = field(default_factory=time.perf_counter)
    _round_started: float = field(default_factory=time.perf_counter)
    _waited_before: float = 0.0

    def seconds(self) -> float:
        """Since the run began, measuring and saving included, pauses between processes left out."""
        return self.elapsed + time.perf_counter() - self._started

    def public_seconds(self) -> float | None:
        """The same where exact private values may be kept; None elsewhere, as time follows the amount of data."""
        return None if self.examples is None else self.seconds()

    def lap(self, state: RunState, diagnostics: Diagnostics) -> None:
        """The first hook: a round is over."""
        self.training += time.perf_counter() - self._round_started
        waited = self.waited()
        if waited is not None:
            self.waiting = (self.waiting or 0.0) + waited - self._waited_before
            self._waited_before = waited
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
        return {
            "elapsed": self.seconds(),
            "training": self.training,
            "examples": self.examples,
            "waiting": self.waiting,
        }


@dataclass(kw_only=True)
class MetricsLog:
    """metrics.csv: one row a measured round, rewritten in one step so that no reader sees half of it."""

    path: Path
    rows: list[dict[str, float | None]] = field(default_factory=list)

    @classmethod
    def reopen(cls, path: Path, up_to_round: int) -> MetricsLog:
        """The rows of an earlier process, without those of rounds that are run again.

        Raises: ValueError in one line if the file is not as this class writes it.
        """
        if not path.exists():
            return cls(path=path)
        with path.open(newline="", encoding="utf-8") as file:
            try:
                rows = [{name: _number(cell) for name, cell in row.items()} for row in csv.DictReader(file)]
                kept = [row for row in rows if int(row["round"]) <= up_to_round]  # type: ignore[arg-type]
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path} is damaged ({error}): restore the file from a copy, or remove it") from None
        return cls(path=path, rows=kept)

    def append(self, row: dict[str, float | None]) -> None:
        """Add a row and write the file."""
        self.rows = [old for old in self.rows if old["round"] != row["round"]] + [row]
        text = io.StringIO()
        names = dict.fromkeys(name for row in self.rows for name in row)
        writer = csv.DictWriter(text, list(names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self.path, text.getvalue())


def _number(cell: str) -> float | None:
    """A cell as it was; nothing in an empty one."""
    return (int(cell) if cell.isdigit() else float(cell)) if cell else None


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Every `every` rounds and in the last one: metrics of the model, and of its average as "ema/...", with ε.

    public: what the query's state says beside them, such as an adaptive clip norm. tell: who else gets each line.
    """

    every: int
    last_round: int
    measure: Measure
    public: Callable[[QueryState], dict[str, float]]
    spend: Callable[[Ledger], PrivacySpend]
    clock: Clock
    log: MetricsLog
    tell: Callable[[Metrics], None] = lambda row: None

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
        row: Metrics = {
            "round": state.round,
            "seconds": self.clock.public_seconds(),
            "epsilon": spent.epsilon,
            "epsilon_attack": spent.epsilon_attack,
            **metrics,
            **self.public(state.query),
        }
        self.log.append(row)
        self.tell(row)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Every `every` rounds: a checkpoint. progress: what a later process goes on from, beside the state."""

    every: int
    folder: RunFolder
    progress: Callable[[], dict[str, Any]]

    def __call__(self, state: RunState, diagnostics: Diagnostics) -> None:
        """Save if it is time to."""
        if state.round % self.every == 0:
            self.save(state)

    def save(self, state: RunState) -> None:
        """Save now."""
        checkpoint.save(self.folder.checkpoints, state, self.progress())


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
