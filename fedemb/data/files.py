"""Users whose images are files on disk, used as they lie there: nothing is prepared.

Shapes: n images of the users asked for, Ch x H x W pixels.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from fedemb.core import check
from fedemb.core.types import Batch, UserId
from fedemb.core.workers import Workers
from fedemb.data.formats.image_table import read_image_table, user_column
from fedemb.data.formats.members import check_size
from fedemb.data.image_list import ONE_DIRECTORY, ListedImage, SplitRule, UserSplit, list_folder, one_value, user_splits
from fedemb.data.owners import Owners
from fedemb.data.pictures import Picture
from fedemb.data.record import DIGEST_BYTES, digest
from fedemb.data.users import UserDataset

_ALL = "all"


class FileUsers(UserDataset):
    """Image files below one folder, decoded each time they are read.

    All files are looked at when it is made, because an error in a round would tell who was drawn: each must be there
    and, unless `verify` is false, is decoded once as a round decodes it, by a thread on each core that keeps no pixels.
    That takes as long as an epoch's reading, each time: `fedemb prepare image_folder` and `table` do it once and for
    all, and are faster to train on. Of files that change afterwards nothing is known.
    May be pickled, forked, and used by several threads.
    """

    def __init__(
        self,
        root: Path,
        owned: UserSplit,
        *,
        name: str,
        channels: int = 3,
        size: Sequence[int] | None = None,
        verify: bool = True,
        privacy_unit: str,
    ) -> None:
        """owned: users and their files below `root`. name: of the data set, in a report.

        channels: 1 for grey, 3 for RGB. size: (H, W) that images are resized to, aspect not kept; None if all have one.
        verify: false opens no file, so that a damaged one stops a round and tells who was drawn; needs size.
        privacy_unit: completes "a user is …".
        Raises: ValueError in one line for a file that is missing or cannot be decoded, or if sizes differ and none is
            given.
        """
        check.phrase("privacy_unit", privacy_unit)
        self._root, self._owned, self._name, self._verified = root, owned, name, verify
        self.privacy_unit = privacy_unit
        picture = _asked_picture(channels, size, verify)
        settled, self._digests = _looked_at(root, owned, picture) if verify else (picture.size, b"")
        assert settled is not None
        height, width = settled
        self._picture = replace(picture, size=settled)
        self._shape = channels, height, width
        self._checksum = _checksum(root, owned, self._shape)
        self._most_owners = _most_owners(owned, self._digests or _digests_of_names(owned))

    @property
    def name(self) -> str:
        """The data set's name in a report."""
        return self._name

    @property
    def num_users(self) -> int:
        """N."""
        return len(self._owned.users)

    @property
    def num_examples_total(self) -> int:
        """Images of all users."""
        return sum(len(user.images) for user in self._owned.users)

    @property
    def checksum(self) -> str:
        """Digest of the users' ids, file names, file sizes, labels and the shape; not of what is in the files."""
        return self._checksum

    @property
    def traces(self) -> frozenset[str]:
        """The files by device and number, whatever links lead to them."""
        told = (_found(self._root / name) for user in self._owned.users for name, _ in user.images)
        return frozenset(f"file {file.st_dev} {file.st_ino}" for file in told)

    def image_digests(self) -> Iterator[bytes]:
        """Of every image, if `verified`."""
        return (self._digests[first : first + DIGEST_BYTES] for first in range(0, len(self._digests), DIGEST_BYTES))

    @property
    def most_owners(self) -> int:
        """The most users that own one image: the same bytes, or if not `verified`, the same name."""
        return self._most_owners

    @property
    def verified(self) -> bool:
        """Was every image decoded when the data set was made?"""
        return self._verified

    @property
    def left_out(self) -> Mapping[str, int]:
        """What lies there and is not used: reason -> how many."""
        return self._owned.left_out

    @property
    def class_names(self) -> Sequence[str]:
        """Of labels 0, 1, …."""
        return self._owned.class_names

    def user_id(self, user: UserId) -> str:
        """What the folder or table calls the user."""
        return self._owned.users[user].id

    def num_examples(self, user: UserId) -> int:
        """How many images a user has; reads no file."""
        return len(self._owned.users[user].images)

    def load(self, users: Sequence[UserId]) -> Batch:
        """All examples of some users, in the order asked for."""
        return self.load_examples(users, [np.arange(self.num_examples(user)) for user in users])

    def load_examples(self, users: Sequence[UserId], places: Sequence[np.ndarray]) -> Batch:
        """Some examples of some users: only these files are read.

        places: for each user, positions among its examples, in the order wanted.
        """
        images = [
            self._owned.users[user].images[place]
            for user, own in zip(users, places, strict=True)
            for place in own.tolist()
        ]
        pixels = np.zeros((len(images), *self._shape), np.uint8)
        for place, (name, _) in enumerate(images):
            file = self._root / name
            pixels[place] = self._picture.pixels(_content(file), str(file))
        labels = np.array([label for _, label in images], np.int64)
        return {"image": torch.from_numpy(pixels), "label": torch.from_numpy(labels)}


