"""Arrow and Parquet files with an image in each row, as Hugging Face's `datasets` writes them.

An image is a struct of bytes (the file's) and path, or the bytes alone. The bytes of an Arrow file that is not
compressed are read where they lie; of others they are spooled to a temporary file, since a row alone cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedemb.data.formats.archive import Archive, SliceArchive
from fedemb.data.formats.arrow import arrow_errors, pyarrow_for
from fedemb.data.spool import Spool, spooling

_FILE_MAGIC = b"ARROW1"
_PARQUET_ROWS = 256  # decoded at once
_WHOLE = ("int8", "int16", "int32", "int64")
_OFFSETS = {"binary": "<i4", "large_binary": "<i8"}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What to read. label: None where the user is the class."""

    image: str
    user: str
    label: str | None


@dataclass(frozen=True, kw_only=True)
class ImageRows:
    """The rows of one file, in order. names: of the images in `archive`. users, labels: as text; labels may be none.

    numbers: the labels are whole numbers. order: the classes' names by number, where the file says so.
    """

    archive: Archive
    names: Sequence[str]
    users: Sequence[str]
    labels: Sequence[str] | None
    numbers: bool
    order: Sequence[str] | None


@contextmanager
def open_image_rows(path: Path, columns: Columns, *, name: str, scratch: Path) -> Iterator[ImageRows]:
    """Users and labels are read at once, images when asked for.

    Args: path: .parquet, or an Arrow IPC stream or file. name: what images' names begin with. scratch: folder for the
        temporary file, which is removed at the end; made if need be.
    Raises: ValueError in one line if the file is damaged, a column is missing or of another kind, a row lacks its
        image, user or label, `scratch` cannot be written to, or another process spools the same file there.
    """
    pyarrow_for(path)
    with ExitStack() as stack:
        with arrow_errors(f"cannot read {path}, copy or download it again"):
            rows = _read(path, columns, name, lambda: stack.enter_context(spooling(scratch, path)))
        yield rows


class _Opened(NamedTuple):
    """batches: of the wanted columns, or of all. span: (address, bytes) of the file in memory."""

    schema: Any
    batches: Iterable[Any]
    span: tuple[int, int]


def _open(path: Path, names: Sequence[str] | None = None) -> _Opened:
    """A file, mapped to memory and not yet read. names: the columns to read, where others need not be read."""
    pyarrow = pyarrow_for(path)
    whole = pyarrow.memory_map(str(path)).read_buffer()
    source, span = pyarrow.BufferReader(whole), (whole.address, whole.size)
    if path.suffix.lower() == ".parquet":
        table = pyarrow.parquet.ParquetFile(source)
        return _Opened(table.schema_arrow, table.iter_batches(batch_size=_PARQUET_ROWS, columns=names), span)
    if whole[: len(_FILE_MAGIC)] == _FILE_MAGIC:
        file = pyarrow.ipc.open_file(source)
        return _Opened(file.schema, (file.get_batch(number) for number in range(file.num_record_batches)), span)
    stream = pyarrow.ipc.open_stream(source)
    return _Opened(stream.schema, stream, span)


def _read(path: Path, columns: Columns, name: str, new_spool: Callable[[], Spool]) -> ImageRows:
    schema = _open(path).schema
    for column in (columns.image, columns.user, columns.label):
        if column is not None and column not in schema.names:
            told = f"it has {', '.join(schema.names)}: say which with image_column=, user_column= and label_column="
            raise ValueError(f"{path} has no column {column!r}, {told}")
    users, _ = _texts(path, columns.user)
    labels, order = (None, None) if columns.label is None else _texts(path, columns.label)
    file, places = _places(path, columns.image, new_spool)
    names = [f"{name}:{row:09d}" for row in range(len(places))]
    return ImageRows(
        archive=SliceArchive(path, file, dict(zip(names, places, strict=True))),
        names=names,
        users=users,
        labels=labels,
        numbers=columns.label is not None and str(schema.field(columns.label).type).removeprefix("u") in _WHOLE,
        order=order,
    )


def _texts(path: Path, column: str) -> tuple[list[str], Sequence[str] | None]:
    """(each row's value as text, the names of a ClassLabel by number)."""
    opened = _open(path, [column])
    order = _class_names(opened.schema, column)
    names = None if order is None else dict(enumerate(order))
    values: list[str] = []
    for batch in opened.batches:
        for value in batch.column(column).to_pylist():
            text = str(value) if isinstance(value, str | int) else ""
            if names is not None:
                text = names.get(value, "") if isinstance(value, int) else ""
            if not text:
                raise ValueError(f"{path}, row {len(values)}: {column} is {value!r}: fill it in or leave the row out")
            values.append(text)
    return values, order


def _class_names(schema: Any, column: str) -> Sequence[str] | None:
    """What the file's description says the values are called."""
    try:
        feature = json.loads(schema.metadata[b"huggingface"])["info"]["features"][column]
        return [str(name) for name in feature["names"]] if feature["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError):  # there is no description, or not of this column
        return None


def _places(path: Path, column: str, new_spool: Callable[[], Spool]) -> tuple[Path, list[tuple[int, int]]]:
    """(the file that the images lie in, (first byte, length) of each). new_spool: called if there has to be one."""
    places: list[tuple[int, int]] = []
    opened = _open(path, [column])
    for batch in opened.batches:
        data, spans = _spans(path, column, batch.column(column), len(places))
        first = data.address - opened.span[0]
        if not 0 <= first <= opened.span[1]:  # unpacked, and so elsewhere in memory
            spool = new_spool()
            return spool.path, _spooled(path, column, spool)
        places += [(first + start, length) for start, length in spans]
    return path, places


def _spooled(path: Path, column: str, spool: Spool) -> list[tuple[int, int]]:
    """The images one after the other in a file of their own."""
    places: list[tuple[int, int]] = []
    for batch in _open(path, [column]).batches:
        data, spans = _spans(path, column, batch.column(column), len(places))
        places += [spool.write([data[start : start + length]]) for start, length in spans]
    return places


def _spans(path: Path, column: str, images: Any, row: int) -> tuple[Any, list[tuple[int, int]]]:
    """(the bytes of all images of a batch, (first, length) of each in them). row: the number of the first."""
    images.validate(full=True)
    kind = str(images.type)
    values = images.field("bytes") if kind.startswith("struct<") and "bytes: " in kind else images
    if str(values.type) not in _OFFSETS:
        raise ValueError(f"{path}: column {column!r} holds {kind} and not images: say which with image_column=")
    absent = [place for place, value in enumerate(values.is_valid().to_pylist()) if not value]
    absent += [place for place, value in enumerate(images.is_valid().to_pylist()) if not value]
    if absent:
        raise ValueError(f"{path}, row {row + min(absent)}: no image's bytes in {column!r}: save it with its images")
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, _OFFSETS[str(values.type)])[values.offset : values.offset + len(values) + 1]
    return data, [(int(first), int(last - first)) for first, last in pairwise(ends)]
