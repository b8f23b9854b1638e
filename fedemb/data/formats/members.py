"""What an archive may hold: names that stay inside it, each once, and members of bearable size."""

from __future__ import annotations

import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

MAX_MEMBER_BYTES = 1 << 28

Wanted = Callable[[str], bool]
"""Is a member of this name needed?"""

_DRIVE = re.compile(r"[A-Za-z]:")
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, KeyError, OverflowError, RuntimeError, UnicodeDecodeError),
)


def check_names(path: Path, names: Iterable[str]) -> None:
    """Raise ValueError for a name that leaves the archive's own folder, on any system, or is no text."""
    for name in names:
        parts = name.replace("\\", "/").split("/")
        if ".." in parts or name.startswith(("/", "\\")) or _DRIVE.match(name):
            raise ValueError(
                f"{path} holds {name!r}, a name that leaves the archive: do not use this file, get another"
            )
        check_text(path, name)


def check_text(path: Path, name: str) -> None:
    """Raise ValueError for a name that is no text."""
    if not _is_text(name):
        raise ValueError(f"{path} holds {name!a}, a name that is not UTF-8: rename it, or get another archive")


def check_once(path: Path, names: Sequence[str]) -> None:
    """Raise ValueError if a name comes twice. names: sorted."""
    for name, other in pairwise(names):
        if name == other:
            raise ValueError(f"{path} holds a member twice: {name}; pack it again with each file once")


def check_size(size: int, where: str) -> None:
    """Raise ValueError for a member that is larger than anything that should be read into memory."""
    if size > MAX_MEMBER_BYTES:
        raise ValueError(
            f"{where} has {size} bytes, more than the {MAX_MEMBER_BYTES} that an image may have: "
            "make it smaller or leave it out"
        )


@contextmanager
def damaged(path: Path, member: str = "") -> Iterator[None]:
    """What readers of archives raise on broken files, in one line."""
    try:
        yield
    except _BROKEN as error:
        what = f" {member} in" if member else ""
        raise ValueError(f"cannot read{what} {path} ({error}): get the file again") from None


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
