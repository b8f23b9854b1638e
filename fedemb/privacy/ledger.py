"""The append-only record of what a run has charged, written to disk before the round that it pays for.

One JSON line a charge: {"entry": 0, "event": {...}}. Entries count charges, not rounds: a round that crashed is charged
again when it is repeated, so there are at least as many entries as completed rounds.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dp_accounting import DpEvent

from fedemb.core.files import sync
from fedemb.privacy.events import from_plain, to_plain

RELATION = "substitute-one"
"""The neighbouring relation of every charge; a line may name it."""


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What has been charged so far; `Ledger()` lives in memory only.

    path: file with one line a charge, or None.
    entries: number of charges.
    counts: event as sorted JSON -> how often it was charged.
    length_bytes: length of the file, to notice anybody else who writes to it.
    incomplete: did the file, when it was read, end in a part of a line, which paid for nothing?
    """

    path: Path | None = None
    entries: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    length_bytes: int = 0
    incomplete: bool = field(default=False, compare=False)

    @classmethod
    def create(cls, path: Path) -> Ledger:
        """A new, empty ledger file, durable in its folder. Raises: ValueError if the file exists."""
        try:
            with path.open("xb") as file:
                os.fsync(file.fileno())
        except FileExistsError:
            raise ValueError(f"{path} exists already: resume that run, or choose another run folder") from None
        sync(path.parent)
        return cls(path=path)

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """What a ledger file says, without touching it; see `resume` for an incomplete last line.

        Raises: ValueError with file and line for a missing file or a line that is no charge.
        """
        keys, incomplete, length_bytes = _read(path)
        return cls(path=path, entries=len(keys), counts=Counter(keys), length_bytes=length_bytes, incomplete=incomplete)

    @classmethod
    def resume(cls, path: Path) -> Ledger:
        """The ledger of an interrupted run, ready for further charges.

        A charge returns only after its line, which ends in a newline, is on disk, and no round starts before. A last
        line without a newline therefore paid for nothing: it is removed. Should it be a complete charge all the same
        (cut by an editor or a copy), it counts and gets its newline. Only the last line can be incomplete.
        """
        ledger = cls.read(path)
        with path.open("r+b") as file:
            raw = file.read()
            complete = raw.rfind(b"\n") + 1
            if complete < len(raw):
                if ledger.entries > raw.count(b"\n"):
                    file.write(b"\n")
                else:
                    file.truncate(complete)
                file.flush()
                os.fsync(file.fileno())
            length_bytes = os.fstat(file.fileno()).st_size
        return replace(ledger, length_bytes=length_bytes)

    def charge(self, event: DpEvent) -> Ledger:
        """The ledger with one more charge, which is on disk (flushed and synced) when this returns.

        Raises: ValueError if the file is not as this ledger left it; OSError if it cannot be written, after which the
        file is as before as far as the disk allows.
        """
        plain = to_plain(event)
        length_bytes = self.length_bytes
        if self.path is not None:
            line = json.dumps({"entry": self.entries, "event": plain}, allow_nan=False).encode() + b"\n"
            _append(self.path, line, length_bytes)
            length_bytes += len(line)
        key = _key(plain)
        counts = {**self.counts, key: self.counts.get(key, 0) + 1}
        return replace(self, entries=self.entries + 1, counts=counts, length_bytes=length_bytes)

    def holds_only(self, events: Iterable[DpEvent]) -> bool:
        """Is every charge one of these events?"""
        return self.counts.keys() <= {_key(to_plain(event)) for event in events}

    @property
    def events(self) -> list[tuple[DpEvent, int]]:
        """Distinct events with their counts, for `fedemb.privacy.accounting`."""
        return [(from_plain(json.loads(key)), count) for key, count in self.counts.items()]


def charges(path: Path) -> list[DpEvent]:
    """What a ledger file has charged, in order. Raises: ValueError as `Ledger.read`."""
    keys, _, _ = _read(path)
    events = {key: from_plain(json.loads(key)) for key in dict.fromkeys(keys)}
    return [events[key] for key in keys]


def _read(path: Path) -> tuple[list[str], bool, int]:
    """(the charges as sorted JSON, whether a part of a line follows them, length of the file in bytes)."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"there is no ledger at {path}") from None
    *lines, rest = raw.split(b"\n")
    if rest and _is_charge(path, len(lines), rest):
        lines, rest = [*lines, rest], b""
    return [_event(path, number, line) for number, line in enumerate(lines)], bool(rest), len(raw)


def _append(path: Path, line: bytes, length_bytes: int) -> None:
    """Add one line to a file that must have the given length."""
    with path.open("r+b", buffering=0) as file:
        found = file.seek(0, os.SEEK_END)
        if found != length_bytes:
            raise ValueError(f"{path} has {found} bytes instead of {length_bytes}: another process writes to it")
        try:
            if file.write(line) != len(line):
                raise OSError(f"{path}: the disk took only a part of a line")
            os.fsync(file.fileno())
        except OSError:
            file.truncate(length_bytes)
            raise


def _event(path: Path, number: int, line: bytes) -> str:
    """The event of line `number` (from 0) as sorted JSON."""
    try:
        charge: dict[str, Any] = json.loads(line)
        relation = charge.pop("relation", RELATION)
        if charge.keys() != {"entry", "event"} or charge["entry"] != number:
            raise ValueError(f"expected entry {number}")
        key = _key(to_plain(from_plain(charge["event"])))
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} line {number + 1} is damaged ({error}); restore the file from a copy") from None
    if relation != RELATION:
        raise ValueError(
            f"{path} line {number + 1} is charged under {relation}; fedemb adds up {RELATION} charges only"
        )
    return key


def _is_charge(path: Path, number: int, line: bytes) -> bool:
    """Whether a line without a newline is complete all the same."""
    try:
        _event(path, number, line)
    except ValueError:
        return False
    return True


def _key(plain: Mapping[str, Any]) -> str:
    """One string for equal events."""
    return json.dumps(plain, sort_keys=True, allow_nan=False)
