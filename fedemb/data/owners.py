"""How many users own the same image, counted over images that come one user at a time. n images of a user."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from fedemb.data.record import DIGEST_BYTES

if TYPE_CHECKING:  # it brings PyTorch, which the processes that prepare a data set do without
    from fedemb.core.types import UserId


@runtime_checkable
class CountsOwners(Protocol):
    """Knows how many users own one image at most; a UserDataset may have it."""

    @property
    def most_owners(self) -> int:
        """k, the most users that own one image; 1 if none is shared."""


class Owners:
    """12 bytes of memory an image, four times that while asked.

    Images are told apart by 64 bits of their digests: among 10^7, two different ones are taken for one with a
    probability of 3e-6.
    """

    def __init__(self) -> None:
        """Without images."""
        self._images, self._users = array("Q"), array("I")

    def add(self, user: UserId, digests: bytes) -> None:
        """Take note of a user's images. digests: n * 16 bytes (fedemb/data/record.py)."""
        images = np.frombuffer(digests, np.uint64)[:: DIGEST_BYTES // 8]
        self._images.frombytes(images.tobytes())
        self._users.frombytes(np.full(len(images), user, np.uint32).tobytes())

    def shared(self) -> tuple[int, int]:
        """(different images that several users own, the most users that own one: 1 if none is shared)."""
        images, users = np.frombuffer(self._images, np.uint64), np.frombuffer(self._users, np.uint32)
        order = np.lexsort((users, images))
        images, users = images[order], users[order]
        first = np.ones(len(images), bool)
        first[1:] = (images[1:] != images[:-1]) | (users[1:] != users[:-1])
        _, owners = np.unique(images[first], return_counts=True)
        return int((owners > 1).sum()), int(owners.max(initial=1))
