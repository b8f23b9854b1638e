"""Uniform integers without rounding: the only randomness of exact samplers."""

from __future__ import annotations

import numpy as np

from fedemb.core.rng import NoiseSource, Words


def uniform_below(bound: int, count: int, source: NoiseSource) -> Words:
    """`count` independent integers, each of 0 .. bound - 1 with probability exactly 1 / bound.

    The lowest 2^64 mod bound words are drawn again, so that the others fall evenly on the remainders.
    Args: bound: 1 .. 2^64 - 1.
    """
    words = np.array(source.words(count))
    spare = np.uint64(2**64 % bound)
    while (drawn_again := np.flatnonzero(words < spare)).size:
        words[drawn_again] = source.words(drawn_again.size)
    return words % np.uint64(bound)
