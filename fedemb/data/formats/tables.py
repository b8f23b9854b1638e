"""CSV tables of published splits: rows with their line numbers, every value a string as it was published."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedemb.data.formats.archive import ZipArchive
from fedemb.data.manifest import Source

Row = tuple[str, ...]
"""The values of the columns that were asked for, in that order."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A CSV file in memory. where: its name in messages. source: the file that it came in."""

    content: bytes
    where: str
    source: Source


def table_names(container: Path) -> list[str]:
    """The *.csv of a folder or a .zip, sorted; of a folder only those directly in it, of a zip without their folders.

    Raises: ValueError in one line if the zip cannot be read.
    """
    if container.is_dir():
        return sorted(file.name for file in container.glob("*.csv") if not file.name.startswith("."))
    names = {_last(name) for name in ZipArchive(container, _is_table).names()}
    return sorted(names)


def open_table(container: Path, name: str) -> Table:
    """A table of a folder, or of a .zip in whatever folder within.

    Raises: ValueError in one line if it is missing, is there twice or cannot be read.
    """
    if container.is_dir():
        file = container / name
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ValueError(f"cannot read {file} ({error.strerror}): put {name} there") from None
        return Table(
            content=content, where=str(file), source=Source(file=name, sha256=hashlib.sha256(content).hexdigest())
        )
    archive = ZipArchive(container, _is_table)
    members = [member for member in archive.names() if _last(member) == name]
    if len(members) != 1:
        raise ValueError(f"{container} holds {len(members)} files {name}, expected one: get the zip file again")
    return Table(content=archive.read(members[0]), where=f"{container}: {members[0]}", source=archive.source())


def read_header(table: Table) -> Row:
    """The names in the first line; none of an empty table. Raises: as `read_rows`."""
    with _told(table, lambda: 1):
        return tuple(next(csv.reader(_text(table), strict=True), []))


def read_rows(table: Table, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """(line that the row begins in, values of the named columns) of every row under the header; blank lines are none.

    UTF-8 with or without a byte order mark, any line ends, quotes as in RFC 4180; nothing is stripped or converted.
    Raises: ValueError in one line with file and line if the text or a quote is broken, a column is missing or there
        twice, or a row has more or fewer values than the header.
    """
    reader = csv.reader(_text(table), strict=True)
    line = 1
    with _told(table, lambda: line):
        header = next(reader, [])
        places = _places(table.where, header, columns)
        line = reader.line_num + 1
        for values in reader:
            if values:
                if len(values) != len(header):
                    raise ValueError(
                        f"{table.where}, line {line}: {len(values)} values under {len(header)} column names: "
                        "mend the line, or get the table again"
                    )
                yield line, tuple(values[place] for place in places)
            line = reader.line_num + 1


def _is_table(name: str) -> bool:
    return name.lower().endswith(".csv") and not _last(name).startswith(".")


def _last(name: str) -> str:
    return name.rpartition("/")[2]


@contextmanager
def _told(table: Table, line: Callable[[], int]) -> Iterator[None]:
    """What is no CSV in one line. line: the one that is being read."""
    try:
        yield
    except csv.Error as error:
        raise ValueError(
            f"{table.where}, line {line()}: no CSV ({error}): mend the line, or get the table again"
        ) from None


def _text(table: Table) -> io.StringIO:
    try:
        return io.StringIO(table.content.decode("utf-8-sig"), newline="")
    except UnicodeDecodeError as error:
        line = table.content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{table.where}, line {line}: byte 0x{table.content[error.start]:02x} is no UTF-8: "
            "save the table as UTF-8, or get it again"
        ) from None


def _places(where: str, header: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Where the wanted columns are."""
    for column in columns:
        if (count := header.count(column)) != 1:
            found = f"its columns are {', '.join(header)}" if header else "it is empty"
            raise ValueError(
                f"{where}, line 1: {'no column' if not count else f'{count} columns'} {column}, {found}: "
                "get the table as it was published"
            )
    return [header.index(column) for column in columns]
