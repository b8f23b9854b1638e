"""Units of work for a preparation: one user's members of an archive, to pixels or to the bytes as they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fedemb.data.formats.archive import Archive
from fedemb.data.pictures import Picture
from fedemb.data.record import UserRecord


@dataclass(frozen=True, kw_only=True)
class UserMembers:
    """A user to be read. images: (member of the archive, label), in the order they are stored."""

    id: str
    images: Sequence[tuple[str, int]]


@dataclass(frozen=True, kw_only=True)
class ReadPixels:
    """Members to decoded pixels of one size, for codec "raw"."""

    archive: Archive
    picture: Picture

    def __call__(self, user: UserMembers) -> list[UserRecord]:
        """The user's record."""
        pixels = [self.picture.pixels(self.archive.read(name), where(self.archive, name)) for name, _ in user.images]
        return [UserRecord(id=user.id, images=[image.tobytes() for image in pixels], labels=_labels(user))]


@dataclass(frozen=True, kw_only=True)
class ReadOriginals:
    """Members as they were published, each decoded once to be sure of it; for codecs "png", "jpeg" and "mixed"."""

    archive: Archive
    picture: Picture

    def __call__(self, user: UserMembers) -> list[UserRecord]:
        """The user's record."""
        images = [self.picture.original(self.archive.read(name), where(self.archive, name)) for name, _ in user.images]
        return [UserRecord(id=user.id, images=images, labels=_labels(user))]

    def size(self, user: UserMembers) -> int:
        """Bytes of the user's files."""
        return sum(self.archive.size(name) for name, _ in user.images)


def where(archive: Archive, member: str) -> str:
    """A member's name in a message."""
    return f"{archive.path}: {member}"


def numbered(names: Iterable[str]) -> dict[str, int]:
    """Labels 0, 1, … of the distinct names, in sorted order."""
    return {name: label for label, name in enumerate(sorted(set(names)))}


def _labels(user: UserMembers) -> np.ndarray:
    return np.array([label for _, label in user.images], np.int64)
