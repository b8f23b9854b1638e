"""Named streams of randomness; nothing else in fedemb makes a generator.

Streams are keyed by 128 bits of SHA-256 over (seed, purpose, ids) and drawn by the counter-based Philox generator
on the CPU, so that a run draws the same values on every device. PyTorch's own CPU generator keeps only 32 bits of
its seed, which makes two of 10^5 streams collide with probability 0.7: too few for noise that must never repeat.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Words: TypeAlias = npt.NDArray[np.uint64]
"""Numbers of 64 bits [n]."""

_WORD = 8  # bytes of entropy per uniform number


def generator(seed: int, purpose: str, *ids: int) -> np.random.Generator:
    """The stream for one purpose, e.g. generator(seed, "cohort", round)."""
    name = "/".join([str(seed), purpose, *map(str, ids)])
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))


class NoiseSource(Protocol):
    """Where noise comes from."""

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Independent N(0, 1) draws, float64 on the CPU, of the given shape."""

    def words(self, count: int) -> Words:
        """`count` independent uniform numbers of 64 bits."""


class SeededNoise:
    """Reproducible noise for simulations: no privacy against somebody who knows the seed."""

    def __init__(self, stream: np.random.Generator) -> None:
        self._stream = stream

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Independent N(0, 1) draws, float64 on the CPU, of the given shape."""
        return torch.from_numpy(np.asarray(self._stream.standard_normal(tuple(shape))))

    def words(self, count: int) -> Words:
        """`count` independent uniform numbers of 64 bits."""
        return self._stream.integers(2**64, size=count, dtype=np.uint64)


class SecretNoise:
    """Noise from the operating system's entropy, kept nowhere."""

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Independent N(0, 1) draws, float64 on the CPU, of the given shape (Box and Muller 1958)."""
        count = int(np.prod(shape, dtype=np.int64))
        pairs = (count + 1) // 2
        uniform = ((self.words(2 * pairs) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # in (0, 1)
        radius, angle = np.sqrt(-2.0 * np.log(uniform[:pairs])), 2.0 * np.pi * uniform[pairs:]
        normals = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
        return torch.from_numpy(normals.reshape(tuple(shape)))

    def words(self, count: int) -> Words:
        """`count` independent uniform numbers of 64 bits."""
        return np.frombuffer(secrets.token_bytes(count * _WORD), dtype=np.uint64)
