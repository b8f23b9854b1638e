"""Users in SQLite files on disk: random access by user, whatever their number.

A store is one folder for each split, `<path>/<split>/`, with `users-00000-of-00001.sqlite` (one or more shards) and
`manifest.json`, which is written last. Shapes: n images of the users asked for, Ch x H x W pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fedemb.core import check
from fedemb.core.types import Batch, UserId
from fedemb.data.manifest import MANIFEST, Manifest, Shard, into, read_manifest
from fedemb.data.pictures import Picture
from fedemb.data.record import SELECT_HEAD, Head, decode_head, digest
from fedemb.data.shards import Shards, mend
from fedemb.data.users import UserDataset


class StoreUsers(UserDataset):
    """The users of a prepared store, in the order they were prepared in.

    Opening reads the manifest and nothing else. The SQLite files are opened read-only and as immutable, once for each
    process and thread that asks, so a store may be forked, pickled and shared. Every record is verified when read.
    """

    def __init__(
        self, *, path: str | os.PathLike[str], split: str = "train", size: Sequence[int] | None = None
    ) -> None:
        """path: the folder that was prepared, e.g. data/omniglot. split: the folder in it.

        size: (H, W) that images are resized to when read, aspect not kept; None keeps the size they are stored in.
        Raises: ValueError in one line if there is no complete store, a shard is missing or has another size, or the
            images' sizes differ and no `size` is given.
        """
        self._path, self._split, self._size = Path(path), split, None if size is None else tuple(size)
        self._folder = self._path / split
        self._manifest = _opened(self._path, split)
        self.privacy_unit, self.trainable = self._manifest.info.user, self._manifest.info.trainable
        self._shape = _image_shape(self._folder, self._manifest, self._size)
        self._shards = Shards(self._folder, self._manifest)

    def __reduce__(self) -> tuple[object, ...]:
        return _reopened, (self._path, self._split, self._size)

    @property
    def manifest(self) -> Manifest:
        """All that is known about the store."""
        return self._manifest

    @property
    def name(self) -> str:
        """The data set's name in a report."""
        return self._manifest.info.name

    @property
    def num_users(self) -> int:
        """N."""
        return self._manifest.users

    @property
    def num_examples_total(self) -> int:
        """Images of all users."""
        return self._manifest.examples

    @property
    def checksum(self) -> str:
        """Digest of all records."""
        return self._manifest.checksum

    @property
    def traces(self) -> frozenset[str]:
        """The store, wherever a copy of it lies, and whatever else has the same records."""
        return frozenset((self._manifest.info.seal, self._manifest.checksum))

    @property
    def most_owners(self) -> int:
        """The most users that own one image, as the preparation has counted them."""
        return self._manifest.most_owners

    def image_digests(self) -> Iterator[bytes]:
        """Of every image; reads none."""
        for user in range(self.num_users):
            yield from (digest.tobytes() for digest in self._head(user).digests)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(Ch, H, W) of the images as they are read."""
        return self._shape

    def user_id(self, user: UserId) -> str:
        """The name that the user was prepared under."""
        return self._head(user).id

    def labels(self, user: UserId) -> np.ndarray:
        """[n] int64; reads no image."""
        return self._head(user).labels

    def class_name(self, label: int) -> str | None:
        """What a label is called in the source; None where the source has no names."""
        return self._shards.class_name(label)

    def num_examples(self, user: UserId) -> int:
        """How many images a user has; reads no image."""
        return len(self._head(user).labels)

    def load(self, users: Sequence[UserId]) -> Batch:
        """All examples of some users, read in the order of the rows and returned in the order asked for."""
        heads = {user: self._head(user) for user in sorted(set(users))}
        return self._batch(users, {user: (head, range(len(head.labels))) for user, head in heads.items()})

    def load_examples(self, users: Sequence[UserId], places: Sequence[np.ndarray]) -> Batch:
        """Some examples of distinct users: only these are read and decoded.

        places: for each user, positions among its examples, in the order wanted.
        """
        chosen = dict(zip(users, places, strict=True))
        if len(chosen) < len(users):
            raise ValueError(f"users must be distinct to read some of their examples, got {list(users)}")
        heads = {user: self._head(user) for user in sorted(chosen)}
        for user, head in heads.items():
            if len(chosen[user]) and not 0 <= chosen[user].min() <= chosen[user].max() < len(head.labels):
                raise ValueError(f"user {user} has examples 0 .. {len(head.labels) - 1}, got {chosen[user].tolist()}")
        return self._batch(users, {user: (head, chosen[user].tolist()) for user, head in heads.items()})

    def stored(self, user: UserId) -> Iterator[bytes]:
        """A user's images as they are kept, in order."""
        head = self._head(user)
        return map(bytes, self._images(user, head, range(len(head.labels))))

    def _batch(self, users: Sequence[UserId], wanted: dict[UserId, tuple[Head, Sequence[int]]]) -> Batch:
        pixels = {user: self._pixels(user, head, places) for user, (head, places) in wanted.items()}
        labels = {user: head.labels[np.asarray(places, np.int64)] for user, (head, places) in wanted.items()}
        none = np.zeros((0, *self._shape), np.uint8), np.zeros(0, np.int64)
        return {
            "image": torch.from_numpy(np.concatenate([none[0], *(pixels[user] for user in users)])),
            "label": torch.from_numpy(np.concatenate([none[1], *(labels[user] for user in users)])),
        }

    def _pixels(self, user: UserId, head: Head, places: Sequence[int]) -> np.ndarray:
        """[n, Ch, H, W] uint8 of some of a user's images, verified."""
        images, info = self._images(user, head, places), self._manifest.info
        if info.image_shape == self._shape and info.codec == "raw":
            return np.frombuffer(b"".join(images), np.uint8).reshape(len(images), *self._shape)
        if info.codec == "raw":
            decoded = [self._resized(image) for image in images]
        else:
            picture = Picture(channels=self._shape[0], size=self._shape[1:])
            where = f"{self._folder}: user {user} ({head.id!r})"
            decoded = [picture.pixels(bytes(image), where) for image in images]
        return np.stack(decoded) if decoded else np.zeros((0, *self._shape), np.uint8)

    def _resized(self, image: bytes | memoryview) -> np.ndarray:
        """[Ch, H, W] uint8 of the pixels of one image, each channel by itself."""
        stored = np.frombuffer(image, np.uint8).reshape(self._manifest.info.image_shape)  # type: ignore[arg-type]
        size = self._shape[2], self._shape[1]
        return np.stack([np.asarray(Image.fromarray(c).resize(size, Image.Resampling.BILINEAR)) for c in stored])

    def _images(self, user: UserId, head: Head, places: Sequence[int]) -> list[bytes | memoryview]:
        """Some of a user's images as they are kept, verified."""
        spans = [head.span(place) for place in places]
        images: list[bytes | memoryview]
        if len(places) == len(head.labels):
            whole = memoryview(self._shards.images(user))
            images = [whole[first : first + length] for first, length in spans]
        else:
            images = [*self._shards.slices(user, spans)]
        for place, image in zip(places, images, strict=True):
            if digest(image) != head.digests[place].tobytes():
                raise self._shards.damaged(f"image {place} of user {user} ({head.id!r}) does not match its checksum")
        return images

    def _head(self, user: UserId) -> Head:
        head = decode_head(user, self._shards.row(user, SELECT_HEAD))
        if head is None:
            raise self._shards.damaged(f"the record of user {user} does not match its checksum")
        return head


