"""Writing a store: bounded memory, byte for byte the same every time, and nothing half-valid if it is interrupted.

Shards grow under temporary names in the store's own folder and are renamed when all of them are whole; the manifest
comes last. An interrupted run leaves the old store or none, and the next run clears away what it left.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain, islice
from pathlib import Path

import numpy as np

from fedemb.core import check
from fedemb.core.files import sha256, sync
from fedemb.data.manifest import MANIFEST, Manifest, Shard, StoreInfo, write_manifest
from fedemb.data.record import INSERT, TABLE, UserRecord, checksum, encode_raw

_PAGE_BYTES = 8192
_ENCODERS = {"raw": encode_raw}  # codec -> UserRecord -> (labels, images)


def write_store(
    folder: Path, *, info: StoreInfo, records: Iterable[UserRecord], users_per_shard: int | None = None
) -> Manifest:
    """Write the users, in order, as the store of one split, in place of a store that may be there.

    Args: folder: made if missing. records: consumed one at a time. users_per_shard: None for a single file.
    Returns: the manifest, which is on disk as well.
    Raises: ValueError in one line if a record does not fit `info`, there is no user, or the folder cannot be written
        to; then a store that was there before is still there.
    """
    if users_per_shard is not None:
        check.at_least("users_per_shard", users_per_shard, 1)
    writer = _Writer(folder, info)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writer.clear()
        writer.write(iter(records), users_per_shard)
        return writer.publish()
    except (sqlite3.Error, OSError) as error:
        raise ValueError(f"cannot write the store {folder} ({error}): make room there, or pass another out=") from None
    finally:
        writer.clear()


class _Writer:
    """The shards of one store under their temporary names, and what is in them."""

    def __init__(self, folder: Path, info: StoreInfo) -> None:
        self._folder, self._info, self._encode = folder, info, _ENCODERS[info.codec]
        self._digest = hashlib.blake2b(f"{info.codec} {info.image_shape}".encode(), digest_size=16)
        self._sizes: list[int] = []  # users in each shard
        self._examples = 0

    def clear(self) -> None:
        """Remove what this or an interrupted run left under temporary names."""
        for leftover in self._folder.glob(".*.partial"):
            leftover.unlink(missing_ok=True)

    def write(self, records: Iterator[UserRecord], users_per_shard: int | None) -> None:
        """Write all users to temporary shards."""
        for head in records:
            self._write_shard(chain([head], islice(records, users_per_shard and users_per_shard - 1)))
        if not self._sizes:
            raise ValueError(f"a store needs at least one user, got none for {self._info.name} {self._info.split}")

    def publish(self) -> Manifest:
        """Rename the shards and write the manifest; from here on an older store is gone."""
        shards = tuple(self._shard(number) for number in range(len(self._sizes)))
        (self._folder / MANIFEST).unlink(missing_ok=True)
        for number, shard in enumerate(shards):
            os.replace(self._temporary(number), self._folder / shard.file)
        for stale in set(self._folder.glob("users-*.sqlite")) - {self._folder / shard.file for shard in shards}:
            stale.unlink()
        sync(self._folder)
        manifest = Manifest(
            info=self._info,
            users=sum(self._sizes),
            examples=self._examples,
            checksum=self._digest.hexdigest(),
            shards=shards,
        )
        write_manifest(self._folder, manifest)
        return manifest

    def _write_shard(self, records: Iterable[UserRecord]) -> None:
        first, temporary = sum(self._sizes), self._temporary(len(self._sizes))
        with closing(sqlite3.connect(temporary, isolation_level=None)) as database:
            for setting in (f"page_size={_PAGE_BYTES}", "journal_mode=OFF", "synchronous=OFF"):
                database.execute(f"PRAGMA {setting}")
            database.execute("BEGIN")
            database.execute(TABLE)
            written = database.executemany(INSERT, map(self._row, enumerate(records, start=first))).rowcount
            database.execute("COMMIT")
        self._sizes.append(written)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())

    def _row(self, numbered: tuple[int, UserRecord]) -> tuple[int, str, int, bytes, bytes, bytes]:
        position, record = numbered
        _check_fits(record, self._info)
        labels, images = self._encode(record)
        sealed = checksum(position, record.id, len(record.labels), labels, images)
        self._digest.update(sealed)
        self._examples += len(record.labels)
        return position, record.id, len(record.labels), sealed, labels, images

    def _shard(self, number: int) -> Shard:
        temporary = self._temporary(number)
        return Shard(
            file=f"users-{number:05d}-of-{len(self._sizes):05d}.sqlite",
            first=sum(self._sizes[:number]),
            users=self._sizes[number],
            bytes=temporary.stat().st_size,
            sha256=sha256(temporary),
        )

    def _temporary(self, number: int) -> Path:
        return self._folder / f".users-{number:05d}.{os.getpid()}.partial"


def _check_fits(record: UserRecord, info: StoreInfo) -> None:
    images, labels = record.images, record.labels
    if images.dtype != np.uint8 or images.shape != (len(labels), *info.image_shape):
        raise ValueError(
            f"user {record.id!r}: {len(labels)} labels need images of uint8 {[len(labels), *info.image_shape]}, "
            f"got {images.dtype} {list(images.shape)}"
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < info.classes:
        raise ValueError(
            f"user {record.id!r}: labels must lie in 0 .. {info.classes - 1}, got {labels.min()} .. {labels.max()}"
        )
