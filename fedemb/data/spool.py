"""Temporary files of a preparation: what a packed source holds, laid out so that it can be read at random.

A spool lies in the folder that the stores go to, is held as long as it is used, and is removed at the end; one that a
killed run left is removed by the next preparation into that folder, of whatever data set.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path

from fedemb.core.files import held, made

_NAME, _ANY = ".fedemb-{}.spool.partial", ".fedemb-*.spool.partial"


class Spool:
    """A temporary file that is written from its start to its end; what is written can be read at once."""

    def __init__(self, path: Path, file: FileIO) -> None:
        """file: open for writing."""
        self.path, self._file, self._size = path, file, 0

    def write(self, pieces: Iterable[bytes]) -> tuple[int, int]:
        """Append the bytes of all pieces, one piece in memory at a time.

        Returns: (first byte, how many).
        Raises: ValueError in one line if there is no room; whatever `pieces` raises.
        """
        first = self._size
        for piece in pieces:
            self._append(memoryview(piece))
        return first, self._size - first

    def _append(self, left: memoryview) -> None:
        while left:
            try:
                written = self._file.write(left)
            except OSError as error:
                raise unwritable(self.path, error) from None
            left, self._size = left[written:], self._size + written


@contextmanager
def spooling(scratch: Path, source: Path, part: str = "") -> Iterator[Spool]:
    """`with spooling(folder, source) as spool:` an empty spool.

    Args: scratch: where to; made if need be, and removed again if nothing stays in it. source: what will be spooled,
        and part: which part of it; the same part of the same source has one spool in a folder.
    Raises: ValueError in one line if another preparation has that spool, or the folder cannot be written to.
    """
    digest = hashlib.blake2b(os.fsencode(source.resolve()) + b"\0" + part.encode(), digest_size=8)
    path = scratch / _NAME.format(digest.hexdigest())
    in_use = f"another fedemb prepare is unpacking {source} in {scratch}: wait for it, or pass another out="
    with ExitStack() as stack:
        try:
            stack.enter_context(made(scratch))
            clear_spools(scratch)
            stack.enter_context(held(path, in_use))
            stack.callback(path.unlink, missing_ok=True)
            file = stack.enter_context(path.open("wb", buffering=0))
        except OSError as error:
            raise unwritable(scratch, error) from None
        yield Spool(path, file)


def clear_spools(scratch: Path) -> None:
    """Remove the spools that killed runs left; those in use stay, and those that cannot be removed."""
    for path in scratch.glob(_ANY):
        with suppress(ValueError, OSError), held(path, "in use"):
            path.unlink()


def read_spool(path: Path, first: int, size: int) -> bytes:
    """Some bytes of a spool. Raises: ValueError in one line if they are not all there."""
    with path.open("rb") as file:
        file.seek(first)
        data = file.read(size)
    if len(data) < size:
        raise ValueError(
            f"{path} ends at byte {path.stat().st_size}, before {first + size}: something cut this temporary file; "
            "run the same command again"
        )
    return data


def unwritable(what: object, error: Exception) -> ValueError:
    """What to say, in one line, if a file below out= cannot be written."""
    reason = getattr(error, "strerror", None) or error
    return ValueError(
        f"cannot write {what} ({reason}): make room there, or pass another out= where you may write, and run the same "
        "command again, which goes on where it stopped"
    )
