"""Users in SQLite files on disk: random access by user, whatever their number.

A store is one folder for each split, `<path>/<split>/`, with `users-00000-of-00001.sqlite` (one or more shards) and
`manifest.json`, which is written last. Shapes: n images of the users asked for, Ch x H x W pixels.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fedemb.core.types import Batch, UserId
from fedemb.data.manifest import Manifest, Shard, read_manifest
from fedemb.data.record import SELECT, checksum, decode_labels, decode_raw
from fedemb.data.users import UserDataset

_DECODERS = {"raw": decode_raw}  # codec -> (blob, n, image shape) -> [n, Ch, H, W] uint8


class StoreUsers(UserDataset):
    """The users of a prepared store, in the order they were prepared in.

    Opening reads the manifest and nothing else. The SQLite files are opened read-only and as immutable, once for each
    process and thread that asks, so a store may be forked, pickled and shared. Every record is verified when read.
    """

    def __init__(self, *, path: str | os.PathLike[str], split: str = "train") -> None:
        """path: the folder that was prepared, e.g. data/omniglot. split: the folder in it.

        Raises: ValueError in one line if there is no complete store, or a shard is missing or has another size.
        """
        self._path, self._split = Path(path), split
        self._folder = self._path / split
        self._manifest = _opened(self._path, split)
        self._decode = _DECODERS[self._manifest.info.codec]
        self._firsts = [shard.first for shard in self._manifest.shards]
        self._threads = threading.local()

    def __reduce__(self) -> tuple[object, ...]:
        return _reopened, (self._path, self._split)

    @property
    def manifest(self) -> Manifest:
        """All that is known about the store."""
        return self._manifest

    @property
    def name(self) -> str:
        """The data set's name in a report."""
        return self._manifest.info.name

    @property
    def num_users(self) -> int:
        """N."""
        return self._manifest.users

    @property
    def num_examples_total(self) -> int:
        """Images of all users."""
        return self._manifest.examples

    @property
    def checksum(self) -> str:
        """Digest of all records."""
        return self._manifest.checksum

    def user_id(self, user: UserId) -> str:
        """The name that the user was prepared under."""
        return str(self._row(user, "SELECT id FROM users WHERE position = ?")[0])

    def num_examples(self, user: UserId) -> int:
        """How many images a user has; reads no image."""
        return int(self._row(user, "SELECT examples FROM users WHERE position = ?")[0])

    def load(self, users: Sequence[UserId]) -> Batch:
        """All examples of some users, read in the order of the rows and returned in the order asked for."""
        records = {user: self._record(user) for user in sorted(set(users))}
        images = [np.zeros((0, *self._manifest.info.image_shape), np.uint8), *(records[user][0] for user in users)]
        labels = [np.zeros(0, np.int64), *(records[user][1] for user in users)]
        return {"image": torch.from_numpy(np.concatenate(images)), "label": torch.from_numpy(np.concatenate(labels))}

    def _record(self, user: UserId) -> tuple[np.ndarray, np.ndarray]:
        """(images [n, Ch, H, W] uint8, labels [n] int64), verified."""
        user_id, examples, expected, labels, images = self._row(user, SELECT)
        if checksum(user, user_id, examples, labels, images) != expected:
            raise self._damaged(f"the record of user {user} ({user_id!r}) does not match its checksum")
        return self._decode(images, examples, self._manifest.info.image_shape), decode_labels(labels)

    def _row(self, user: UserId, query: str) -> tuple[str, int, bytes, bytes, bytes]:
        if not 0 <= user < self.num_users:
            raise ValueError(f"store {self._folder} holds users 0 .. {self.num_users - 1}, got {user=}")
        try:
            row: tuple[str, int, bytes, bytes, bytes] | None = self._shard(user).execute(query, (user,)).fetchone()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._damaged(f"user {user} cannot be read ({error})") from None
        if row is None:
            raise self._damaged(f"the record of user {user} is missing")
        return row

    def _shard(self, user: UserId) -> sqlite3.Connection:
        """The calling thread's connection to the file that holds a user; a fork opens its own."""
        if getattr(self._threads, "process", None) != os.getpid():
            self._threads.process, self._threads.shards = os.getpid(), {}
        shards: dict[int, _Connection] = self._threads.shards
        number = bisect_right(self._firsts, user) - 1
        if number not in shards:
            shards[number] = _Connection(self._folder / self._manifest.shards[number].file)
        return shards[number].sqlite

    def _damaged(self, what: str) -> ValueError:
        return ValueError(f"store {self._folder} is damaged: {what}; prepare it again with '{_mend(self._manifest)}'")


class _Connection:
    """A read-only connection that closes with its owner."""

    def __init__(self, file: Path) -> None:
        uri = f"{file.resolve().as_uri()}?mode=ro&immutable=1"
        self.sqlite = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)

    def __del__(self) -> None:
        if hasattr(self, "sqlite"):
            self.sqlite.close()


def _reopened(path: Path, split: str) -> StoreUsers:
    return StoreUsers(path=path, split=split)


def _opened(path: Path, split: str) -> Manifest:
    """The manifest of a store that looks complete, in time that does not depend on the number of users."""
    manifest = read_manifest(path / split)
    if manifest is None:
        raise ValueError(f"no store at {path}: run 'fedemb prepare {path.name}'{_found(path, split)}")
    if manifest.info.codec not in _DECODERS:
        raise ValueError(
            f"store {path / split} keeps images as {manifest.info.codec!r}, this fedemb reads {sorted(_DECODERS)}: "
            "take a newer fedemb"
        )
    for shard in manifest.shards:
        if (size := _size(path / split / shard.file)) != shard.bytes:
            raise ValueError(
                f"store {path / split} is damaged: {_named(shard, size)}; prepare it again with '{_mend(manifest)}'"
            )
    return manifest


def _found(path: Path, split: str) -> str:
    splits = sorted(file.parent.name for file in path.glob("*/manifest.json"))
    return f" (there is {', '.join(splits)} but not {split})" if splits else ""


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.is_file() else None


def _named(shard: Shard, size: int | None) -> str:
    return f"{shard.file} is missing" if size is None else f"{shard.file} has {size} bytes and not {shard.bytes}"


def _mend(manifest: Manifest) -> str:
    return f"{manifest.info.command} overwrite=true"
