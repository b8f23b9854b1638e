"""Several ways to do the same round, each in a process of its own, in turn with the others."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from fedemb.bench.usage import family, lives, usage

WARM_UP = 2
"""Rounds that are not counted."""

_SECONDS_TO_END = 6.0
_LONGEST_LINE = 200


@dataclass(frozen=True, kw_only=True)
class Way:
    """name: as typed. label: as shown. command: starts a process that speaks as `fedemb.bench.lines` does.

    needs: how to mend it if something that it takes cannot be imported there.
    """

    name: str
    label: str
    command: Sequence[str]
    settings: Mapping[str, Any]
    environment: Mapping[str, str]
    needs: str = ""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round: wall and processor seconds, and the peak of memory so far; None where they cannot be known."""

    wall: float
    processor: float | None
    peak_megabytes: float | None


@dataclass(kw_only=True)
class Served:
    """What came of a way: its rounds after the warm-up, versions of what did the work, and why it broke off, if so."""

    rounds: list[Round] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    failure: str | None = None


def measure(ways: Sequence[Way], turns: Iterable[int], seconds: float) -> dict[str, Served]:
    """Way -> what came of it; who fails is left out of the later turns.

    turns: 0, 1, …: the rounds with those of the warm-up. seconds: that one answer may take.
    Raises: ValueError if a way cannot be started.
    """
    with ExitStack() as stack:
        processes = [stack.enter_context(_Process(way, seconds)) for way in ways]
        for process in processes:
            process.get_ready()
        for turn in turns:
            for process in processes:
                process.run(counts=turn >= WARM_UP)
    return {process.way.name: process.served for process in processes}


class _Failed(Exception):
    """A way cannot go on; says why in one line."""


class _Process:
    """A way's process; ended, with all that it has started, when the block is left."""

    def __init__(self, way: Way, seconds: float) -> None:
        self.way, self.served = way, Served()
        self._seconds, self._rest, self._words = seconds, b"", tempfile.TemporaryFile()  # noqa: SIM115
        self._members = dict[int, str]()
        try:
            self._process = subprocess.Popen(
                way.command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words,
                env=dict(way.environment),
                start_new_session=True,  # Ctrl-C is for the suite, which ends its ways
            )
        except OSError as error:
            self._words.close()
            raise ValueError(f"{way.command[0]} cannot be started: {error.strerror}; {way.needs}") from error

    def get_ready(self) -> None:
        """Hand over the settings, and wait until everything is loaded."""
        with self._failing("before its first round"):
            answer = self._asked(self.way.settings)
            if "missing" in answer:
                raise ValueError(f"{self.way.command[0]}: {answer['missing']}; {self.way.needs}")
            self.served.versions = dict(answer["ready"])

    def run(self, *, counts: bool) -> None:
        """Have one round done, unless the way has failed."""
        if self.served.failure is not None:
            return
        with self._failing("in a round"):
            before, started = usage(self._process.pid), time.perf_counter()
            self._asked({})
            wall, after = time.perf_counter() - started, usage(self._process.pid)
            self._members |= family(self._process.pid)
            if counts:
                self.served.rounds.append(
                    Round(
                        wall=wall,
                        processor=after.processor - before.processor if before and after else None,
                        peak_megabytes=after.peak_megabytes if after else None,
                    )
                )

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()
        self._words.close()

    @contextmanager
    def _failing(self, when: str) -> Iterator[None]:
        """Note the failure, and end the process."""
        try:
            yield
        except _Failed as failed:
            self.served.failure = f"{failed} {when}"
            self._end()
            self.served.failure += self._last_words()

    def _asked(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Send a line, wait for one. Raises: _Failed."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it is dead, and so is its stdout
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
        try:
            answer: dict[str, Any] = json.loads(self._line())
        except ValueError:
            raise _Failed("answered with something else than a line of JSON") from None
        return answer

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        deadline = time.monotonic() + self._seconds
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise _Failed(f"took more than {self._seconds:g} s")
            more = os.read(self._process.stdout.fileno(), 65536)
            if not more:
                raise _Failed("died")
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _end(self) -> None:
        """Close stdin, which asks it to end; after some seconds, kill what is left."""
        self._members |= family(self._process.pid)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_SECONDS_TO_END)
        self._process.kill()
        self._process.wait()
        for member, start in self._members.items():
            if lives(member, start):
                with suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)

    def _last_words(self) -> str:
        """Its last line on stderr."""
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").split("\n")
        words = [line.strip() for line in lines if line.strip()]
        return f": {words[-1][:_LONGEST_LINE]}" if words else ""
