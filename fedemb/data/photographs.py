"""Stores of photographs that published tables, or TensorFlow Federated's cache, divide among users.

Train: one user of the table is one user of the store. Test: the tables name no users there, so that a "user" of the
test store is a block of images, which evaluation reads one after the other and takes for nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np

from fedemb.data.formats.archive import Archive
from fedemb.data.formats.tff_cache import Block, blocks_of_test, blocks_of_users, read_block
from fedemb.data.manifest import Source, StoreInfo
from fedemb.data.pictures import Picture, kind_of
from fedemb.data.preparation import Request, Split
from fedemb.data.readers import where
from fedemb.data.record import UserRecord
from fedemb.data.user_tables import Images, Listed, Listing, several_owners, sizes_source

TEST_BLOCK = 8  # images: evaluation embeds 64 users at once

Counts = Mapping[str, Sequence[int]]
"""users, classes, images -> how many are published; several numbers where publications disagree."""


@dataclass(frozen=True, kw_only=True)
class Photographs:
    """A data set. info: of its stores, but for what differs. published: "train" and "test" -> counts; may be empty."""

    info: StoreInfo
    published: Mapping[str, Counts]
    picture: Picture

    def split(self, name: str, sources: Sequence[Source]) -> StoreInfo:
        """The description of one store."""
        info = replace(self.info, split=name, sources=tuple(dict.fromkeys(sources)))
        if name != "test":
            return info
        block = f"a block of {TEST_BLOCK} test images in the order of the source (no person)"
        return replace(info, user=block, trainable=False)


@dataclass(frozen=True, kw_only=True)
class UserPhotos:
    """A unit of work. photos: (which of the archives, member in it, label), in the order they are stored."""

    id: str
    photos: Sequence[tuple[int, str, int]]


@dataclass(frozen=True, kw_only=True)
class ReadPhotos:
    """A user's photographs from archives, each decoded once to be sure of it."""

    archives: Sequence[Archive]
    picture: Picture

    def __call__(self, user: UserPhotos) -> list[UserRecord]:
        """The user's record."""
        images = [self._read(self.archives[number], member) for number, member, _ in user.photos]
        return [UserRecord(id=user.id, images=images, labels=np.array([label for *_, label in user.photos]))]

    def size(self, user: UserPhotos) -> int:
        """Bytes of the user's files."""
        return sum(self.archives[number].size(member) for number, member, _ in user.photos)

    def _read(self, archive: Archive, member: str) -> bytes:
        return _jpeg(self.picture, archive.read(member), where(archive, member))


@dataclass(frozen=True, kw_only=True)
class ReadCached:
    """The same from a block of TensorFlow Federated's cache."""

    picture: Picture

    def __call__(self, block: Block) -> list[UserRecord]:
        """The user's record."""
        images, labels = [], []
        for number, (data, label) in enumerate(read_block(block)):
            images.append(_jpeg(self.picture, data, f"{block.file}: image {number} of {block.id}"))
            labels.append(label)
        return [UserRecord(id=block.id, images=images, labels=np.array(labels))]


def listed_splits(
    request: Request, photographs: Photographs, *, train: Listing, test: Listing, images: Images
) -> list[Split]:
    """The train and the test store of two tables.

    Raises: ValueError in one line if the tables have other counts than were published, or images are missing, and
        fewer are not allowed.
    """
    owned, unowned = _present(train, images), _present(test, images)
    users = [_unit(user, list(rows), images) for user, rows in groupby(owned, key=lambda row: row.user)]
    blocks = [
        _unit(f"test-{start // TEST_BLOCK:05d}", unowned[start : start + TEST_BLOCK], images)
        for start in range(0, len(unowned), TEST_BLOCK)
    ]
    read = ReadPhotos(archives=images.archives, picture=photographs.picture)
    left_out = {
        "train": {
            "rows without a user": train.without_user,
            "users without images": len({row.user for row in train.rows}) - len(users),
            "images that several users have, kept for each": several_owners(train),
        },
        "test": {"images that are training images too, kept": len(train.ids & test.ids)},
    }
    return [
        Split(
            info=photographs.split(name, [listing.table.source, images.source]),
            users=len(units),
            units=units,
            records=read,
            size=read.size,
            left_out=_missing(request, photographs, name, listing, images) | _told(left_out[name]),
        )
        for name, listing, units in (("train", train, users), ("test", test, blocks))
    ]


def cached_splits(request: Request, photographs: Photographs, cache: Path) -> list[Split]:
    """The same of TensorFlow Federated's cache; how many classes it has is not counted beforehand.

    Raises: as `listed_splits`, and for damaged files.
    """
    users, blocks = blocks_of_users(cache), blocks_of_test(cache, TEST_BLOCK)
    kept = {"train": [user for user in users if user.records], "test": blocks}
    empty = {"train": {"users without images": len(users) - len(kept["train"])}, "test": {}}
    source = sizes_source(cache, (path for path in cache.rglob("*") if path.is_file()))
    return [
        Split(
            info=photographs.split(name, [source]),
            users=len(units),
            units=units,
            records=ReadCached(picture=photographs.picture),
            size=attrgetter("bytes"),
            left_out=_short(request, cache / name, photographs.published[name], _cached(units)) | _told(empty[name]),
        )
        for name, units in kept.items()
    ]


def _present(listing: Listing, images: Images) -> list[Listed]:
    return [row for row in listing.rows if row.image in images.places]


def _unit(id: str, rows: Sequence[Listed], images: Images) -> UserPhotos:
    return UserPhotos(id=id, photos=[(*images.places[row.image], row.label) for row in rows])


def _missing(request: Request, photographs: Photographs, name: str, listing: Listing, images: Images) -> dict[str, int]:
    """What the table lacks, and which of its images are not there."""
    found = {
        "users": len({row.user for row in listing.rows}),
        "classes": len({row.label for row in listing.rows}),
        "images": len(listing.ids),
    }
    short = _short(request, listing.table.where, photographs.published[name], found)
    absent = sorted(listing.ids - images.places.keys())
    if absent and not request.allow_partial:
        raise ValueError(
            f"{len(absent)} of {len(listing.ids)} images of {listing.table.where} are not in {images.folder}, the "
            f"first is {absent[0]}.jpg: get them, or pass allow_partial=true"
        )
    return short | _told({"images of the table missing": len(absent)})


def _cached(units: Sequence[Block]) -> dict[str, int]:
    return {"users": len(units), "images": sum(unit.records for unit in units)}


def _short(request: Request, where: object, published: Counts, found: Mapping[str, int]) -> dict[str, int]:
    """What is missing of the published counts, of those that `found` has."""
    wanted = {
        thing: found[thing] if found[thing] in counts else counts[0]
        for thing, counts in published.items()
        if thing in found
    }
    return request.missing(where, found=found, published=wanted) if wanted else {}


def _told(left_out: Mapping[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in left_out.items() if count}


def _jpeg(picture: Picture, data: bytes, name: str) -> bytes:
    """A JPEG file's bytes, as they are or made smaller."""
    image = picture.original(data, name)
    if (kind := kind_of(data)) != "jpeg":
        raise ValueError(f"{name}: a {kind} file where a JPEG should be: get it again")
    return image
