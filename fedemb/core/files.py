"""Files that survive a crash: whole or not at all, and on disk when a function returns."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"


def sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's content in one step."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    sync(draft)
    draft.replace(path)
    sync(path.parent)


def sha256(path: Path) -> str:
    """The digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def held(file: Path, in_use: str) -> Iterator[None]:
    """Hold a file, made if need be; the lock goes with the process, however it ends.

    in_use: what to say if somebody else holds it, another process or this one.
    Raises: ValueError if so; OSError if the file cannot be written.
    """
    with file.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(in_use) from None
        yield


@contextmanager
def locked(folder: Path, in_use: str) -> Iterator[None]:
    """Hold a folder, made if need be, by a file in it. Else as `held`."""
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder / LOCK, in_use):
        yield
