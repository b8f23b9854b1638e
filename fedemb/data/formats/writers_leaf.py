"""EMNIST by writer as LEAF's scripts make it (FEMNIST): JSON files of up to 100 writers.

Pixels: paper 1.0, ink 0.0, upright. The first image of every writer but one is there twice: LEAF's
data/femnist/preprocess/group_by_writer.py adds it when the writer begins and once more, so that the 814,255 images of
3,597 writers become 817,851 (github.com/TalwalkarLab/leaf/issues/49). They are kept as they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedemb.core.files import sha256
from fedemb.data.formats.leaf import leaf_users
from fedemb.data.formats.writers import SIDE, Writers, Written, checked_labels, ink
from fedemb.data.manifest import Source
from fedemb.data.spool import Spool, read_spool, spooling

_PUBLISHED = {"writers": 3_597, "images": 817_851}
_PARTS = ("train", "test")


@dataclass(frozen=True, kw_only=True)
class Spooled:
    """A writer's images in the spool. parts: (first byte, bytes). labels: [n] int64."""

    id: str
    parts: tuple[tuple[int, int], ...]
    labels: np.ndarray


@dataclass(frozen=True, kw_only=True)
class ReadSpool:
    """Reads a writer's images back. file: one byte a pixel."""

    file: Path

    def __call__(self, writer: Spooled) -> Written:
        """Everything of one writer."""
        pixels = b"".join(read_spool(self.file, first, size) for first, size in writer.parts)
        images = np.frombuffer(pixels, np.uint8).reshape(-1, SIDE, SIDE)
        return Written(id=writer.id, images=images, labels=writer.labels)


def is_leaf(source: Path) -> bool:
    """Is it a JSON file, or a folder with some?"""
    return bool(_files(source))


def _files(source: Path) -> list[Path]:
    """One JSON file, those of a folder, or else those of its subfolders train and test."""
    if not source.is_dir():
        return [source] if source.suffix == ".json" else []
    return sorted(source.glob("*.json")) or [file for part in _PARTS for file in sorted((source / part).glob("*.json"))]


@contextmanager
def leaf_writers(source: Path, scratch: Path) -> Iterator[Writers]:
    """The writers of some JSON files, read once; the rows of a writer that is in several are joined.

    scratch: a folder, made if need be; holds one byte for each pixel for the time being.
    Raises: ValueError in one line if a file is damaged or another one, `scratch` cannot be written to, or another
        process reads the same files into it.
    """
    files = _files(source)
    if not files:
        raise ValueError(f"no *.json in {source}, nor in its folders {' and '.join(_PARTS)}")
    with spooling(scratch, source) as spool:
        spooled = _spooled(files, spool)
        yield Writers(
            where=source,
            labels={id: writer.labels for id, writer in spooled.items()},
            units=spooled,
            read=ReadSpool(file=spool.path),
            published=_PUBLISHED,
            sources=tuple(Source(file=file.name, sha256=sha256(file)) for file in files),
        )


def _spooled(files: list[Path], spool: Spool) -> dict[str, Spooled]:
    """Write the pixels of all files; writer -> where they are."""
    parts, labels = defaultdict[str, list[tuple[int, int]]](list), defaultdict[str, list[np.ndarray]](list)
    for file in files:
        for writer, paper, classes in leaf_users(file):
            where = f"{file}: user {writer!r}"
            labels[writer].append(checked_labels(classes, where))
            parts[writer].append(spool.write([ink(paper, where).tobytes()]))
    return {
        writer: Spooled(id=writer, parts=tuple(parts[writer]), labels=np.concatenate(labels[writer]))
        for writer in sorted(parts)
    }
