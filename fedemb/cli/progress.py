"""What a person sees while a run trains: one live line, and the same in train.log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from fedemb.core.types import Diagnostics
from fedemb.privacy.ledger import Ledger
from fedemb.report.numbers import small, upper
from fedemb.server.hooks import MetricsLog
from fedemb.server.plan import RunState

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_PRICES = 5.0  # a price takes up to half a second


@dataclass(kw_only=True)
class Progress:
    """Shows round, local loss where allowed, the latest metric, ε so far, speed and time left.

    rounds: the last round that will run. first_round: where this process started.
    show_private: in simulations: local losses are exact values of private data, and speed follows them. Elsewhere
        train.log has a line for each measured round and none by the clock.
    """

    rounds: int
    first_round: int
    delta: float
    epsilon: Callable[[Ledger], float]
    show_private: bool
    metrics: MetricsLog
    log: Path
    console: Console
    started: float = field(default_factory=time.perf_counter)
    _printed: float = 0.0
    _priced: float = -math.inf
    _epsilon: str = ""
    _live: Live | None = None

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, state: RunState, diagnostics: Diagnostics) -> None:
        """Update the line; write it down now and then."""
        now = time.perf_counter()
        row = self.metrics.rows[-1] if self.metrics.rows else {}
        measured = row.get("round") == state.round
        if measured or now - self._priced > _SECONDS_BETWEEN_PRICES or state.round == self.rounds:
            self._priced, self._epsilon = now, f"ε ≤ {upper(self.epsilon(state.ledger))} at round {state.round}"
        line = self.line(state.round, diagnostics, row)
        speed = self.speed(state.round, now - self.started)
        if self._live is not None:
            self._live.update(Text(f"{line} · {speed}", no_wrap=True, overflow="ellipsis"))
        due = measured or now - self._printed > _SECONDS_BETWEEN_LINES
        if measured or (due and self.show_private):
            with self.log.open("a") as handle:
                handle.write((f"{line} · {speed}" if self.show_private else line) + "\n")
        if due:
            self._printed = now
            if self._live is None:
                self.console.print(f"{line} · {speed}", highlight=False, soft_wrap=True)

    def speed(self, round: int, seconds: float) -> str:
        """Rounds a second, and the time left."""
        rate = (round - self.first_round) / max(seconds, 1e-9)
        minutes, left = divmod(int((self.rounds - round) / rate) if rate else 0, 60)
        return f"{rate:.2f} rounds/s · {minutes}:{left:02} left"

    def line(self, round: int, diagnostics: Diagnostics, row: Mapping[str, float | None]) -> str:
        """Where the run stands."""
        parts = [f"round {round}/{self.rounds}"]
        losses = diagnostics.losses[diagnostics.losses.isfinite()]
        if self.show_private and len(losses):
            parts.append(f"loss {losses.mean():.3f}")
        metric = next((name for name in row if name.startswith(("ema/recall", "recall"))), None)
        averaged = f"ema/{metric}" if f"ema/{metric}" in row else metric
        if averaged is not None and (value := row[averaged]) is not None:
            parts.append(f"{averaged} {value:.3f}")
        parts.append(f"{self._epsilon}, δ {small(self.delta)}")
        return " · ".join(parts)
