"""Tables that list images: one row an image, with its user, its file and perhaps its class; CSV, TSV or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from fedemb.data.listing import ListedImage

COLUMNS: Mapping[str, str] = {"user": "user", "path": "path", "class": "class"}
"""What is read -> the column it is in."""

_BATCH_ROWS = 1 << 16
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def read_image_table(path: Path, columns: Mapping[str, str | None] | None = None) -> list[ListedImage]:
    """The images in the order of the rows.

    Args: path: .csv or .tsv in UTF-8 with a header line, or .parquet. columns: changes to COLUMNS. A column "class"
        that is not in the table, or class: null, makes the user the class; one of another name must be there.
    Raises: ValueError in one line if the file cannot be read, a column is missing, a cell is empty, or a path is not
        below the images' folder.
    """
    wanted = {**COLUMNS, **(columns or {})}
    if unknown := sorted(wanted.keys() - COLUMNS.keys()):
        raise ValueError(f"columns may name user, path and class, got {unknown[0]!r}")
    if not path.is_file():
        raise ValueError(f"no file {path}: pass a table (.csv, .tsv or .parquet) with one row for each image")
    kind = path.suffix.lower()
    if kind == ".parquet":
        rows = _parquet_rows(path, wanted)
    elif kind in _DELIMITERS:
        rows = _csv_rows(path, wanted, _DELIMITERS[kind])
    else:
        raise ValueError(f"{path} is no .csv, .tsv or .parquet file")
    images = [_listed(f"{path}, row {number}", row) for number, row in rows]
    if not images:
        raise ValueError(f"{path} has no row")
    return images


def _listed(where: str, row: Sequence[object]) -> ListedImage:
    for column, cell in zip(COLUMNS, row, strict=False):  # the class may not be there
        if cell is None or cell == "":
            raise ValueError(f"{where}: no {column}: fill the cell or remove the row")
    user, path, *rest = map(str, row)
    parts = PurePosixPath(path).parts
    if ".." in parts or path.startswith("/") or "\0" in path:
        raise ValueError(f"{where}: {path!r} leaves the images' folder: write it relative to that folder (images=)")
    return ListedImage(user, "/".join(parts), rest[0] if rest else None)


def _chosen(path: Path, found: Sequence[str], wanted: Mapping[str, str | None]) -> list[str]:
    """The columns to read: user, path and, where there is one, class."""
    optional = wanted["class"] is None or (wanted["class"] == COLUMNS["class"] and wanted["class"] not in found)
    names = [name for what, name in wanted.items() if not (what == "class" and optional)]
    for name in names:
        if name is None or found.count(name) != 1:
            often = "twice" if name in found else "not"
            raise ValueError(f"{path} has the column {name!r} {often}; it has {', '.join(found)}: see columns=")
    return [str(name) for name in names]


def _csv_rows(path: Path, wanted: Mapping[str, str | None], delimiter: str) -> Iterator[tuple[int, list[object]]]:
    """(line number, cells)."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter=delimiter, strict=True)
            found = next(lines, [])
            places = [found.index(name) for name in _chosen(path, found, wanted)]
            for row in lines:
                if row and len(row) != len(found):
                    raise ValueError(
                        f"{path}, row {lines.line_num}: {len(row)} cells and not {len(found)}: quote cells with commas"
                    )
                if row:
                    yield lines.line_num, [row[place] for place in places]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"cannot read {path} ({error}): save it as CSV in UTF-8") from None


def _parquet_rows(path: Path, wanted: Mapping[str, str | None]) -> Iterator[tuple[int, list[object]]]:
    """(row number from 1, cells)."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError(f"{path} needs pyarrow: pip install 'fedemb[parquet]', or save it as CSV") from None
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = _chosen(path, file.schema_arrow.names, wanted)
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=names):
                cells = [batch.column(name).to_pylist() for name in names]
                for row in zip(*cells, strict=True):
                    number += 1
                    yield number, list(row)
    except (OSError, pyarrow.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"cannot read {path} ({reason}): write the Parquet file again") from None
