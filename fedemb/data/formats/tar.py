"""Where the members of a tar lie. A compressed tar can only be read from its start, so what is wanted is spooled."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from fedemb.data.formats.members import Wanted, check_names, check_size, damaged
from fedemb.data.spool import Spool, spooling

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

Places = dict[str, tuple[int, int]]
"""member -> (first byte, length) in a file."""

_CHUNK = 1 << 20
_COMPRESSED: tuple[tuple[bytes, Callable[[Path], Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ", lzma.open),
)


@contextmanager
def opened_tar(path: Path, scratch: Path, wanted: Wanted) -> Iterator[tuple[Path, Places]]:
    """(file, places): where the wanted members' bytes are. A plain tar is that file itself.

    Args: scratch: folder for a compressed tar's members, in one temporary file that is removed at the end.
    Raises: ValueError in one line if the tar is damaged, cut off or not safe, `scratch` is full, or another process
        unpacks the same tar there.
    """
    with damaged(path):
        unpack = _unpacker(path)
    if unpack is None:
        with damaged(path), path.open("rb") as file:
            places = {member.name: (member.offset_data, member.size) for _, member in _members(path, file, wanted)}
        yield path, places
        return
    with spooling(scratch, path) as spool:
        with damaged(path), unpack(path) as file:
            places = _spooled(path, file, spool, wanted)
        yield spool.path, places


class _Header(tarfile.TarInfo):
    """A member's header, or an error: tarfile takes a damaged or missing one for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise EOFError(f"{error}: cut off or damaged") from None


def _unpacker(path: Path) -> Callable[[Path], Any] | None:
    """How to open a compressed tar, by its first bytes; None if it is plain."""
    with path.open("rb") as file:
        start = file.read(8)
    return next((unpack for magic, unpack in _COMPRESSED if start.startswith(magic)), None)


def _spooled(path: Path, file: IO[bytes], spool: Spool, wanted: Wanted) -> Places:
    """One pass over the tar in `file`, to its very end, where the checksum of the compression is."""
    places: Places = {}
    for tar, member in _members(path, file, wanted):
        check_size(member.size, f"{path}: {member.name}")
        content = tar.extractfile(member)
        assert content is not None
        places[member.name] = spool.write(iter(partial(content.read, _CHUNK), b""))
    while file.read(_CHUNK):
        pass
    return places


def _members(path: Path, file: IO[bytes], wanted: Wanted) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The wanted regular files, in the order of the tar, without keeping them all."""
    seen: set[str] = set()
    with tarfile.open(fileobj=file, mode="r:", tarinfo=_Header) as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]
            if not member.isfile():
                continue
            member.name = member.name.removeprefix("./")
            check_names(path, [member.name])
            if not wanted(member.name):
                continue
            if member.name in seen:
                raise ValueError(f"{path} holds a member twice: {member.name}; pack it again with each file once")
            if member.issparse():
                raise ValueError(f"{path}: {member.name} is a sparse file: pack it again without --sparse")
            seen.add(member.name)
            yield tar, member
