"""IDX, the format of MNIST's files, plain or gzipped.

Two zero bytes, a code for the type, the number of dimensions, each dimension as u32, then the values; big-endian.
Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", section on file formats.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP = b"\x1f\x8b"
_PIECE = 1 << 20  # bytes read at once: a header that lies allocates no more than the file holds
_MOST_DIMENSIONS = 16
_LONGEST_ROW = 2**31  # bytes


def read_idx(path: Path) -> np.ndarray:
    """The whole file as one array, in the machine's byte order.

    Raises: ValueError in one line if it is no IDX file, is damaged, or holds fewer or more values than it says.
    """
    with _opened(path) as stream:
        dtype, shape = _header(stream)
        values = _rows(stream, dtype, shape)
        _check_end(stream)
        return values


def idx_blocks(path: Path, *, rows: int) -> Iterator[np.ndarray]:
    """The same array in blocks of at most `rows` along its first dimension, with one block in memory.

    Raises: as `read_idx`, when the reading comes to it: what was yielded before is not yet known to be whole.
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows=}")
    with _opened(path) as stream:
        dtype, (total, *rest) = _header(stream)
        for start in range(0, total, rows):
            yield _rows(stream, dtype, (min(rows, total - start), *rest))
        _check_end(stream)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The unzipped bytes; whatever is wrong with them names the file."""
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
        file.seek(0)
        try:
            yield gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[misc]
        except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: {error}; copy or download the file again") from None


def _header(stream: IO[bytes]) -> tuple[np.dtype, tuple[int, ...]]:
    """The type as stored, and the shape."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or not 1 <= magic[3] <= _MOST_DIMENSIONS:
        raise ValueError(f"no IDX file: it begins with {magic!r}")
    dtype, sizes = np.dtype(_TYPES[magic[2]]), stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise ValueError(f"cut within the {magic[3]} dimensions of its header")
    shape = struct.unpack(f">{magic[3]}I", sizes)
    if 0 in shape[1:] or dtype.itemsize * math.prod(shape[1:]) > _LONGEST_ROW:
        raise ValueError(f"its header has the shape {list(shape)}, which no data set has")
    return dtype, shape


def _rows(stream: IO[bytes], dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """The next values, in the machine's byte order."""
    wanted, data = dtype.itemsize * math.prod(shape), bytearray()
    while piece := stream.read(min(_PIECE, wanted - len(data))):
        data += piece
    if len(data) < wanted:
        raise ValueError(f"cut: {wanted} bytes are to come for {list(shape)} values, {len(data)} are there")
    values = np.frombuffer(data, dtype).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def _check_end(stream: IO[bytes]) -> None:
    if stream.read(1):
        raise ValueError("more bytes than the shape in its header needs")
