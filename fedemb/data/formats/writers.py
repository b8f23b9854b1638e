"""Handwritten characters by writer: what the published forms of NIST SD19's characters have in common.

Shapes: n images of a writer, 28 x 28 pixels. Classes: 0-9 digits, 10-35 upper case, 36-61 lower case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any

import numpy as np

from fedemb.data.manifest import Source

SIDE = 28
CHARACTERS = digits + ascii_uppercase + ascii_lowercase
"""The character of each class."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """All that one writer wrote. images: [n, 28, 28] uint8, upright, ink 255 on 0. labels: [n] int64."""

    id: str
    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Writers:
    """The writers of one published form, each of them once, whatever parts it was published in.

    where: what was read, for messages.
    labels: writer -> [n] int64. units: writer -> what `read` needs of it; both sorted by writer.
    read: a unit -> everything of that writer, in the order of its labels; picklable.
    published: "writers" and "images" -> how many there are in the whole form. left_out: reason -> images not read.
    """

    where: Path
    labels: Mapping[str, np.ndarray]
    units: Mapping[str, Any]
    read: Callable[[Any], Written]
    published: Mapping[str, int]
    left_out: Mapping[str, int] = field(default_factory=dict)
    sources: tuple[Source, ...]


def ink(paper: np.ndarray, where: str) -> np.ndarray:
    """Pixels with paper 1 and ink 0 as uint8 with ink 255 on 0, rounded to the nearest.

    paper: [n, 784] or [n, 28, 28] floats in [0, 1], by rows. where: for messages.
    Returns: [n, 28, 28].
    Raises: ValueError in one line if there are other numbers of pixels or other values.
    """
    if paper.size != len(paper) * SIDE * SIDE:
        raise ValueError(f"{where}: images have the shape {list(paper.shape[1:])}, not {SIDE} x {SIDE} pixels")
    if paper.size and not (paper.min() >= 0 and paper.max() <= 1):
        raise ValueError(f"{where}: pixels must lie in [0, 1], got {paper.min():g} .. {paper.max():g}")
    pixels: np.ndarray = np.rint(255 * (1 - paper)).astype(np.uint8)
    return pixels.reshape(-1, SIDE, SIDE)


def checked_labels(labels: np.ndarray, where: str) -> np.ndarray:
    """The labels as they are. Raises ValueError in one line if one is no class."""
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(CHARACTERS):
        raise ValueError(
            f"{where}: labels must lie in 0 .. {len(CHARACTERS) - 1}, got {labels.min()} .. {labels.max()}"
        )
    return labels
