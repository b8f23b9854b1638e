"""Random images of users, the same in every process. NumPy only: scripts in other interpreters import this file."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_STEP = 4_099  # bytes between where two users' images start in the stream; prime to all sizes of images


def draw(
    users: int, images: int, shape: Sequence[int], classes: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """(pixels [users, images, Ch, H, W], labels [users, images] in 0 .. classes-1).

    Users look into one stream of random bytes, each from another place on, so that the data of many take up the memory
    of some: what a simulator needs shows, not what the data do. Nobody may write into them.
    """
    stream = np.random.Generator(np.random.Philox(key=0))
    pixels = stream.integers(256, size=_STEP * (users - 1) + images * math.prod(shape), dtype=np.uint8)
    strides = (_STEP, *(math.prod(shape[place:]) for place in range(len(shape) + 1)))
    views = np.lib.stride_tricks.as_strided(pixels, (users, images, *shape), strides)
    return views, stream.integers(classes, size=(users, images))
