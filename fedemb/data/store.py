"""Users in SQLite files on disk: random access by user, whatever their number.

A store is one folder for each split, `<path>/<split>/`, with `users-00000-of-00001.sqlite` (one or more shards) and
`manifest.json`, which is written last. Shapes: n images of the users asked for, Ch x H x W pixels.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fedemb.core.types import Batch, UserId
from fedemb.data.manifest import Manifest, Shard, read_manifest
from fedemb.data.pictures import Picture, as_pixels, from_pixels
from fedemb.data.record import SELECT_HEAD, SELECT_IMAGES, Head, decode_head, digest
from fedemb.data.users import UserDataset

_CODECS = ("raw", "png", "jpeg", "mixed")


class StoreUsers(UserDataset):
    """The users of a prepared store, in the order they were prepared in.

    Opening reads the manifest and nothing else. The SQLite files are opened read-only and as immutable, once for each
    process and thread that asks, so a store may be forked, pickled and shared. Every record is verified when read.
    """

    def __init__(
        self, *, path: str | os.PathLike[str], split: str = "train", size: Sequence[int] | None = None
    ) -> None:
        """path: the folder that was prepared, e.g. data/omniglot. split: the folder in it.

        size: (H, W) that images are resized to when read, aspect not kept; None keeps the size they are stored in.
        Raises: ValueError in one line if there is no complete store, a shard is missing or has another size, or the
            images' sizes differ and no `size` is given.
        """
        self._path, self._split, self._size = Path(path), split, size
        self._folder = self._path / split
        self._manifest = _opened(self._path, split)
        self._shape = _image_shape(self._folder, self._manifest, size)
        self._picture = Picture(channels=self._shape[0], size=self._shape[1:])
        self._firsts = [shard.first for shard in self._manifest.shards]
        self._threads = threading.local()

    def __reduce__(self) -> tuple[object, ...]:
        return _reopened, (self._path, self._split, self._size)

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

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(Ch, H, W) of the images as they are read."""
        return self._shape

    def user_id(self, user: UserId) -> str:
        """The name that the user was prepared under."""
        return str(self._row(user, "SELECT id FROM users WHERE position = ?")[0])

    def labels(self, user: UserId) -> np.ndarray:
        """[n] int64; reads no image."""
        return self._head(user).labels

    def class_name(self, label: int) -> str | None:
        """What a label is called in the source; None where the source has no names."""
        row = self._shard(0).execute("SELECT name FROM classes WHERE label = ?", (label,)).fetchone()
        return None if row is None else str(row[0])

    def num_examples(self, user: UserId) -> int:
        """How many images a user has; reads no image."""
        return int(self._row(user, "SELECT examples FROM users WHERE position = ?")[0])

    def load(self, users: Sequence[UserId]) -> Batch:
        """All examples of some users, read in the order of the rows and returned in the order asked for."""
        heads = {user: self._head(user) for user in sorted(set(users))}
        return self._batch(users, {user: (head, range(len(head.labels))) for user, head in heads.items()})

    def load_examples(self, users: Sequence[UserId], places: Sequence[np.ndarray]) -> Batch:
        """Some examples of distinct users: only these are read and decoded.

        places: for each user, positions among its examples, in the order wanted.
        """
        chosen = dict(zip(users, places, strict=True))
        return self._batch(users, {user: (self._head(user), chosen[user].tolist()) for user in sorted(chosen)})

    def stored(self, user: UserId) -> Iterator[bytes]:
        """A user's images as they are kept, in order."""
        head = self._head(user)
        return iter(self._images(user, head, range(len(head.labels))))

    def _batch(self, users: Sequence[UserId], wanted: dict[UserId, tuple[Head, Sequence[int]]]) -> Batch:
        pixels = {user: self._pixels(user, head, places) for user, (head, places) in wanted.items()}
        labels = {user: head.labels[np.asarray(places, np.int64)] for user, (head, places) in wanted.items()}
        none = np.zeros((0, *self._shape), np.uint8), np.zeros(0, np.int64)
        return {
            "image": torch.from_numpy(np.concatenate([none[0], *(pixels[user] for user in users)])),
            "label": torch.from_numpy(np.concatenate([none[1], *(labels[user] for user in users)])),
        }

    def _pixels(self, user: UserId, head: Head, places: Sequence[int]) -> np.ndarray:
        """[n, Ch, H, W] uint8 of some of a user's images, verified."""
        images = self._images(user, head, places)
        stored = self._manifest.info.image_shape
        if self._manifest.info.codec != "raw":
            decoded = [self._picture.pixels(image, f"{self._folder}: user {user} ({head.id!r})") for image in images]
        elif stored == self._shape:
            return np.frombuffer(b"".join(images), np.uint8).reshape(len(images), *self._shape)
        else:
            size = self._shape[2], self._shape[1]
            raws = (np.frombuffer(image, np.uint8).reshape(stored) for image in images)  # type: ignore[arg-type]
            decoded = [as_pixels(from_pixels(raw).resize(size, Image.Resampling.BILINEAR)) for raw in raws]
        return np.stack(decoded) if decoded else np.zeros((0, *self._shape), np.uint8)

    def _images(self, user: UserId, head: Head, places: Sequence[int]) -> list[bytes]:
        """Some of a user's images as they are kept, verified."""
        spans = [head.span(place) for place in places]
        if len(places) == len(head.labels):
            whole: bytes = self._row(user, SELECT_IMAGES)[0]
            images = [whole[first : first + length] for first, length in spans]
        else:
            images = self._slices(user, spans)
        for place, image in zip(places, images, strict=True):
            if digest(image) != head.digests[place].tobytes():
                raise self._damaged(f"image {place} of user {user} ({head.id!r}) does not match its checksum")
        return images

    def _slices(self, user: UserId, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Parts (first, length) of a user's bytes, without reading the rest."""
        try:
            with closing(self._shard_of(user).blobopen("users", "images", user, readonly=True)) as blob:
                return [bytes(blob[first : first + length]) for first, length in spans]
        except sqlite3.Error as error:
            raise self._damaged(f"user {user} cannot be read ({error})") from None

    def _head(self, user: UserId) -> Head:
        head = decode_head(user, self._row(user, SELECT_HEAD))
        if head is None:
            raise self._damaged(f"the record of user {user} does not match its checksum")
        return head

    def _row(self, user: UserId, query: str) -> tuple[Any, ...]:
        if not 0 <= user < self.num_users:
            raise ValueError(f"store {self._folder} holds users 0 .. {self.num_users - 1}, got {user=}")
        try:
            row: tuple[Any, ...] | None = self._shard_of(user).execute(query, (user,)).fetchone()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._damaged(f"user {user} cannot be read ({error})") from None
        if row is None:
            raise self._damaged(f"the record of user {user} is missing")
        return row

    def _shard_of(self, user: UserId) -> sqlite3.Connection:
        return self._shard(bisect_right(self._firsts, user) - 1)

    def _shard(self, number: int) -> sqlite3.Connection:
        """The calling thread's connection to a file; a fork opens its own."""
        if getattr(self._threads, "process", None) != os.getpid():
            self._threads.process, self._threads.shards = os.getpid(), {}
        shards: dict[int, _Connection] = self._threads.shards
        if number not in shards:
            connection = _Connection(self._folder / self._manifest.shards[number].file)
            self._check_seal(connection, self._manifest.shards[number].file)
            shards[number] = connection
        return shards[number].sqlite

    def _check_seal(self, connection: _Connection, file: str) -> None:
        try:
            (seal,) = connection.sqlite.execute("SELECT seal FROM store").fetchone()
        except (sqlite3.Error, TypeError) as error:
            raise self._damaged(f"{file} cannot be read ({error})") from None
        if seal != self._manifest.info.seal:
            raise self._damaged(f"{file} belongs to another store than manifest.json")

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


def _reopened(path: Path, split: str, size: Sequence[int] | None) -> StoreUsers:
    return StoreUsers(path=path, split=split, size=size)


def _image_shape(folder: Path, manifest: Manifest, size: Sequence[int] | None) -> tuple[int, int, int]:
    """(Ch, H, W) as read."""
    channels, height, width = manifest.info.image_shape
    if size is not None:
        if len(size) != 2:
            raise ValueError(f"size must be [height, width], got size={list(size)}")
        height, width = size
    if height is None or width is None:
        raise ValueError(f"the images of {folder} differ in size: say which to read them in, e.g. users.size=[224,224]")
    return channels, height, width


def _opened(path: Path, split: str) -> Manifest:
    """The manifest of a store that looks complete, in time that does not depend on the number of users."""
    manifest = read_manifest(path / split)
    if manifest is None:
        raise ValueError(f"no store at {path}: run 'fedemb prepare {path.name}'{_found(path, split)}")
    if manifest.info.codec not in _CODECS:
        raise ValueError(
            f"store {path / split} keeps images as {manifest.info.codec!r}, this fedemb reads {', '.join(_CODECS)}: "
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
