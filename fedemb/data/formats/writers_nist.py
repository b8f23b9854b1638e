"""EMNIST by writer from NIST Special Database 19 itself, second edition (2016): two trees of the same PNG files.

    by_write/<part>/<writer, f0000_14>/<field>/<name>.png           who wrote it
    by_class/<ASCII code in hexadecimal>/hsf_<part>/<name>.png      which character it is

Files are joined by their content's MD5; folders by_class/*/hsf*mit* and train_* are left aside. Of several classes for
one content the first counts. 128 x 128 pixels, ink black on white, to 28 x 28 by Lanczos' filter.
Source: LEAF, data/femnist/preprocess/{get_file_dirs,match_hashes,data_to_json}.py; images as in EMNIST's by-class,
697,932 + 116,323, Cohen et al. 2017, arXiv:1702.05373; writers as LEAF's (github.com/TalwalkarLab/leaf/issues/49).
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fedemb.data.formats.archive import Archive, open_archives
from fedemb.data.formats.writers import CHARACTERS, SIDE, Writers, Written
from fedemb.data.pictures import Picture
from fedemb.data.preparation import Progress
from fedemb.data.readers import UserMembers

_PUBLISHED = {"writers": 3_597, "images": 814_255}
_SCANNED_SIDE = 128
_TREES = {
    "by_class": re.compile(r"(?:.*/)?by_class/(?P<code>[^/]+)/hsf(?![^/]*mit)[^/]*/[^/]+\.png"),
    "by_write": re.compile(r"(?:.*/)?by_write/[^/]+/(?P<writer>[^/]+)/[^/]+/[^/]+\.png"),
}
_WRITER = re.compile(r"f\d{4}_\d{2}")
_CLASSES = {f"{ord(character):02x}": label for label, character in enumerate(CHARACTERS)}


@dataclass(frozen=True, kw_only=True)
class ReadScans:
    """Decodes and shrinks a writer's images."""

    archive: Archive

    def __call__(self, writer: UserMembers) -> Written:
        """Everything of one writer."""
        return Written(
            id=writer.id,
            images=np.stack([self._small(name) for name, _ in writer.images]),
            labels=np.array([label for _, label in writer.images], np.int64),
        )

    def _small(self, name: str) -> np.ndarray:
        """[28, 28] uint8, ink 255 on 0."""
        where = f"{self.archive.path}: {name}"
        image = Picture(channels=1, invert=True).image(self.archive.read(name), where)
        if image.size != (_SCANNED_SIDE, _SCANNED_SIDE):
            raise ValueError(f"{where} has {image.size} pixels, not {_SCANNED_SIDE} x {_SCANNED_SIDE}: is it SD19's?")
        return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def is_nist(source: Path) -> bool:
    """Is it a zip file, or a folder with one of the trees or its zip file?"""
    inside = [source / f"{tree}{suffix}" for tree in _TREES for suffix in ("", ".zip")]
    return source.suffix.lower() == ".zip" or any(path.exists() for path in inside)


def _archives(source: Path) -> list[Path]:
    """by_class.zip and by_write.zip in a folder, or else the folder itself, or a zip file with both trees."""
    zips = [source / f"{tree}.zip" for tree in _TREES]
    return zips if all(path.is_file() for path in zips) else [source]


@contextmanager
def nist_writers(source: Path, scratch: Path, progress: Progress) -> Iterator[Writers]:
    """The writers of by_write with the classes of by_class. Reads all files once to join them.

    Raises: ValueError in one line if a tree is missing, a folder's name is no writer or no character, or an archive is
        damaged.
    """
    with open_archives(_archives(source), scratch=scratch, wanted=_is_scan) as archive:
        trees = {tree: [name for name in archive.names() if _TREES[tree].fullmatch(name)] for tree in _TREES}
        for tree, names in trees.items():
            if not names:
                raise ValueError(f"{source} holds no PNG file in {tree}/: get {tree}.zip of SD19 from NIST as well")
        unread = {tree: progress(names, label=f"read {tree}", total=len(names)) for tree, names in trees.items()}
        labels = _labels(archive, unread["by_class"])
        units, known = _units(archive, unread["by_write"], labels)
        images = sum(len(unit.images) for unit in units)
        yield Writers(
            where=source,
            labels={unit.id: np.array([label for _, label in unit.images], np.int64) for unit in units},
            units={unit.id: unit for unit in units},
            read=ReadScans(archive=archive),
            published=_PUBLISHED,
            left_out={
                "images without a class": len(trees["by_write"]) - images,
                "images without a writer": len(labels) - known,
            },
            sources=(archive.source(),),
        )


def _is_scan(name: str) -> bool:
    return any(tree.fullmatch(name) for tree in _TREES.values())


def _labels(archive: Archive, names: Iterable[str]) -> dict[bytes, int]:
    """Content -> class. names: members of by_class."""
    labels: dict[bytes, int] = {}
    for name in names:
        match = _TREES["by_class"].fullmatch(name)
        assert match is not None
        if (label := _CLASSES.get(match["code"].lower())) is None:
            raise ValueError(f"{archive.path}: {name} is in no folder of a digit or letter, but {match['code']!r}")
        labels.setdefault(_content(archive, name), label)
    return labels


def _units(archive: Archive, names: Iterable[str], labels: Mapping[bytes, int]) -> tuple[Sequence[UserMembers], int]:
    """(writers with their images that have a class, how many contents of by_class they wrote)."""
    images, known = defaultdict[str, list[tuple[str, int]]](list), set[bytes]()
    for name in names:
        match = _TREES["by_write"].fullmatch(name)
        assert match is not None
        if _WRITER.fullmatch(match["writer"]) is None:
            raise ValueError(f"{archive.path}: {name} is in no folder of a writer like f0000_14: is it SD19's?")
        content = _content(archive, name)
        if content in labels:
            known.add(content)
            images[match["writer"]].append((name, labels[content]))
    return [UserMembers(id=writer, images=images[writer]) for writer in sorted(images)], len(known)


def _content(archive: Archive, name: str) -> bytes:
    return hashlib.md5(archive.read(name), usedforsecurity=False).digest()
