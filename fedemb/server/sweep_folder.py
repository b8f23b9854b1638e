"""The folder of a sweep: a run folder a point, and sweep.jsonl, a line a point, which processes write in turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from fedemb.core.files import held, in_turn, write_atomically
from fedemb.server.run_folder import RunFolder

INDEX = "sweep.jsonl"


class Status(StrEnum):
    """What became of a point. A killed process leaves RUNNING behind: then nobody holds the point."""

    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    FINISHED = "finished"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a sweep.

    overrides: the words that make it what it is, in the order of the command. reason: why it failed, in one line.
    mistake: was that the input's fault, not fedemb's? metrics, privacy: from its report.json, once it is finished.
    """

    number: int
    overrides: tuple[str, ...]
    status: Status = Status.RUNNING
    reason: str | None = None
    mistake: bool = False
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    privacy: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> frozenset[str]:
        """Two points are the same if they are asked for the same."""
        return frozenset(self.overrides)

    def record(self) -> dict[str, Any]:
        """Its line in the index. folder: relative to the sweep's."""
        named = {"point": self.number, "folder": str(self.number), "overrides": list(self.overrides)}
        ended = {"status": str(self.status), "reason": self.reason, "mistake": self.mistake}
        return {**named, **ended, "metrics": dict(self.metrics), "privacy": dict(self.privacy)}


@dataclass(frozen=True, kw_only=True)
class SweepFolder:
    """Where the points of one sweep lie; any number of processes may work on it at once."""

    path: Path

    @property
    def index(self) -> Path:
        """sweep.jsonl, in the order of the points' numbers."""
        return self.path / INDEX

    def run(self, number: int) -> RunFolder:
        """The run folder of a point."""
        return RunFolder(path=self.path / str(number))

    def points(self) -> list[Point]:
        """All points that were ever begun here. Raises: ValueError in one line if the index is damaged."""
        if not self.index.exists():
            return []
        try:
            return [_point(json.loads(line)) for line in self.index.read_text(encoding="utf-8").splitlines()]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.index} is damaged ({error}): restore it from a copy, or start another sweep"
            ) from None

    def claim(self, overrides: Sequence[str], wanted: int) -> Point:
        """The point of these overrides: the one that is there, or a new one, with the wanted number if it is free."""

        def with_claimed(points: list[Point]) -> list[Point]:
            taken = {point.number for point in points}
            number = wanted if wanted not in taken else max(taken) + 1
            new = Point(number=number, overrides=tuple(overrides))
            return points if any(point.identity == new.identity for point in points) else [*points, new]

        identity = frozenset(overrides)
        return next(point for point in self._change(with_claimed) if point.identity == identity)

    def note(self, point: Point) -> None:
        """Write a point's line anew."""
        self._change(lambda points: [point if old.number == point.number else old for old in points])

    def forget_what_never_began(self) -> None:
        """Drop failed points that have not even a configuration, such as those of a mistyped command."""
        self._change(
            lambda points: [p for p in points if p.status is not Status.FAILED or self.run(p.number).is_used()]
        )

    @contextmanager
    def working_on(self, number: int) -> Iterator[bool]:
        """Hold a point, if nobody else does: whether that is so. The lock goes with the process, however it ends."""
        lock = self.path / f".{number}.lock"
        with ExitStack() as stack:
            try:
                stack.enter_context(held(lock, "held"))
            except ValueError:
                yield False
                return
            stack.callback(lock.unlink, missing_ok=True)
            yield True

    def is_worked_on(self, number: int) -> bool:
        """Does some process hold the point?"""
        with self.working_on(number) as free:
            return not free

    def _change(self, change: Callable[[list[Point]], list[Point]]) -> list[Point]:
        """Read, change and write the index while nobody else does."""
        self.path.mkdir(parents=True, exist_ok=True)
        with in_turn(self.path / ".sweep.lock"):
            points = sorted(change(self.points()), key=lambda point: point.number)
            lines = [json.dumps(point.record(), allow_nan=False, ensure_ascii=False) for point in points]
            write_atomically(self.index, "".join(f"{line}\n" for line in lines))
        return points


def finished(point: Point, report: Mapping[str, Any]) -> Point:
    """The point with what its report says; every ε beside its δ, unit and relation."""
    terms = ("epsilon", "epsilon_attack", "delta", "unit", "relation", "rounds", "noise_multiplier")
    return replace(
        point,
        status=Status.FINISHED,
        reason=None,
        mistake=False,
        metrics=report["metrics"],
        privacy={"mode": report["mode"], **{term: report["privacy"][term] for term in terms}},
    )


def _point(record: Mapping[str, Any]) -> Point:
    """A line of the index."""
    return Point(
        number=int(record["point"]),
        overrides=tuple(record["overrides"]),
        status=Status(record["status"]),
        reason=record["reason"],
        mistake=bool(record["mistake"]),
        metrics=dict(record["metrics"]),
        privacy=dict(record["privacy"]),
    )
