"""Files that survive a crash: whole or not at all, and on disk when a function returns."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".lock"


@contextmanager
def as_os_error(path: Path) -> Iterator[None]:
    """What a library says of a file with no more than the system's error number, as the OSError that it is."""
    try:
        yield
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None or isinstance(error, OSError):
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


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
def made(folder: Path) -> Iterator[None]:
    """Make a folder if need be, with those above it; what is still empty at the end goes again, if it was made here.

    Raises: OSError if it cannot be made.
    """
    new = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):  # not empty
            for place in new:
                place.rmdir()


@contextmanager
def held(file: Path, in_use: str) -> Iterator[None]:
    """Hold a file, made if need be; the lock goes with the process, however it ends. The holder may remove the file.

    in_use: what to say if somebody else holds it, another process or this one.
    Raises: ValueError if so; OSError if the file cannot be written.
    """
    with file.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(in_use) from None
        if not file.exists() or not os.path.samestat(file.stat(), os.fstat(handle.fileno())):
            raise ValueError(in_use)  # its holder removed it after it was opened here
        yield


@contextmanager
def in_turn(file: Path) -> Iterator[None]:
    """Hold a file, made if need be, as soon as nobody else does: for moments, where `held` is for the length of a run.

    The file stays. Raises: OSError if it cannot be written.
    """
    with file.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def locked(folder: Path, in_use: str) -> Iterator[None]:
    """Hold a folder, made if need be, by a file in it; a folder that was made and stays empty goes again.

    in_use, raises: as for `held`.
    """
    lock = folder / LOCK
    with made(folder), held(lock, in_use):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
