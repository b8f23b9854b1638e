"""Images that a table lists (CSV or Parquet: user, path, class), in a folder, zip or tar, to a store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fedemb.core.files import sha256
from fedemb.data.formats.archive import open_archive
from fedemb.data.formats.image_table import read_image_table, user_column
from fedemb.data.image_list import SplitRule, one_value
from fedemb.data.manifest import Source
from fedemb.data.own_images import TRAIN, OwnImages, divided
from fedemb.data.preparation import Prepared, Request, prepare_splits


def prepare(
    request: Request,
    *,
    images: OwnImages,
    rule: SplitRule,
    columns: Mapping[str, str | None] | None = None,
    tree: str | None = None,
) -> Prepared:
    """Make a store of every split, or of train, with all users, if there is no rule.

    Args: request: source is the table. columns: names of its columns, where they are not user, path and class; without
        a class, the label is the user. tree: the folder, .zip or .tar that the paths start from; None for the table's
        own folder. Files that are not in the table are not read.
    Raises: ValueError in one line if the table cannot be understood, a file is missing, or one is no image.
    """
    source = request.existing_source("a table of images (.csv or .parquet)")
    listed = read_image_table(source, columns)
    names = {image.name for image in listed}
    below = source.parent if tree is None else Path(tree)
    with open_archive(below, scratch=request.out, wanted=names.__contains__) as archive:
        if missing := sorted(names.difference(archive.names())):
            others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
            raise ValueError(
                f"{below} lacks {missing[0]}{others} of the {len(names)} files that {source} lists: put them there, "
                "remove their rows, or pass images=<the folder, .zip or .tar that its paths start from>"
            )
        sources = [Source(file=source.name, sha256=sha256(source)), archive.source()]
        parts = divided([(TRAIN, image) for image in listed], source, rule)
        command = f"fedemb prepare table source=<table>{' images=<folder>' if tree else ''}{rule.words()}"
        unit = one_value(user_column(columns))
        return prepare_splits(request, images.splits(archive, parts, user=unit, sources=sources, command=command))
