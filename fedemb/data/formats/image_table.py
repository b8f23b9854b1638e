"""Tables that list images: one row an image, with its user, its file and perhaps its class; CSV or Parquet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from fedemb.data.formats.arrow import arrow_errors, pyarrow_for
from fedemb.data.formats.tables import open_table, read_header, read_rows
from fedemb.data.image_list import ListedImage

COLUMNS: Mapping[str, str] = {"user": "user", "path": "path", "class": "class"}
"""What is read -> the column that it is in."""

_BATCH_ROWS = 1 << 16
_OTHER_SEPARATOR = re.compile(r"[;\t|]")
_DECIMAL = re.compile(r"[-+]?\d+\.\d*(?:e[-+]?\d+)?|nan|NaN|inf|-inf")  # a number of floating point in a table


def user_column(columns: Mapping[str, str | None] | None) -> str:
    """The column that says whose an image is. columns: changes to COLUMNS."""
    return str({**COLUMNS, **(columns or {})}["user"])


def read_image_table(path: Path, columns: Mapping[str, str | None] | None = None) -> list[ListedImage]:
    """The images in the order of the rows.

    Args: path: .csv in UTF-8 with a header line, or .parquet. columns: changes to COLUMNS. A column "class" that is
        not in the table, or class: null, makes the user the class; a column of another name must be there.
    Raises: ValueError in one line if the file cannot be read, a column is missing, a cell is empty, or a path is not
        below the images' folder.
    """
    wanted = {**COLUMNS, **(columns or {})}
    if unknown := sorted(wanted.keys() - COLUMNS.keys()):
        raise ValueError(f"columns= names columns for user, path and class, not for {unknown[0]!r}")
    if not path.is_file():
        raise ValueError(f"no file {path}: pass a table (.csv or .parquet) with one row for each image")
    if path.suffix.lower() == ".parquet":
        rows = _parquet_rows(path, wanted)
    elif path.suffix.lower() == ".csv":
        rows = _csv_rows(path, wanted)
    else:
        raise ValueError(f"{path} is no .csv or .parquet file: save the table as one of them")
    images = [_listed(f"{path}, {place}", row) for place, row in rows]
    if not images:
        raise ValueError(f"{path} has no row: it must have one for each image")
    return images


def _listed(where: str, row: Sequence[object]) -> ListedImage:
    for column, cell in zip(COLUMNS, row, strict=False):  # there may be no class
        if cell is None or cell != cell or str(cell).strip() == "":  # what is not a number differs from itself
            raise ValueError(f"{where}: the {column} is empty: fill the cell or remove the row")
    user, path, *rest = map(str, row)
    if _DECIMAL.fullmatch(user):
        raise ValueError(
            f"{where}: the user is {user}, as programs write an id where the column has gaps: write ids as whole "
            "numbers or texts, and fill the gaps"
        )
    parts = PurePosixPath(path).parts
    if ".." in parts or path.startswith("/") or "\0" in path:
        raise ValueError(f"{where}: {path!r} leaves the images' folder: write it relative to that folder (images=)")
    return ListedImage(user, "/".join(parts), rest[0] if rest else None)


def _chosen(path: Path, found: Sequence[str], wanted: Mapping[str, str | None]) -> list[str]:
    """The columns to read: user, path and, where there is one, class."""
    if not found:
        raise ValueError(f"{path} is empty: it must begin with a line of column names")
    optional = wanted["class"] is None or (wanted["class"] == COLUMNS["class"] and wanted["class"] not in found)
    names = {what: str(name) for what, name in wanted.items() if not (what == "class" and optional)}
    for what, name in names.items():
        if name not in found and len(found) == 1 and (separator := _OTHER_SEPARATOR.search(found[0])):
            raise ValueError(
                f"{path} has one column, {found[0]!r}: {separator[0]!r} separates its values, save it with commas"
            )
        if name not in found:
            raise ValueError(
                f"{path} has no column {name!r}, it has {', '.join(found)}: say which it is, columns.{what}="
            )
    return list(names.values())


def _csv_rows(path: Path, wanted: Mapping[str, str | None]) -> Iterator[tuple[str, Sequence[str]]]:
    """("line 2", cells), …."""
    table = open_table(path.parent, path.name)
    for line, cells in read_rows(table, _chosen(path, read_header(table), wanted)):
        yield f"line {line}", cells


def _parquet_rows(path: Path, wanted: Mapping[str, str | None]) -> Iterator[tuple[str, Sequence[object]]]:
    """("row 1", cells), …."""
    pyarrow = pyarrow_for(path)
    with arrow_errors(f"cannot read {path}, save or copy it again"), pyarrow.parquet.ParquetFile(path) as file:
        names = _chosen(path, file.schema_arrow.names, wanted)
        batches = file.iter_batches(batch_size=_BATCH_ROWS, columns=names)
        rows: Iterable[tuple[object, ...]] = (
            row for batch in batches for row in zip(*(batch.column(name).to_pylist() for name in names), strict=True)
        )
        for number, row in enumerate(rows, start=1):
            yield f"row {number}", row
