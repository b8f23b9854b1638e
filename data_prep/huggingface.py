"""A data set of Hugging Face's `datasets` on disk to a store, without their library.

Sources: a folder of save_to_disk, with one split or several; a .parquet or .arrow file; a folder of Parquet files as
the hub has them, whose names or folders say their split (train-00000-of-00004.parquet, test/0000.parquet).
Format: dataset_dict.json, <split>/state.json and Arrow IPC streams, as datasets 2 to 5 write them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fedemb.data.formats.archive import JoinedArchives
from fedemb.data.formats.arrow_images import Columns, ImageRows, open_image_rows
from fedemb.data.formats.members import check_names
from fedemb.data.image_list import ListedImage, SplitRule, one_value
from fedemb.data.own_images import SPLIT_NAMES, TRAIN, OwnImages, divided
from fedemb.data.preparation import Prepared, Request, prepare_splits

_TABLES = (".parquet", ".arrow", ".feather")


def prepare(request: Request, *, images: OwnImages, rule: SplitRule, columns: Columns) -> Prepared:
    """Make a store of every split. A user's rows may lie anywhere; only users and labels are kept in memory.

    Args: request: source, see above. rule: without one, users are in the split that the source has them in.
        columns: a user column of whole numbers or ClassLabel is fine; without a label, the label is the user.
    Raises: ValueError in one line if pyarrow is missing, the source is another thing or damaged, a column is missing,
        a user is in two splits, or a row holds no image.
    """
    source = request.existing_source("a folder that datasets' save_to_disk has written, or Parquet files")
    files = _data_files(source)
    with ExitStack() as stack:
        tables = [
            stack.enter_context(open_image_rows(file, columns, name=_name(source, file), scratch=request.out))
            for _, file in files
        ]
        if not any(table.names for table in tables):
            raise ValueError(f"{source} has no row: is this the right source?")
        found = [row for (split, _), table in zip(files, tables, strict=True) for row in _rows(split, table)]
        parts = divided(found, source, rule, _order(source, tables))
        archive = JoinedArchives([table.archive for table in tables])
        label = f" label_column={columns.label}" if columns.label else ""
        command = (
            f"fedemb prepare huggingface source=<folder> image_column={columns.image} user_column={columns.user}"
            f"{label}{rule.words()}"
        )
        sources = [table.archive.source() for table in tables]
        unit = one_value(columns.user)
        return prepare_splits(request, images.splits(archive, parts, user=unit, sources=sources, command=command))


def _data_files(source: Path) -> list[tuple[str, Path]]:
    """(split, file), in order."""
    if source.is_file() and source.suffix.lower() in _TABLES:
        return [(_split_of(source), source)]
    if (source / "dataset_dict.json").is_file():
        splits = _json(source / "dataset_dict.json", "splits")
        check_names(source, [str(split) for split in splits])
        return [found for split in splits for found in _saved(source / str(split), str(split))]
    if (source / "state.json").is_file():
        return _saved(source, str(_json(source / "state.json", "_split") or TRAIN))
    if tables := sorted(source.rglob("*.parquet")):
        return [(_split_of(table), table) for table in tables]
    raise ValueError(
        f"{source} holds no dataset_dict.json, state.json or .parquet file: pass a folder that "
        "dataset.save_to_disk(FOLDER) has written"
    )


def _saved(folder: Path, split: str) -> list[tuple[str, Path]]:
    """The files of one split, in the order that it has them in."""
    state = folder / "state.json"
    names = [str(file["filename"]) for file in _json(state, "_data_files")]
    check_names(state, names)
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ValueError(f"{folder} has no {missing[0]}, which {state} lists: copy or save the data set again")
    return [(SPLIT_NAMES.get(split, split), folder / name) for name in names]


def _json(file: Path, key: str) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"cannot read {key} in {file} ({error!r}): copy or save the data set again") from None


def _split_of(table: Path) -> str:
    """By what the file, or else its folder, is called."""
    words = table.stem.split("-")[0], table.parent.name
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), TRAIN)


def _name(source: Path, file: Path) -> str:
    return file.name if file == source else file.relative_to(source).as_posix()


def _rows(split: str, table: ImageRows) -> list[tuple[str, ListedImage]]:
    labels: Sequence[str | None] = [None] * len(table.names) if table.labels is None else table.labels
    rows = zip(table.users, table.names, labels, strict=True)
    return [(split, ListedImage(user, name, label)) for user, name, label in rows]


def _order(source: Path, tables: Sequence[ImageRows]) -> Sequence[str] | None:
    """The classes by number: as the files say, or whole numbers by value; None for the order of their names."""
    if tables[0].labels is None:
        return None
    order = tables[0].order
    if any(table.order != order or table.numbers != tables[0].numbers for table in tables):
        raise ValueError(f"{source}: its files have different classes or kinds of labels: save the data set again")
    if order is not None or not tables[0].numbers:
        return order
    return [str(label) for label in sorted({int(label) for table in tables for label in table.labels or ()})]