def _reopened(path: Path, split: str, size: Sequence[int] | None) -> StoreUsers:
    return StoreUsers(path=path, split=split, size=size)


def _image_shape(folder: Path, manifest: Manifest, size: Sequence[int] | None) -> tuple[int, int, int]:
    """(Ch, H, W) as read."""
    channels, height, width = manifest.info.image_shape
    if size is not None:
        if len(size) != 2:
            raise ValueError(f"size must be [height, width], got size={list(size)}")
        for side in size:
            check.at_least("size", side, 1)
        height, width = size
    if height is None or width is None:
        raise ValueError(
            f"the images of {folder} have sizes of their own: say which to read them in, e.g. users.size=[224,224]"
        )
    return channels, height, width


def _opened(path: Path, split: str) -> Manifest:
    """The manifest of a store that looks complete, in time that does not depend on the number of users."""
    manifest = read_manifest(path / split)
    if manifest is None:
        raise ValueError(_missing(path, split))
    for shard in manifest.shards:
        if (size := _size(path / split / shard.file)) != shard.bytes:
            raise ValueError(
                f"store {path / split} is damaged: {_named(shard, size)}; prepare it again with "
                f"'{mend(path / split, manifest)}'"
            )
    return manifest


def _missing(path: Path, split: str) -> str:
    """That there is no such split, or no store. A folder's name says nothing if no data set is called so."""
    if splits := sorted(file.parent.name for file in path.glob(f"*/{MANIFEST}")):
        return f"the store {path} has no split {split}, there is {', '.join(splits)}: pass one of them, or another path"
    known = (files("fedemb.conf") / "dataset" / f"{path.name}.yaml").is_file()
    name, which = (path.name, "") if known else ("NAME", ", NAME being the data set's")
    return f"no store at {path}: run 'fedemb prepare {name} {into(path)}'{which}"


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.is_file() else None


def _named(shard: Shard, size: int | None) -> str:
    return f"{shard.file} is missing" if size is None else f"{shard.file} has {size} bytes and not {shard.bytes}"
