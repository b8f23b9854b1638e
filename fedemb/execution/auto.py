"""The fastest of several executors, found out on the first rounds of the run that it is for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median
from typing import Any, ClassVar

from fedemb.client.work import ClientWork
from fedemb.core import check
from fedemb.core.types import Cohort, Diagnostics, Params
from fedemb.execution.executor import Executor, Load, TooLargeError
from fedemb.execution.room import ran_out
from fedemb.privacy.clipping import Clipping

_CLEARLY = 2.0  # times the fastest candidate's seconds: out of the race

Answer = tuple[Params, Diagnostics]


@dataclass(frozen=True, kw_only=True)
class Auto(Executor):
    """The first candidate in the first rounds, then the fastest: which one is fixed by what was measured before.

    In each of the first rounds every candidate works through the same clients, the first of the cohort, in an order
    that turns from round to round. What they find is thrown away; the round has one answer, which is the first
    candidate's about the whole cohort. So nothing depends on time but which candidate answers the later rounds, and
    `record` and `restore` carry that over to another process. A candidate is out of the race when it takes over twice
    the time of the fastest, or does not fit into memory. A round without clients measures nothing.

    candidates: by name.
    rounds: how many are measured. Before its first one, every candidate works through the clients once unmeasured, as
        some executors prepare themselves then.
    clients: the most virtual clients that a candidate works through to be measured. If these are the whole cohort,
        what the first candidate finds is the round's answer, and no work of its is thrown away.
    clock: seconds from some fixed moment on.
    """

    follows_the_clock: ClassVar[bool] = True

    candidates: Mapping[str, Executor]
    rounds: int = 3
    clients: int = 64
    clock: Callable[[], float] = time.perf_counter
    _measured: dict[int, dict[str, float]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _prepared: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check.at_least("executor.rounds", self.rounds, 1)
        check.at_least("executor.clients", self.clients, 1)
        if not self.candidates:
            raise ValueError("executor.candidates is empty: name at least one, or take another executor=")
        for name, candidate in self.candidates.items():
            if not isinstance(candidate, Executor) or candidate.follows_the_clock:
                raise ValueError(f"executor.candidates.{name} must be an executor such as Sequential or Vectorised")

    @property
    def chosen(self) -> str | None:
        """The fastest candidate by the median; None while it is being found out."""
        if len(self._measured) < self.rounds:
            return None
        racing = {name: seconds for name, seconds in self._medians().items() if name in self._last_round()}
        return min(racing, key=racing.__getitem__, default=self._first)

    @property
    def measured_rounds(self) -> int:
        """How many rounds have been measured."""
        return len(self._measured)

    def seconds_per_client(self) -> dict[str, float | None]:
        """Candidate -> median over the rounds that it was measured in; None for one that did not fit into memory."""
        medians = self._medians()
        return {name: medians.get(name) for name in self.candidates}

    def record(self) -> dict[str, Any]:
        """What was measured, and what each candidate has found out."""
        measured = [{"round": round, "seconds": dict(row)} for round, row in self._measured.items()]
        return {"measured": measured, "candidates": {name: each.record() for name, each in self.candidates.items()}}

    def restore(self, record: Mapping[str, Any]) -> None:
        """Go on from there: a choice holds, and rounds that were measured count."""
        self._measured.clear()
        self._measured.update({int(row["round"]): dict(row["seconds"]) for row in record["measured"]})
        for name, found in record["candidates"].items():
            self.candidates[name].restore(found)

    def clipped_sum(
        self, work: ClientWork, clipping: Clipping, shared: Params, cohort: Cohort, load: Load
    ) -> tuple[Params, Diagnostics]:
        """That of one candidate. A measured round that is asked for again has the same answer."""

        def by(name: str, cohort: Cohort) -> Answer:
            return self.candidates[name].clipped_sum(work, clipping, shared, cohort, load)

        if cohort.round in self._measured or not cohort.clients:
            return by(self._first, cohort)
        if self.chosen is not None:
            return by(self.chosen, cohort)
        part = replace(cohort, clients=cohort.clients[: self.clients])
        seconds: dict[str, float] = {}
        answer = None
        for name in self._in_turn():
            found = self._timed(name, partial(by, name, part))
            if found is None:
                continue
            seconds[name] = found[1] / len(part.clients)
            answer = found[0] if name == self._first and part == cohort else answer
        answer = by(self._first, cohort) if answer is None else answer
        self._measured[cohort.round] = seconds
        return answer

    def close(self) -> None:
        """Close all candidates."""
        for candidate in self.candidates.values():
            candidate.close()

    @property
    def _first(self) -> str:
        return next(iter(self.candidates))

    def _medians(self) -> dict[str, float]:
        rows = self._measured.values()
        measured = [name for name in self.candidates if any(name in row for row in rows)]
        return {name: median(row[name] for row in rows if name in row) for name in measured}

    def _last_round(self) -> Mapping[str, float]:
        return next(reversed(self._measured.values()), {})

    def _in_turn(self) -> Sequence[str]:
        """Who is still in the race: forwards and backwards in turn, as a machine may warm up or slow down."""
        last = self._last_round()
        slow = _CLEARLY * min(last.values(), default=0.0)
        racing = [name for name in self.candidates if name in last and last[name] <= slow]
        names = racing if self._measured else list(self.candidates)
        return names[:: -1 if len(self._measured) % 2 else 1]

    def _timed(self, name: str, run: Callable[[], Answer]) -> tuple[Answer, float] | None:
        """(answer, seconds) of a candidate that is prepared; None if it does not fit into memory.

        A sum comes with diagnostics on the CPU, so that a GPU has finished when the clock is read.
        """
        try:
            if name not in self._prepared:
                run()
                self._prepared.add(name)
            started = self.clock()
            answer = run()
            return answer, self.clock() - started
        except TooLargeError:
            return None
        except RuntimeError as error:
            if not ran_out(error):
                raise
            return None
