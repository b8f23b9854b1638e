"""Random images of users, the same in every process. NumPy only: scripts in other interpreters import this file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def draw(
    users: int, images: int, shape: Sequence[int], classes: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """(pixels [users, images, Ch, H, W], labels [users, images] in 0 .. classes-1)."""
    stream = np.random.Generator(np.random.Philox(key=0))
    pixels = stream.integers(256, size=(users, images, *shape), dtype=np.uint8)
    return pixels, stream.integers(classes, size=(users, images))
