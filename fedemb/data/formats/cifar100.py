"""CIFAR-100 in the three forms it is passed on in, brought to one: the records of its original binary release.

A record: coarse label, fine label, 32 x 32 red, then green, then blue pixels row by row; 3,074 bytes.
Sources: https://www.cs.toronto.edu/~kriz/cifar.html; a tree of class folders; TensorFlow Federated's cifar100.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fedemb.core.files import sha256
from fedemb.data.formats.archive import Archive, open_archive
from fedemb.data.formats.tff import ClientTable, unpacked
from fedemb.data.manifest import Source
from fedemb.data.pictures import Picture, as_pixels
from fedemb.data.readers import where
from fedemb.data.record import UserRecord
from fedemb.data.spool import spooling

SHAPE = (3, 32, 32)
RECORD = 2 + 3 * 32 * 32
SPLITS = ("train", "test")
FROM = "cifar-100-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html"

_BINARY, _TFF = "cifar-100-binary.tar.gz", ("cifar100.sqlite.lzma", "cifar100.sqlite")
_BIN = re.compile(r"(?:.*/)?(?P<split>train|test)\.bin")
_NAMES = re.compile(r"(?:.*/)?(?P<kind>fine|coarse)_label_names\.txt")
_PNG = re.compile(r"(?:.*/)?(?P<split>train|test)/(?P<fine>[^/]+)/[^/.][^/]*\.png")
_PICKLED = re.compile(r"(?:.*/)?cifar-100-python(?:\.tar\.gz|/(?:train|test|meta))")


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """fine: the classes' names in the order of their labels. coarse: likewise. parents: [fine] coarse labels."""

    fine: Sequence[str]
    coarse: Sequence[str]
    parents: np.ndarray

    @classmethod
    def of(cls, coarse_of: Mapping[str, str]) -> Hierarchy:
        """From fine name -> coarse name; either kind is numbered in sorted order, as CIFAR-100 does."""
        fine, coarse = sorted(coarse_of), sorted(set(coarse_of.values()))
        return cls(fine=fine, coarse=coarse, parents=np.array([coarse.index(coarse_of[name]) for name in fine]))


@dataclass(frozen=True, kw_only=True)
class Form:
    """A source that can be read. records: split -> pieces of bytes that join to its records.

    clients: split -> (client, how many records), in the order of the records; empty where the source has no users.
    """

    path: Path
    source: Source
    records: Callable[[str], Iterable[bytes]]
    clients: Mapping[str, Sequence[tuple[str, int]]]


@dataclass(frozen=True, kw_only=True)
class Dealt:
    """A user: the places of its images among the records, in the order they are stored."""

    id: str
    places: np.ndarray


@dataclass(frozen=True, kw_only=True)
class ReadRecords:
    """Users of a file of records, in whatever process it is called."""

    file: Path

    def __call__(self, user: Dealt) -> list[UserRecord]:
        """The user's record; labels are the fine ones."""
        rows = _rows(self.file)[user.places]
        images = np.ascontiguousarray(rows[:, 2:]).reshape(-1, *SHAPE)
        return [UserRecord.from_pixels(id=user.id, images=images, labels=rows[:, 1])]

    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """([n] fine, [n] coarse) int64."""
        rows = _rows(self.file)
        return rows[:, 1].astype(np.int64), rows[:, 0].astype(np.int64)


@contextmanager
def open_cifar100(source: Path, hierarchy: Hierarchy, scratch: Path) -> Iterator[Form]:
    """The original binary release, a tree <split>/<class>/<file>.png, or TFF's file; each as published or unpacked.

    Args: source: the file or folder, or a folder that holds one of them. scratch: for what has to be unpacked.
    Raises: ValueError in one line if it is none of them, several, a pickle, or damaged.
    """
    path = _located(source)
    if path.suffix in (".sqlite", ".lzma"):
        with unpacked(path, scratch) as sqlite:
            yield _tff(path, ClientTable(sqlite))
        return
    with open_archive(path, scratch=scratch, wanted=_is_member) as archive:
        names = archive.names()
        if any(map(_BIN.fullmatch, names)):
            yield _binary(archive, hierarchy)
        elif any(map(_PNG.fullmatch, names)):
            yield _tree(archive, hierarchy)
        elif any(map(_PICKLED.fullmatch, names)):
            raise _pickled(path)
        else:
            raise ValueError(f"{path} holds neither train.bin and test.bin nor {{train,test}}/CLASS/*.png: get {FROM}")


@contextmanager
def spooled(form: Form, split: str, hierarchy: Hierarchy, scratch: Path) -> Iterator[ReadRecords]:
    """All records of a split in one temporary file, 3,074 bytes an image, checked.

    Raises: ValueError in one line if a record is cut off, has labels that do not go together, or none is there,
        or `scratch` cannot be written to.
    """
    with spooling(scratch, form.path, split) as spool:
        spool.write(form.records(split))
        _check(form.path, split, spool.path, hierarchy)
        yield ReadRecords(file=spool.path)


def _located(source: Path) -> Path:
    if _PICKLED.fullmatch(source.name):
        raise _pickled(source)
    if not source.is_dir():
        return source
    found = [source / name for name in (_BINARY, *_TFF) if (source / name).exists()] + sorted(source.glob("*.zip"))
    if len(found) > 1:
        raise ValueError(f"{source} holds {', '.join(path.name for path in found)}: pass source=<one of them>")
    return found[0] if found else source


