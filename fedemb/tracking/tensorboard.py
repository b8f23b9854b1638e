"""TensorBoard: event files in the run folder, written at once, so that a full disk is noticed where it happens."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fedemb.tracking.tracker import Track, TrackedRun, Tracker

FOLDER = "tensorboard"


@dataclass(frozen=True, kw_only=True)
class TensorBoard(Tracker):
    """<run>/tensorboard/, which `tensorboard --logdir` reads, also for a folder of runs.

    tensorboardX is one small wheel beside protobuf and numpy; the `tensorboard` package, which shows the files, is
    needed where they are looked at. Its own writer works in a thread that a full disk ends unseen.
    """

    @property
    def keeps_times(self) -> bool:
        """Event files hold the times that they are given."""
        return False

    def open(self, run: TrackedRun) -> Track:
        """A file of its own for each process, named after its first round: TensorBoard reads them in that order."""
        from tensorboardX.record_writer import RecordWriter
        from tensorboardX.summary import text

        folder = run.folder / FOLDER
        folder.mkdir(exist_ok=True)
        records = RecordWriter(str(folder / f"events.out.tfevents.{run.first_round:010d}.fedemb"))
        track = _Events(records=records, secret=run.secret)
        track.begin(run.first_round)
        lines = [f"| {key} | {value} |" for key, value in run.settings.items()]
        track.put(run.first_round, summary=text("settings", "\n".join(["| key | value |", "|---|---|", *lines])))
        return track


@dataclass(kw_only=True)
class _Events(Track):
    records: Any
    secret: bool
    identity: str = FOLDER
    _round: int = 0

    def begin(self, round: int) -> None:
        """The head of a file; TensorBoard then drops what an earlier file has of this round and later ones."""
        from tensorboardX.proto.event_pb2 import SessionLog

        self.put(round, file_version="brain.Event:2")
        self.put(round, session_log=SessionLog(status=SessionLog.START))

    def write(self, round: int, numbers: Mapping[str, float]) -> None:
        """One event."""
        from tensorboardX.proto.summary_pb2 import Summary

        self._round = round
        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self.put(round, summary=Summary(value=values))

    def close(self, facts: Mapping[str, str], *, finished: bool) -> None:
        """Facts are texts."""
        from tensorboardX.summary import text

        for name, fact in facts.items():
            self.put(self._round, summary=text(name, fact))
        self.records.close()

    def put(self, round: int, **content: Any) -> None:
        """Write one event. In a release the round stands for the time."""
        from tensorboardX.proto.event_pb2 import Event

        now = float(round) if self.secret else time.time()
        try:
            self.records.write(Event(wall_time=now, step=round, **content).SerializeToString())
            self.records.flush()
        except OSError:
            with suppress(OSError):  # the same again, for what is still in the buffer
                self.records.close()
            raise
