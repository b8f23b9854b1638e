"""How `fedemb train` grows with its users: start-up, rounds, memory and files, each time in a process of its own."""

from __future__ import annotations

import csv
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from fedemb.server.run_folder import RunFolder

WARM_UP = 2
"""Rounds that are not counted; a run notes the time after so many rounds each."""

ROUNDS = 4
"""That are."""

_SETTINGS = (  # few images and a small model, so that what is not training shows
    "recipe=procedural",
    "test_users=none",
    "users.examples_per_user=2",
    "noise_multiplier=1.0",
    f"rounds={WARM_UP + ROUNDS}",
    f"evaluate_every={WARM_UP}",
    "checkpoint_every=1",
)
_LONGEST_LINE = 200


@dataclass(frozen=True, kw_only=True)
class Point:
    """users: N of the data set. users_per_round: M of them, a multiple of 16, which train together."""

    users: int
    users_per_round: int


POPULATIONS = tuple(Point(users=10**power, users_per_round=64) for power in range(3, 9))
"""More and more users, as many of them in a round."""

COHORTS = tuple(Point(users=10**7, users_per_round=4**power) for power in range(2, 7))
"""As many users, more and more of them in a round."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a point.

    startup_seconds: from the start of the process until all is built, checked and priced, and the first round begins.
    seconds_per_round: median after the first two, with ledger, checkpoint and the certified epsilon of each.
    processor_seconds: of the whole run, which a busy machine stretches less. peak_bytes: of memory, in all.
    ledger_bytes_per_round. checkpoint_bytes: of the last one, which is all that is kept.
    """

    startup_seconds: float
    seconds_per_round: float
    processor_seconds: float
    peak_bytes: int
    ledger_bytes_per_round: float
    checkpoint_bytes: int


def measure(
    points: Sequence[Point], turns: Iterable[int], *, environment: Mapping[str, str], seconds: float
) -> dict[Point, list[Run]]:
    """Point -> a run for each turn; a turn takes all points once, one process after the other.

    environment: of the processes. seconds: that one run may take.
    Raises: ValueError in one line if a run fails or takes longer.
    """
    found: dict[Point, list[Run]] = {point: [] for point in points}
    for _ in turns:
        for point, runs in found.items():
            runs.append(run(point, environment=environment, seconds=seconds))
    return found


def run(point: Point, *, environment: Mapping[str, str], seconds: float) -> Run:
    """One run, in a folder that is gone afterwards. Raises: as `measure`."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(path=Path(scratch) / "run")
        words, started, used = command(point, folder.path), time.time(), _processor_seconds()
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=seconds, env=dict(environment), check=False
            )
        except subprocess.TimeoutExpired:
            raise ValueError(f"{_words(point)} took more than {seconds:g} s") from None
        if done.returncode:
            last = (done.stderr.strip() or "no word").splitlines()[-1]
            raise ValueError(f"{_words(point)} ended with exit code {done.returncode}: {last[:_LONGEST_LINE]}")
        return read(folder, started, _processor_seconds() - used)


def command(point: Point, folder: Path) -> Sequence[str]:
    """What trains so many users into a folder."""
    sizes = (f"users.num_users={point.users}", f"users_per_round={point.users_per_round}")
    return (sys.executable, "-m", "fedemb", "train", *_SETTINGS, *sizes, f"run={folder}")


def read(folder: RunFolder, started: float, processor_seconds: float) -> Run:
    """What a finished run says. started: seconds since the epoch when its process was."""
    report = json.loads(folder.report.read_text())
    with folder.metrics.open(newline="") as file:
        times = [(int(row["round"]), float(row["seconds"])) for row in csv.DictReader(file)]
    speeds = [(end - start) / (last - first) for (first, start), (last, end) in pairwise(times) if first >= WARM_UP]
    return Run(
        startup_seconds=folder.config.stat().st_mtime - started,  # written when nothing is left to build or check
        seconds_per_round=statistics.median(speeds),
        processor_seconds=processor_seconds,
        peak_bytes=report["timing"]["peak_memory_bytes"],
        ledger_bytes_per_round=folder.ledger.stat().st_size / report["privacy"]["rounds_charged"],
        checkpoint_bytes=sum(file.stat().st_size for file in folder.checkpoints.iterdir()),
    )


def record(found: Mapping[Point, Sequence[Run]]) -> dict[str, Any]:
    """As JSON values: medians of each point, against all users and against users a round, and every run."""
    return {
        "train": list(_SETTINGS),
        "populations": [_median(point, found[point]) for point in POPULATIONS if point in found],
        "cohorts": [_median(point, found[point]) for point in COHORTS if point in found],
    }


def _median(point: Point, runs: Sequence[Run]) -> dict[str, Any]:
    columns = zip(*map(astuple, runs), strict=True)
    medians = {field.name: statistics.median(column) for field, column in zip(fields(Run), columns, strict=True)}
    return {**asdict(point), **medians, "runs": [asdict(run) for run in runs]}


def _processor_seconds() -> float:
    """Of all processes that this one has started and that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def _words(point: Point) -> str:
    return f"fedemb train of {point.users:,} users, {point.users_per_round:,} a round,"