def _is_member(name: str) -> bool:
    return any(pattern.fullmatch(name) for pattern in (_BIN, _NAMES, _PNG, _PICKLED))


def _pickled(path: Path) -> ValueError:
    return ValueError(f"{path} is CIFAR-100 as Python pickles, which are never opened: get {FROM}")


def _binary(archive: Archive, hierarchy: Hierarchy) -> Form:
    """{train,test}.bin; the names beside them, where they are, must be the hierarchy's."""
    members: dict[str, str] = {}
    for name in archive.names():
        if match := _BIN.fullmatch(name):
            if (other := members.setdefault(match["split"], name)) != name:
                raise ValueError(f"{archive.path} holds {other} and {name}: pass one of them")
        elif match := _NAMES.fullmatch(name):
            told = archive.read(name).decode("utf-8", "replace").split()
            if told != list(hierarchy.fine if match["kind"] == "fine" else hierarchy.coarse):
                raise ValueError(f"{where(archive, name)} names other classes than CIFAR-100's: get {FROM}")
    if len(members) < len(SPLITS):
        raise ValueError(f"{archive.path} holds {', '.join(members.values())} only: get {FROM}")

    def records(split: str) -> Iterator[bytes]:
        content = archive.read(members[split])
        if len(content) % RECORD:
            raise ValueError(
                f"{where(archive, members[split])} has {len(content)} bytes, no multiple of {RECORD}: get it again"
            )
        yield content

    return Form(path=archive.path, source=archive.source(), records=records, clients={})


def _tree(archive: Archive, hierarchy: Hierarchy) -> Form:
    """Folders of classes; records in the order of the classes, then of the files."""
    labels = {name: label for label, name in enumerate(hierarchy.fine)}
    members: dict[str, list[tuple[int, str]]] = {split: [] for split in SPLITS}
    for name in archive.names():
        if match := _PNG.fullmatch(name):
            if match["fine"] not in labels:
                raise ValueError(f"{where(archive, name)}: CIFAR-100 has no class {match['fine']!r}")
            members[match["split"]].append((labels[match["fine"]], name))

    def records(split: str) -> Iterator[bytes]:
        for label, name in sorted(members[split]):
            yield bytes([hierarchy.parents[label], label]) + _decoded(archive, name)

    return Form(path=archive.path, source=archive.source(), records=records, clients={})


def _decoded(archive: Archive, name: str) -> bytes:
    """The pixels of one image file."""
    picture = Picture(channels=3, max_pixels=SHAPE[1] * SHAPE[2])
    image = picture.image(archive.read(name), where(archive, name))
    if image.size != SHAPE[1:]:
        raise ValueError(f"{where(archive, name)} has {image.width} x {image.height} pixels, not 32 x 32: get it again")
    return as_pixels(image).tobytes()


def _tff(path: Path, table: ClientTable) -> Form:
    """Examples of "image", "label" and "coarse_label", client by client; 500 clients train, 100 others test."""
    clients = {
        split: [(client, table.num_examples(client, split)) for client in table.clients(split)] for split in SPLITS
    }
    return Form(
        path=path,
        source=Source(file=path.name, sha256=sha256(path)),
        records=partial(_examples, path, table),
        clients=clients,
    )


def _examples(path: Path, table: ClientTable, split: str) -> Iterator[bytes]:
    for client in table.clients(split):
        for number, example in enumerate(table.examples(client, split, ("image", "label", "coarse_label"))):
            place = f"{path}: client {client!r} of {split}, example {number}"
            labels = [_bytes(example.get(name), 1, f"{place}: {name}") for name in ("coarse_label", "label")]
            pixels = _bytes(example.get("image"), RECORD - 2, f"{place}: image").reshape(32, 32, 3)
            yield b"".join(label.tobytes() for label in labels) + pixels.transpose(2, 0, 1).tobytes()


def _bytes(feature: object, count: int, where: str) -> np.ndarray:
    """[count] uint8 of a feature of whole numbers."""
    if not isinstance(feature, np.ndarray) or feature.dtype != np.int64 or len(feature) != count:
        raise ValueError(f"{where} is not {count} whole numbers: is this TFF's cifar100.sqlite.lzma?")
    if feature.min() < 0 or feature.max() > 255:
        raise ValueError(f"{where} must lie in 0 .. 255, got {feature.min()} .. {feature.max()}")
    return feature.astype(np.uint8)


def _check(path: Path, split: str, file: Path, hierarchy: Hierarchy) -> None:
    """Labels that exist and go together."""
    if not file.stat().st_size:
        raise ValueError(f"{path} holds no image of split {split}: get {FROM}")
    rows = _rows(file)
    coarse, fine = rows[:, 0], rows[:, 1].astype(np.int64)
    known = fine < len(hierarchy.fine)
    wrong = np.flatnonzero(~known | (hierarchy.parents[np.where(known, fine, 0)] != coarse))
    if wrong.size:
        first = int(wrong[0])
        raise ValueError(
            f"{path}: image {first} of split {split} has fine label {fine[first]} and coarse label {coarse[first]}, "
            "which do not go together in CIFAR-100: get the file again"
        )


def _rows(file: Path) -> np.ndarray:
    """[n, 3074] uint8, read when used."""
    return np.memmap(file, np.uint8, "r").reshape(-1, RECORD)