def folder_users(
    root: str | os.PathLike[str],
    *,
    size: Sequence[int] | None = None,
    channels: int = 3,
    split: str | None = None,
    split_file: str | None = None,
    fractions: Mapping[str, float] | None = None,
    split_seed: int | None = None,
    classes: Sequence[str | int] | None = None,
    verify: bool = True,
    privacy_unit: str | None = None,
) -> FileUsers:
    """One folder for each user: `<root>/<user>/<file>`, the label is the user, or `<root>/<user>/<class>/<file>`.

    Args: size, channels, verify: as FileUsers has them. split: the users of one split, by `split_file`
        (fedemb/data/splits.py) or by `fractions`, e.g. {train: 0.8, test: 0.2}, and `split_seed`; None for all users.
        classes: those to use; users without any are dropped before N is fixed, and counted in `left_out`.
        privacy_unit: what a user is, e.g. "a patient"; None for ONE_DIRECTORY.
    The guarantee is for the partition as it comes out of here: N and who is left out, for want of a training class, are
    taken as public, and it is not hidden whether somebody has a training class. A user's folder without an image is
    refused, so that somebody has an image is not hidden either.
    Raises: ValueError in one line if the layout is another one, a user has no image, or as FileUsers.
    """
    if root is None:
        raise ValueError("no folder to read users from: pass users.root=FOLDER (or test_users.root=FOLDER)")
    folder = Path(root)
    rule = SplitRule(split_file=split_file, fractions=fractions, split_seed=split_seed)
    images, others = list_folder(folder)
    owned = _one_split(images, folder, split, rule, classes)
    owned = replace(owned, left_out={**owned.left_out, **others})
    return FileUsers(
        folder,
        owned,
        name=folder.resolve().name,
        channels=channels,
        size=size,
        verify=verify,
        privacy_unit=ONE_DIRECTORY if privacy_unit is None else privacy_unit,
    )


def table_users(
    path: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    columns: Mapping[str, str | None] | None = None,
    size: Sequence[int] | None = None,
    channels: int = 3,
    split: str | None = None,
    split_file: str | None = None,
    fractions: Mapping[str, float] | None = None,
    split_seed: int | None = None,
    classes: Sequence[str | int] | None = None,
    verify: bool = True,
    privacy_unit: str | None = None,
) -> FileUsers:
    """Users and files as a CSV or Parquet table lists them, one row an image.

    Args: images: the folder that the table's paths start from; None for the folder that the table is in.
        columns: names of the columns, where they are not called user, path and class; without a class, the label is
        the user. privacy_unit: what a user is; None for a value of the user column. The rest as folder_users has it.
    The guarantee is for the partition as it comes out of here: N and who is left out are taken as public, and it is not
    hidden whether somebody has an image in the table, or one of a training class.
    Raises: ValueError in one line if the table cannot be read or understood, or as FileUsers.
    """
    if path is None:
        raise ValueError("no table to read users from: pass users.path=FILE (or test_users.path=FILE)")
    table = Path(path)
    rule = SplitRule(split_file=split_file, fractions=fractions, split_seed=split_seed)
    owned = _one_split(read_image_table(table, columns), table, split, rule, classes)
    root = table.parent if images is None else Path(images)
    return FileUsers(
        root,
        owned,
        name=table.stem,
        channels=channels,
        size=size,
        verify=verify,
        privacy_unit=one_value(user_column(columns)) if privacy_unit is None else privacy_unit,
    )


