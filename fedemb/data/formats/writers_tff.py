"""EMNIST by writer as TensorFlow Federated publishes it: every writer has a part in train and a part in test.

Both parts are one writer here. Pixels: paper 1.0, ink 0.0, upright. Writers with fewer than two images are not in it.
Source: tensorflow_federated/python/simulation/datasets/emnist.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedemb.core.files import sha256
from fedemb.data.formats.tff import ClientTable, H5Clients, unpacked
from fedemb.data.formats.tfrecord import Feature
from fedemb.data.formats.writers import SIDE, Writers, Written, checked_labels, ink
from fedemb.data.manifest import Source

_SQLITE_FILES = ("emnist_all.sqlite.lzma", "emnist_all.sqlite")
_H5_FILES = ("fed_emnist_train.h5", "fed_emnist_test.h5")

_PUBLISHED = {"writers": 3_400, "images": 671_585 + 77_483}
_SQLITE_SUFFIX = re.compile(r"\.sqlite(\.lzma|\.xz)?$")
_SPLITS = ("all_train", "all_test")


@dataclass(frozen=True, kw_only=True)
class Client:
    """A writer, and in which parts it is: 0 train, 1 test."""

    id: str
    parts: tuple[int, ...]


def is_sqlite(source: Path) -> bool:
    """Is it emnist_all.sqlite.lzma, or a folder with it?"""
    return _sqlite_file(source) is not None


def is_h5(source: Path) -> bool:
    """Is it one of fed_emnist_{train,test}.h5, or a folder with one?"""
    return source.name in _H5_FILES or any((source / name).is_file() for name in _H5_FILES)


@contextmanager
def sqlite_writers(source: Path, scratch: Path) -> Iterator[Writers]:
    """The writers of emnist_all.sqlite.lzma, or of the unpacked .sqlite.

    source: the file, or the folder it is in. scratch: for the unpacked file, for the time being.
    Raises: ValueError in one line if the file is damaged or another one, or as `unpacked`.
    """
    path = _sqlite_file(source)
    if path is None:
        raise ValueError(f"no {' or '.join(_SQLITE_FILES)} in {source}")
    with unpacked(path, scratch) as file:
        read = ReadTable(table=ClientTable(file), path=path)
        yield _writers([path], read, [read.table.clients(split) for split in _SPLITS])


@contextmanager
def h5_writers(source: Path) -> Iterator[Writers]:
    """The writers of fed_emnist_train.h5 and fed_emnist_test.h5 in one folder; source: that, or one of the files.

    Raises: as `sqlite_writers`.
    """
    paths = [(source if source.is_dir() else source.parent) / name for name in _H5_FILES]
    for path in paths:
        if not path.is_file():
            raise ValueError(f"no file {path}: unpack fed_emnist.tar.bz2, which holds {' and '.join(_H5_FILES)}")
    read = ReadH5(files=tuple(H5Clients(path) for path in paths), paths=tuple(paths))
    yield _writers(paths, read, [file.clients() for file in read.files])


@dataclass(frozen=True, kw_only=True)
class ReadTable:
    """Reads a writer's rows of both splits. path: the published file."""

    table: ClientTable
    path: Path

    def __call__(self, client: Client) -> Written:
        """Everything of one writer, the training part first."""
        pixels, labels = [], []
        for split in client.parts:
            for row, example in enumerate(self.table.examples(client.id, _SPLITS[split])):
                where = f"{self.path}: client {client.id!r} of {_SPLITS[split]}, image {row}"
                pixels.append(_feature(example, "pixels", np.float32, SIDE * SIDE, where))
                labels.append(_feature(example, "label", np.int64, 1, where))
        where = f"{self.path}: client {client.id!r}"
        return Written(
            id=client.id,
            images=ink(np.stack(pixels), where),
            labels=checked_labels(np.concatenate(labels), where),
        )

    def labels(self, client: Client) -> np.ndarray:
        """[n]; the pixels stay unread."""
        where = f"{self.path}: client {client.id!r}"
        labels = [
            _feature(example, "label", np.int64, 1, where)
            for split in client.parts
            for example in self.table.examples(client.id, _SPLITS[split], names={"label"})
        ]
        return checked_labels(np.concatenate([np.zeros(0, np.int64), *labels]), where)


@dataclass(frozen=True, kw_only=True)
class ReadH5:
    """Reads a writer's group of both files."""

    files: tuple[H5Clients, ...]
    paths: tuple[Path, ...]

    def __call__(self, client: Client) -> Written:
        """Everything of one writer, the training part first."""
        parts = [_pixels(self.files[part].arrays(client.id), self._where(client, part)) for part in client.parts]
        return Written(id=client.id, images=np.concatenate(parts), labels=self.labels(client))

    def labels(self, client: Client) -> np.ndarray:
        """[n]; the pixels stay unread."""
        parts = [checked_labels(self.files[part].labels(client.id), self._where(client, part)) for part in client.parts]
        return np.concatenate(parts)

    def _where(self, client: Client, part: int) -> str:
        return f"{self.paths[part]}: client {client.id!r}"


def _sqlite_file(source: Path) -> Path | None:
    places = [source / name for name in _SQLITE_FILES] if source.is_dir() else [source]
    return next((path for path in places if path.is_file() and _SQLITE_SUFFIX.search(path.name)), None)


def _writers(paths: Sequence[Path], read: ReadTable | ReadH5, parts: Sequence[Sequence[str]]) -> Writers:
    """parts: the clients of train and of test."""
    known = [frozenset(part) for part in parts]
    clients = [
        Client(id=id, parts=tuple(number for number, part in enumerate(known) if id in part))
        for id in sorted(frozenset().union(*known))
    ]
    return Writers(
        where=paths[0] if len(paths) == 1 else paths[0].parent,
        labels={client.id: read.labels(client) for client in clients},
        units={client.id: client for client in clients},
        read=read,
        published=_PUBLISHED,
        sources=tuple(Source(file=path.name, sha256=sha256(path)) for path in paths),
    )


def _feature(example: dict[str, Feature], name: str, dtype: type, count: int, where: str) -> np.ndarray:
    """[count] of a dtype."""
    feature = example.get(name)
    if not isinstance(feature, np.ndarray) or feature.dtype != dtype or len(feature) != count:
        found = "no" if feature is None else f"{len(feature)} {getattr(feature, 'dtype', 'byte string')} of"
        raise ValueError(f"{where} has {found} {name!r}, not {count} {np.dtype(dtype)}: is it TFF's EMNIST?")
    return feature


def _pixels(arrays: dict[str, np.ndarray], where: str) -> np.ndarray:
    if "pixels" not in arrays:
        raise ValueError(f"{where} has no 'pixels', only {', '.join(sorted(arrays))}: is it TFF's EMNIST?")
    return ink(arrays["pixels"].astype(np.float32), where)
