"""The files of one run, and the lock that keeps a second process out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedemb.core.files import LOCK, locked, write_atomically


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """<run>/config.yaml report.json report.html metrics.csv ledger.jsonl checkpoints/ model/ diagnostics/ train.log."""

    path: Path

    @property
    def config(self) -> Path:
        """The configuration; it exists from the first moment of a run."""
        return self.path / "config.yaml"

    @property
    def ledger(self) -> Path:
        """What has been charged."""
        return self.path / "ledger.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Where training goes on from."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """Public metrics by round."""
        return self.path / "metrics.csv"

    @property
    def diagnostics(self) -> Path:
        """Exact values of private data, written in simulations only."""
        return self.path / "diagnostics"

    @property
    def model(self) -> Path:
        """The exported backbone."""
        return self.path / "model"

    @property
    def report(self) -> Path:
        """The result, in the contract's form."""
        return self.path / "report.json"

    @property
    def log(self) -> Path:
        """What the console showed."""
        return self.path / "train.log"

    @property
    def trackers(self) -> Path:
        """How trackers call the run, where it has some."""
        return self.path / "trackers.json"

    def is_used(self) -> bool:
        """Does the folder hold a run already?"""
        return self.config.exists()

    def refuse_if_used(self) -> None:
        """Raise ValueError if the folder holds a run, or anything else, or cannot be made."""
        if self.is_used():
            raise ValueError(f"run folder {self.path} holds a run already: go on with resume=true or take another run=")
        if self.path.exists() and (not self.path.is_dir() or any(p.name != LOCK for p in self.path.iterdir())):
            raise ValueError(f"run folder {self.path} exists and is not empty: take another run=")

    def create(self, config: str) -> None:
        """Start a new run: its configuration is the first file."""
        self.refuse_if_used()
        write_atomically(self.config, config)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run folder, made if need be; the lock goes with the process, however it ends.

        Raises: ValueError if another process holds it.
        """
        with ExitStack() as stack:
            try:
                used = f"run folder {self.path} is in use by another process: wait until it ends or take another run="
                stack.enter_context(locked(self.path, used))
            except OSError as error:
                raise ValueError(
                    f"cannot write the run folder {self.path}: {error.strerror}; take another run="
                ) from error
            yield
