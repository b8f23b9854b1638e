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
from collections.abc import Iterator, Sequence
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

TREES = ("by_class", "by_write")

_PUBLISHED = {"writers": 3_597, "images": 814_255}
_SCANNED_SIDE = 128
_BY_CLASS = re.compile(r"(?:.*/)?by_class/(?P<code>[^/]+)/hsf(?![^/]*mit)[^/]*/[^/]+\.png")
_BY_WRITE = re.compile(r"(?:.*/)?by_write/[^/]+/(?P<writer>[^/]+)/[^/]+/[^/]+\.png")
_WRITER = re.compile(r"f\d{4}_\d{2}")
_LABELS = {f"{ord(character):02x}": label for label, character in enumerate(CHARACTERS)}


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


def nist_archives(source: Path) -> list[Path]:
    """A zip file with both trees, by_class.zip and by_write.zip in a folder, or the folder itself."""
    zips = [source / f"{tree}.zip" for tree in TREES]
    return zips if all(path.is_file() for path in zips) else [source]


@contextmanager
def nist_writers(source: Path, scratch: Path, progress: Progress) -> Iterator[Writers]:
    """The writers of by_write with the classes of by_class. Reads all files once to join them.

    Raises: ValueError in one line if a tree is missing, a folder's name is no writer or no character, or an archive is
        damaged.
    """
    with open_archives(nist_archives(source), scratch=scratch, wanted=_is_scan) as archive:
        names = archive.names()
        classified = [name for name in names if _BY_CLASS.fullmatch(name)]
        written = [name for name in names if _BY_WRITE.fullmatch(name)]
        for tree, found in zip(TREES, (classified, written), strict=True):
            if not found:
                raise ValueError(f"{archive.path} has no images in {tree}/: get {tree}.zip from NIST as well")
        labels: dict[str, int] = {}
        for name in progress(classified, label="emnist: characters of by_class", total=len(classified)):
            labels.setdefault(_md5(archive, name), _label(archive, name))
        units, unknown = _by_writer(archive, progress(written, label="...", total=len(written)), labels)
        yield Writers()


def _is_scan(name: str) -> bool:
    return _BY_CLASS.fullmatch(name) is not None or _BY_WRITE.fullmatch(name) is not None
