"""The end of a sweep: a table of its points, what failed and why, and the exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from rich.measure import Measurement

from fedemb.cli.errors import one_line
from fedemb.server.sweep_folder import Point, Status, SweepFolder

_WIDEST = 10_000  # characters; a table is printed as wide as it is


@dataclass(kw_only=True)
class Begun:
    """What Hydra's callback has begun, if anything, or why it refused to."""

    folder: SweepFolder | None = None
    refusal: Exception | None = None

    @property
    def remedy(self) -> str:
        """How to go on after a stop."""
        folder = "FOLDER" if self.folder is None else self.folder.path
        return f"the same command with sweep={folder} resume=true goes on"


_BEGUN: ContextVar[Begun] = ContextVar("begun")


def begins() -> Begun:
    """For the callback: where to tell the command about its sweep."""
    return _BEGUN.get(Begun())


@contextmanager
def concluded() -> Iterator[None]:
    """If the command turns out to be a sweep, end it as one: SystemExit(1) unless every point is finished."""
    begun = Begun()
    before = _BEGUN.set(begun)
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if begun.refusal is not None:
            raise begun.refusal from None
        if begun.folder is not None:
            print(f"stopped; {begun.remedy}")
        raise
    except Exception as error:  # of Hydra, a sweeper or a launcher: what a point does wrong stays in the point
        if begun.folder is None or not begun.folder.points() or os.environ.get("FEDEMB_TRACEBACK") == "1":
            raise
        conclude(begun.folder, f"the sweep broke off: {type(error).__name__}: {one_line(error)}")
    else:
        if begun.folder is not None:
            conclude(begun.folder)
    finally:
        _BEGUN.reset(before)


def conclude(sweep: SweepFolder, broken: str | None = None) -> None:
    """Print how all points went. Raises: SystemExit, 2 if the input of every point was wrong, 1 if some did not end."""
    from fedemb.cli.output import console  # the table needs accounting and PyTorch, and every command starts here
    from fedemb.cli.sweep_table import epsilon_terms, points_table
    from fedemb.report.record import TUNING

    points = sweep.points()
    table, out = points_table(points), console()
    out.width = max(out.width, Measurement.get(out, out.options.update(width=_WIDEST), table).maximum)
    out.print(table)
    out.print("\n".join(filter(None, [epsilon_terms(points), TUNING, f"index   {sweep.index}"])))
    lines = [broken] if broken is not None else []
    lines += _failures(points)
    unfinished = [point for point in points if point.status in (Status.RUNNING, Status.STOPPED)]
    for point in unfinished:
        elsewhere = sweep.is_worked_on(point.number)
        state = "is in the work of another process" if elsewhere else "is unfinished: go on with resume=true"
        lines.append(f"point {point.number} {state}")
    for line in lines:
        print(f"fedemb: {line}", file=sys.stderr)
    if points and all(point.mistake for point in points):
        raise SystemExit(2)
    if lines:
        raise SystemExit(1)


def _failures(points: Sequence[Point]) -> list[str]:
    """A line for each reason, with all points that it stopped."""
    reasons: dict[str, list[str]] = {}
    for point in points:
        if point.status is Status.FAILED:
            reasons.setdefault(str(point.reason), []).append(str(point.number))
    return [f"point{'s' * (len(who) > 1)} {', '.join(who)} failed: {why}" for why, who in reasons.items()]
