"""One user's row in a store: its layout and its checksums. Shapes: n images, Ch x H x W pixels.

Every image has a digest, and the row a checksum over all the rest, the digests included: so some images of a user can
be read, and verified, without the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

DIGEST_BYTES = 16
MAX_RECORD_BYTES = 900_000_000  # a row of SQLite has at most 1e9

TABLES = (
    "CREATE TABLE store (seal TEXT NOT NULL)",
    "CREATE TABLE classes (label INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum BLOB NOT NULL)",
    """CREATE TABLE users (position INTEGER PRIMARY KEY, id TEXT NOT NULL, examples INTEGER NOT NULL,
checksum BLOB NOT NULL, labels BLOB NOT NULL, sizes BLOB NOT NULL, digests BLOB NOT NULL, images BLOB NOT NULL)""",
)
INSERT = "INSERT INTO users VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_CLASS = "INSERT INTO classes VALUES (?, ?, ?)"
SELECT_HEAD = "SELECT id, examples, checksum, labels, sizes, digests FROM users WHERE position = ?"
SELECT_IMAGES = "SELECT images FROM users WHERE position = ?"
SELECT_CLASS = "SELECT name, checksum FROM classes WHERE label = ?"

_LABEL, _SIZE = np.dtype("<i8"), np.dtype("<u4")


@dataclass(frozen=True, kw_only=True)
class UserRecord:
    """A user on the way into a store.

    images: n >= 0 images, each as the store's codec keeps it: a file's bytes, or for "raw" Ch·H·W bytes of pixels.
    labels: [n] whole numbers.
    """

    id: str
    images: Sequence[bytes]
    labels: np.ndarray

    @classmethod
    def from_pixels(cls, *, id: str, images: np.ndarray, labels: np.ndarray) -> UserRecord:
        """A record for codec "raw". images: [n, Ch, H, W] uint8."""
        if images.dtype != np.uint8:
            raise ValueError(f"user {id!r}: pixels must be uint8, got {images.dtype}")
        return cls(id=id, images=tuple(image.tobytes() for image in images), labels=labels)


@dataclass(frozen=True, kw_only=True)
class Head:
    """A row without its images. labels: [n] int64. ends: [n] where each image ends. digests: [n, 16] uint8."""

    id: str
    labels: np.ndarray
    ends: np.ndarray
    digests: np.ndarray

    def span(self, place: int) -> tuple[int, int]:
        """(first, length) of one image among the bytes of all."""
        first = int(self.ends[place - 1]) if place else 0
        return first, int(self.ends[place]) - first


def digest(image: bytes | memoryview) -> bytes:
    """16 bytes of BLAKE2b over one image as it is stored."""
    return hashlib.blake2b(image, digest_size=DIGEST_BYTES).digest()


def encode(position: int, record: UserRecord) -> tuple[int, str, int, bytes, bytes, bytes, bytes, bytes]:
    """The row of a user, for INSERT."""
    n = len(record.images)
    labels = np.asarray(record.labels).astype(_LABEL).tobytes()
    sizes = np.fromiter(map(len, record.images), _SIZE, n).tobytes()
    digests = b"".join(map(digest, record.images))
    sealed = _checksum(position, record.id, n, (labels, sizes, digests))
    return position, record.id, n, sealed, labels, sizes, digests, b"".join(record.images)


def decode_head(position: int, row: tuple[Any, ...]) -> Head | None:
    """The row of SELECT_HEAD; None if it does not match its checksum."""
    user_id, examples, expected, labels, sizes, digests = row
    kinds = (str, int, bytes, bytes, bytes, bytes)
    if any(type(value) is not kind for value, kind in zip(row, kinds, strict=True)):
        return None
    whole = len(labels), len(sizes), len(digests)
    if whole != (examples * _LABEL.itemsize, examples * _SIZE.itemsize, examples * DIGEST_BYTES):
        return None
    if _checksum(position, user_id, examples, (labels, sizes, digests)) != expected:
        return None
    return Head(
        id=user_id,
        labels=np.frombuffer(labels, _LABEL).astype(np.int64),
        ends=np.cumsum(np.frombuffer(sizes, _SIZE), dtype=np.int64),
        digests=np.frombuffer(digests, np.uint8).reshape(examples, DIGEST_BYTES),
    )


def class_checksum(label: int, name: str) -> bytes:
    """Over a row of the classes."""
    return hashlib.blake2b(f"{label} {name}".encode(), digest_size=DIGEST_BYTES).digest()


def _checksum(position: int, user_id: str, examples: int, parts: Sequence[bytes]) -> bytes:
    """Over everything in a row but the images, which the digests stand for."""
    summed = hashlib.blake2b(f"{position} {examples} {user_id}".encode(), digest_size=DIGEST_BYTES)
    for part in parts:
        summed.update(part)
    return summed.digest()
