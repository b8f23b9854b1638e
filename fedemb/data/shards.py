"""The SQLite files of one store, opened when something is asked for that they hold."""

from __future__ import annotations

import os
import sqlite3
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from operator import index
from pathlib import Path
from typing import Any

from fedemb.core.types import UserId
from fedemb.data.manifest import Manifest, into
from fedemb.data.record import SELECT_CLASS, SELECT_IMAGES, class_checksum

_MOST_OPEN = 32  # files of a store at once, by each thread
_CACHE_KIBIBYTES = 256  # of SQLite's pages, by each open file


class Shards:
    """Rows of a store by the user's position. Each process and thread has connections of its own, read-only.

    Raises: ValueError in one line that says how to mend the store, for anything that cannot be read.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Opens nothing."""
        self._folder, self._manifest = folder, manifest
        self._firsts = [shard.first for shard in manifest.shards]
        self._threads = threading.local()

    def row(self, user: UserId, query: str) -> tuple[Any, ...]:
        """The row of a query for one position."""
        position = index(user)
        if not 0 <= position < self._manifest.users:
            raise ValueError(f"store {self._folder} holds users 0 .. {self._manifest.users - 1}, got {user=}")
        with self._told(f"user {user}"):
            row: tuple[Any, ...] | None = self._holding(position).execute(query, (position,)).fetchone()
        if row is None:
            raise self.damaged(f"the record of user {user} is missing")
        return row

    def images(self, user: UserId) -> bytes:
        """The bytes of all images of a user."""
        (images,) = self.row(user, SELECT_IMAGES)
        if not isinstance(images, bytes):
            raise self.damaged(f"the images of user {user} are {type(images).__name__}")
        return images

    def slices(self, user: UserId, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Parts (first, length) of the same, without reading the rest."""
        position = index(user)
        with (
            self._told(f"user {user}"),
            closing(self._holding(position).blobopen("users", "images", position, readonly=True)) as blob,
        ):
            return [bytes(blob[first : first + length]) for first, length in spans]

    def class_name(self, label: int) -> str | None:
        """What a label is called; None where it has no name."""
        with self._told(f"class {label}"):
            row = self._connection(0).execute(SELECT_CLASS, (label,)).fetchone()
        if row is None:
            return None
        name, checksum = row
        if checksum != class_checksum(label, str(name)):
            raise self.damaged(f"the name of class {label} does not match its checksum")
        return str(name)

    def damaged(self, what: str) -> ValueError:
        """The error for a store that does not hold what it was given."""
        again = mend(self._folder, self._manifest)
        return ValueError(f"store {self._folder} is damaged: {what}; prepare it again with '{again}'")

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self.damaged(f"{what} cannot be read ({error})") from None

    def _holding(self, position: int) -> sqlite3.Connection:
        return self._connection(bisect_right(self._firsts, position) - 1)

    def _connection(self, number: int) -> sqlite3.Connection:
        """The calling thread's connection to a file; the one that was used longest ago makes room."""
        if getattr(self._threads, "process", None) != os.getpid():  # a fork must not use its parent's
            self._threads.process, self._threads.opened = os.getpid(), OrderedDict()
        opened: OrderedDict[int, _Connection] = self._threads.opened
        if number not in opened:
            opened[number] = self._opened(self._manifest.shards[number].file)
            if len(opened) > _MOST_OPEN:
                opened.popitem(last=False)
        opened.move_to_end(number)
        return opened[number].sqlite

    def _opened(self, file: str) -> _Connection:
        connection = _Connection(self._folder / file)
        row = connection.sqlite.execute("SELECT seal FROM store").fetchone()
        if row != (self._manifest.info.seal,):
            raise self.damaged(f"{file} belongs to another store than manifest.json")
        return connection


class _Connection:
    """A read-only connection that closes with its owner."""

    def __init__(self, file: Path) -> None:
        uri = f"{file.resolve().as_uri()}?mode=ro&immutable=1"
        self.sqlite = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
        self.sqlite.execute(f"PRAGMA cache_size=-{_CACHE_KIBIBYTES}")

    def __del__(self) -> None:
        if hasattr(self, "sqlite"):
            self.sqlite.close()


def mend(folder: Path, manifest: Manifest) -> str:
    """The command that makes a store again, where it is. folder: `<out>/<split>`."""
    return f"{manifest.info.command} {into(folder.parent)} overwrite=true"