def _one_split(
    images: Sequence[ListedImage],
    where: Path,
    split: str | None,
    rule: SplitRule,
    classes: Sequence[str | int] | None,
) -> UserSplit:
    """The users of the split that is asked for, or all."""
    split_of = rule.split_of({image.user for image in images}, where)
    if split is not None and split_of is None:
        raise ValueError(
            f"{where}: {split=} needs a rule, e.g. split_seed=0 and fractions={{train: 0.8, test: 0.2}}, or "
            "split_file=FILE; for all users pass users.split=null (or test_users.split=null)"
        )
    if split is None and split_of is not None:
        raise ValueError(
            f"{where}: a rule needs split=, e.g. users.split=train (or test_users.split=test); for all users pass "
            "fractions=null and split_file=null for users (or test_users)"
        )
    found = user_splits(images, where, split_of=split_of or (lambda user: _ALL), classes=classes)
    wanted = _ALL if split is None else split
    if wanted not in found:
        there = ", ".join(found) or "none"
        raise ValueError(f"{where} has no user in split {wanted}, there is {there}: pass another split or rule")
    return found[wanted]


def _asked_picture(channels: int, size: Sequence[int] | None, verify: bool) -> Picture:
    """How images are to be read, as far as that is known before any is."""
    if size is not None and len(size) != 2:
        raise ValueError(f"size must be [height, width], got size={list(size)}")
    if size is None and not verify:
        raise ValueError("verify=false opens no image: say which size to read them in, e.g. users.size=[224,224]")
    return Picture(channels=channels, size=None if size is None else (size[0], size[1]))


def _looked_at(root: Path, owned: UserSplit, picture: Picture) -> tuple[tuple[int, int] | None, bytes]:
    """((H, W) of all images, each decoded once, None without any; 16 bytes of digest for each, joined)."""
    names = [name for user in owned.users for name, _ in user.images]
    common: tuple[int, int] | None = None
    digests = bytearray()
    with Workers.threads(partial(_decoded, root, picture), os.cpu_count() or 1) as workers:
        for name, (own, told) in zip(names, workers.map(names), strict=True):
            digests += told
            common = own if common is None else common
            if own != common:
                raise ValueError(
                    f"{root}: {names[0]} is {common} pixels high and wide and {name} is {own}: "
                    "say which size to read them in, e.g. users.size=[224,224]"
                )
    return common, bytes(digests)


def _decoded(root: Path, picture: Picture, name: str) -> tuple[tuple[int, int], bytes]:
    """((H, W), digest) of an image that can be read."""
    file = root / name
    content = _content(file)
    _, height, width = picture.pixels(content, str(file)).shape
    return (height, width), digest(content)


def _digests_of_names(owned: UserSplit) -> bytes:
    """In place of the images': a table may list a file for several users."""
    return b"".join(digest(name.encode()) for user in owned.users for name, _ in user.images)


def _most_owners(owned: UserSplit, digests: bytes) -> int:
    """The most users of an image. digests: of all users' images, in order."""
    owners, first = Owners(), 0
    for number, user in enumerate(owned.users):
        end = first + len(user.images) * DIGEST_BYTES
        owners.add(number, digests[first:end])
        first = end
    return owners.shared()[1]


def _checksum(root: Path, owned: UserSplit, shape: tuple[int, int, int]) -> str:
    """Over what can be known without reading a file; also finds out that all are there."""
    summed = hashlib.blake2b(f"files {shape} {owned.class_names}".encode(), digest_size=16)
    for user in owned.users:
        summed.update(f"{user.id}\0{len(user.images)}\0".encode())
        for name, label in user.images:
            summed.update(f"{name}\0{_bytes_in(root / name)}\0{label}\0".encode())
    return summed.hexdigest()


def _bytes_in(file: Path) -> int:
    """The file's size, if an image may have it."""
    size = _found(file).st_size
    check_size(size, f"{file}")
    return size


def _found(file: Path) -> os.stat_result:
    """What the system knows of a file."""
    try:
        return file.stat()
    except OSError as error:
        raise ValueError(f"cannot read {file} ({error.strerror}): put it there or leave it out") from None


def _content(file: Path) -> bytes:
    _bytes_in(file)
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {file} ({error.strerror}): replace the file or leave it out") from None
