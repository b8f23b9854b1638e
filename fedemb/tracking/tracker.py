"""Where public numbers of a run go, besides its folder.

What a tracker gets is what report.json and metrics.csv hold anyway: metrics of test users, ε with its δ, settings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

Setting: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What a tracker needs to know of a run.

    folder: the run folder. group: of the runs that belong together, e.g. the recipe. settings: dotted key -> value.
    first_round: of this process; what was told of later rounds, before a crash, is told again.
    known: the tracker's own name for the run if it was opened before. secret: must no time be kept?
    """

    folder: Path
    group: str
    settings: Mapping[str, Setting]
    first_round: int
    known: str | None
    secret: bool


class Track(ABC):
    """One run in one tracker. Any of its methods may raise anything: `Tracking` sees to that."""

    identity: str
    """The tracker's name for the run, by which it is opened again."""

    @abstractmethod
    def write(self, round: int, numbers: Mapping[str, float]) -> None:
        """Finite numbers after a round, "metrics/recall@1" and the like."""

    @abstractmethod
    def close(self, facts: Mapping[str, str], *, finished: bool) -> None:
        """The end of this process. facts: what is said of the run as a whole. finished: or will it be continued?"""


class Tracker(ABC):
    """A place for runs."""

    @property
    @abstractmethod
    def keeps_times(self) -> bool:
        """Does it, or whoever it sends to, learn when a number came? That follows the amount of private data."""

    @abstractmethod
    def open(self, run: TrackedRun) -> Track:
        """Begin a run, or go on with it."""


def require(package: str, name: str, extra: str) -> None:
    """Raise ValueError in one line if an optional package is not installed."""
    if find_spec(package) is None:
        raise ValueError(f"{name} is not installed: pip install 'fedemb[{extra}]'")
