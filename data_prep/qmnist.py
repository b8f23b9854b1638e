"""MNIST by writer to a store: one writer is one user, as QMNIST's extended labels tell.

Train: MNIST's 60,000 training images by 539 writers; test: its 10,000 test images by 297 other writers. Labels are the
digits. Row i of QMNIST's labels is MNIST's image i; the test labels go on to 60,000 rows, whose images are not MNIST's.
Source: Yadav and Bottou 2019, "Cold Case: The Lost MNIST Digits", arXiv:1905.10498, github.com/facebookresearch/qmnist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fedemb.core.files import sha256
from fedemb.data.formats.idx import read_idx
from fedemb.data.manifest import Source, StoreInfo
from fedemb.data.preparation import Prepared, Request, Split, prepare_splits
from fedemb.data.record import UserRecord

_WHAT = (
    "MNIST's {train,t10k}-images-idx3-ubyte.gz and -labels-idx1-ubyte.gz, and "
    "qmnist-{train,test}-labels-idx2-int.gz from github.com/facebookresearch/qmnist"
)
_SIDE, _DIGITS = 28, 10
_COLUMNS, _DIGIT, _WRITER = 8, 0, 2  # of the extended labels
_NOTICE = (
    "Images: MNIST, made by Y. LeCun, C. Cortes and C. Burges from NIST Special Databases 1 and 3. Writers: QMNIST, "
    "© Facebook, Inc., BSD-style licence; please cite Yadav and Bottou 2019, arXiv:1905.10498."
)


@dataclass(frozen=True, kw_only=True)
class Published:
    """The files of one split, and how much they hold."""

    split: str
    images: str
    digits: str
    writers: str
    counts: Mapping[str, int]


PUBLISHED = (
    Published(
        split="train",
        images="train-images-idx3-ubyte",
        digits="train-labels-idx1-ubyte",
        writers="qmnist-train-labels-idx2-int",
        counts={"writers": 539, "images": 60_000},
    ),
    Published(
        split="test",
        images="t10k-images-idx3-ubyte",
        digits="t10k-labels-idx1-ubyte",
        writers="qmnist-test-labels-idx2-int",
        counts={"writers": 297, "images": 10_000},
    ),
)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A unit of work: where a writer's images are. rows: [n] in ascending order. labels: [n] digits."""

    writer: int
    rows: np.ndarray
    labels: np.ndarray


def prepare(request: Request) -> Prepared:
    """Make the stores `out`/train and `out`/test.

    Args: request: source is the folder with the six files, gzipped or not.
    Raises: ValueError in one line if a file is missing or damaged, the files do not belong together, a writer is in
        both parts, or the counts are not the published ones.
    """
    folder = request.existing_source(_WHAT)
    splits = [_split(request, folder, published) for published in PUBLISHED]
    train, test = ({unit.writer for unit in split.units} for split in splits)
    if both := train & test:
        raise ValueError(
            f"{folder}: writer {min(both)} is in train and in test, a user belongs to one split: get the files again"
        )
    return prepare_splits(request, splits)


def _split(request: Request, folder: Path, published: Published) -> Split:
    images, digits, table = (_file(folder, name) for name in (published.images, published.digits, published.writers))
    rows = _checked_rows(images, digits)
    labels = _checked_table(table, digits, rows)
    units = _by_writer(labels[:rows])
    left_out = request.missing(images, found={"writers": len(units), "images": rows}, published=published.counts)
    if len(labels) > rows:
        left_out["rows of QMNIST's labels without an image"] = len(labels) - rows
    info = StoreInfo(
        name="qmnist",
        split=published.split,
        user="a writer",
        image_shape=(1, _SIDE, _SIDE),
        classes=_DIGITS,
        label="class",
        polarity="ink 255 on 0",
        description="MNIST's pixels as published, upright; no writer is in train and in test",
        licence="MNIST: CC BY-SA 3.0, as it is customarily given; QMNIST's labels: BSD-style, © Facebook, Inc.",
        notice=_NOTICE,
        sources=tuple(Source(file=path.name, sha256=sha256(path)) for path in (images, digits, table)),
        command="fedemb prepare qmnist source=<folder>",
    )
    return Split(
        info=info,
        users=len(units),
        units=units,
        records=Reader(images),
        class_names=tuple(map(str, range(_DIGITS))),
        left_out=left_out,
    )


def _file(folder: Path, name: str) -> Path:
    packed = folder / f"{name}.gz"
    if packed.is_file() or (folder / name).is_file():
        return packed if packed.is_file() else folder / name
    raise ValueError(f"no file {packed}: get {_WHAT} and pass source=<the folder they are in>")


def _checked_rows(images: Path, digits: Path) -> int:
    """How many images there are; each has a label."""
    pixels, labels = read_idx(images), read_idx(digits)
    if pixels.shape[1:] != (_SIDE, _SIDE) or pixels.dtype != np.uint8:
        raise ValueError(f"{images} holds {_what(pixels)}, not {_SIDE} x {_SIDE} uint8 for each image: is it MNIST's?")
    if labels.shape != pixels.shape[:1] or labels.dtype != np.uint8:
        raise ValueError(
            f"{digits} holds {_what(labels)}, not one uint8 for each of {len(pixels)} images: get both again"
        )
    return len(pixels)


def _checked_table(table: Path, digits: Path, rows: int) -> np.ndarray:
    """[rows or more, 8]: QMNIST's labels, whose digits are MNIST's."""
    labels = read_idx(table)
    if labels.shape[1:] != (_COLUMNS,) or labels.dtype != np.int32 or len(labels) < rows:
        raise ValueError(
            f"{table} holds {_what(labels)}, not {_COLUMNS} int32 for each of {rows} images: is it QMNIST's?"
        )
    differ = np.flatnonzero(labels[:rows, _DIGIT] != read_idx(digits))
    if len(differ):
        raise ValueError(
            f"{table} and {digits} differ in {len(differ)} digits, first in row {differ[0]}: get both again"
        )
    return labels


def _what(values: np.ndarray) -> str:
    return f"{values.dtype} of shape {list(values.shape)}"


def _by_writer(labels: np.ndarray) -> list[Rows]:
    """Sorted by the writer's number. labels: [n, 8]."""
    writers, digits = labels[:, _WRITER], labels[:, _DIGIT].astype(np.int64)
    mine = ((int(writer), np.flatnonzero(writers == writer)) for writer in np.unique(writers))
    return [Rows(writer=writer, rows=rows, labels=digits[rows]) for writer, rows in mine]


class Reader:
    """Picks a writer's images; each process reads the file once, 47 MB at most."""

    def __init__(self, path: Path) -> None:
        """path: of MNIST's images."""
        self._path = path

    def __call__(self, unit: Rows) -> list[UserRecord]:
        """The writer's record."""
        images = self._images[unit.rows][:, None]
        return [UserRecord.from_pixels(id=f"writer{unit.writer:04d}", images=images, labels=unit.labels)]

    @cached_property
    def _images(self) -> np.ndarray:
        return read_idx(self._path)
