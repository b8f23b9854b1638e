"""One user's row in a store: its layout and its checksum. Shapes: n images, Ch x H x W pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

TABLE = """CREATE TABLE users (position INTEGER PRIMARY KEY, id TEXT NOT NULL, examples INTEGER NOT NULL,
checksum BLOB NOT NULL, labels BLOB NOT NULL, images BLOB NOT NULL)"""
INSERT = "INSERT INTO users VALUES (?, ?, ?, ?, ?, ?)"
SELECT = "SELECT id, examples, checksum, labels, images FROM users WHERE position = ?"

_LABEL = np.dtype("<i8")


@dataclass(frozen=True, kw_only=True)
class UserRecord:
    """A user on the way into a store. images: [n, Ch, H, W] uint8, n >= 0. labels: [n] whole numbers."""

    id: str
    images: np.ndarray
    labels: np.ndarray


def checksum(position: int, user_id: str, examples: int, labels: bytes, images: bytes) -> bytes:
    """16 bytes of BLAKE2b over everything in a row, its position included."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (f"{position} {examples} {len(labels)} {len(images)} {user_id}".encode(), labels, images):
        digest.update(part)
    return digest.digest()


def encode_raw(record: UserRecord) -> tuple[bytes, bytes]:
    """(labels, images) as stored with codec "raw"."""
    return record.labels.astype(_LABEL).tobytes(), record.images.tobytes()


def decode_labels(labels: bytes) -> np.ndarray:
    """[n] int64."""
    return np.frombuffer(labels, _LABEL).astype(np.int64)


def decode_raw(images: bytes, examples: int, image_shape: tuple[int, int, int]) -> np.ndarray:
    """[n, Ch, H, W] uint8; a view of `images`."""
    return np.frombuffer(images, np.uint8).reshape(examples, *image_shape)
