"""Tables that say whose every image is, and the images found by their ids: in a folder's tree or in tar files."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedemb.data.formats.archive import Archive, FolderArchive, open_archive
from fedemb.data.formats.tables import Table, read_rows
from fedemb.data.manifest import Source
from fedemb.data.preparation import Request
from fedemb.data.user_ids import check_apart

_SUFFIXES = ("jpg", "jpeg")


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One image of a user, by its id; of a table without users, user is ""."""

    user: str
    image: str
    label: int


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A table's rows, sorted by user and image id. without_user: rows that were left out, as they name nobody."""

    table: Table
    rows: Sequence[Listed]
    without_user: int = 0

    @property
    def ids(self) -> set[str]:
        """Of all images."""
        return {row.image for row in self.rows}


def read_listing(table: Table, *, user: str | None, classes: int, nobody: str | None = None) -> Listing:
    """A table with the columns image_id and class, and one for users.

    Args: user: the users' column, None for a table of images alone. classes: class is from 0 to classes - 1.
        nobody: what stands in place of a user where there is none; such rows are counted and left out.
    Raises: ValueError in one line with file, line and remedy for an empty id, a class that is none, an image that a
        user (or, without users, the table) has twice, or a table without rows; with file and both ids if two users'
        look the same (fedemb/data/user_ids.py; capitals and leading zeros do count).
    """
    columns = ("image_id", "class") if user is None else (user, "image_id", "class")
    first_lines: dict[tuple[str, str], int] = {}
    rows: list[Listed] = []
    without_user = 0
    for line, values in read_rows(table, columns):
        owner, image, label = values if user is not None else ("", *values)
        if owner == nobody:
            without_user += 1
            continue
        where = f"{table.where}, line {line}"
        if empty := [name for name, value in zip(columns, values, strict=True) if not value and name != "class"]:
            raise ValueError(f"{where}: the {empty[0]} is empty: fill it in, or remove the line")
        if not (label.isascii() and label.isdecimal() and int(label) < classes):
            raise ValueError(
                f"{where}: class {label!r} is no whole number from 0 to {classes - 1}: get this data set's own table"
            )
        if (before := first_lines.setdefault((owner, image), line)) != line:
            whose = f" of user {owner!r}" if owner else ""
            raise ValueError(f"{where}: image {image}{whose} again, as in line {before}: remove one of the lines")
        rows.append(Listed(user=owner, image=image, label=int(label)))
    if not rows and not without_user:
        raise ValueError(f"{table.where} has no rows under its header: get the table again")
    check_apart(dict.fromkeys(row.user for row in rows), table.where)
    return Listing(table=table, rows=sorted(rows, key=lambda row: (row.user, row.image)), without_user=without_user)


def several_owners(listing: Listing) -> int:
    """How many images more than one user has."""
    seen: set[str] = set()
    shared: set[str] = set()
    for row in listing.rows:
        (shared if row.image in seen else seen).add(row.image)
    return len(shared)


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images that were found. places: id -> (which of the archives, member in it). source: what they were found in."""

    folder: Path
    archives: Sequence[Archive]
    places: Mapping[str, tuple[int, str]]
    source: Source


@contextmanager
def open_images(request: Request, folder: Path, *, tars: Sequence[Path], ids: Collection[str]) -> Iterator[Images]:
    """The images of these ids, an id being a .jpg file's name without suffix, wherever it lies.

    Files under `folder` come first, also of folders that links directly in it lead to; only for ids without a file,
    the headers of the tar files are read, each tar once.
    Of a compressed tar the wanted members are spooled to `request.out`, for as long as the context lasts.
    Raises: ValueError in one line if an id is found twice or a tar is damaged.
    """
    wanted = frozenset(ids)
    linked = sorted(place for place in folder.iterdir() if place.is_symlink() and place.is_dir())
    with ExitStack() as stack:
        trees = [FolderArchive(place, lambda name: _image_id(name) in wanted) for place in (folder, *linked)]
        rest = wanted - _places(folder, trees).keys()
        opened = list(tars) if rest else []
        packed = [
            stack.enter_context(open_archive(tar, scratch=request.out, wanted=lambda name: _image_id(name) in rest))
            for tar in (request.progress(opened, label="tar files", total=len(opened)) if opened else ())
        ]
        files = [tree.path / name for tree in trees for name in tree.names()]
        yield Images(
            folder=folder,
            archives=[*trees, *packed],
            places=_places(folder, [*trees, *packed]),
            source=sizes_source(folder, [*files, *opened]),
        )


def _image_id(member: str) -> str | None:
    stem, _, suffix = member.rpartition("/")[2].rpartition(".")
    return stem if suffix.lower() in _SUFFIXES else None


def _places(folder: Path, archives: Sequence[Archive]) -> dict[str, tuple[int, str]]:
    places: dict[str, tuple[int, str]] = {}
    for number, archive in enumerate(archives):
        for member in archive.names():
            id = _image_id(member)
            assert id is not None
            if (other := places.setdefault(id, (number, member))) != (number, member):
                first, second = archives[other[0]].path / other[1], archive.path / member
                raise ValueError(f"image {id} is at {first} and at {second}: remove one of the two from {folder}")
    return places


def sizes_source(folder: Path, files: Iterable[Path]) -> Source:
    """A digest over the files' names and sizes: reading hundreds of gigabytes of published files would take hours.

    A file that is replaced by another one of the same size is not noticed.
    """
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
    return Source(file=f"{folder.name}/", sha256=digest.hexdigest())
