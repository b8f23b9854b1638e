"""User-partitioned data: the interface, and data sets that live in memory.

Shapes: n images of the users asked for, H x W pixels, Ch channels.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import torch

from fedemb.core import check
from fedemb.core.types import Batch, UserId


class UserDataset(ABC):
    """Images grouped by the person they belong to. Users are numbered 0 .. num_users - 1."""

    unit: ClassVar[str] = "user"
    """The level of the guarantee: "user", or "example" where every image is a user of its own."""

    privacy_unit: str = "whoever the data set calls one"
    """What the guarantee protects: a noun phrase that completes "a user is …", e.g. "a writer"."""

    trainable: bool = True
    """False where a user is nobody by construction, e.g. a block of test images: such users are to measure on."""

    @property
    @abstractmethod
    def num_users(self) -> int:
        """N, a public number, fixed before training."""

    @abstractmethod
    def num_examples(self, user: UserId) -> int:
        """How many images a user has; 0 is allowed and keeps the user's slot."""

    @abstractmethod
    def load(self, users: Sequence[UserId]) -> Batch:
        """All examples of some users, in the order asked for.

        Called from several threads at once, or in processes that hold a pickled copy, if prefetching is set so.
        Returns: "image" [n, Ch, H, W] uint8 and "label" [n] int64 (identity or class, numbered over the data set);
            n = 0 is allowed, with the same trailing shape.
        Raises: ValueError in one line if a record is missing or fails its checksum.
        """


@runtime_checkable
class Described(Protocol):
    """What a report says about a data set; a UserDataset may have it."""

    @property
    def name(self) -> str:
        """The data set's name."""

    @property
    def num_users(self) -> int:
        """N."""

    @property
    def num_examples_total(self) -> int:
        """Images of all users."""

    @property
    def checksum(self) -> str:
        """A digest that changes with the data."""


def digest_of(users: UserDataset) -> str:
    """The same for the same data, and as far as the data set tells, for no other: processes compare it."""
    return f"{users.num_users} {users.checksum if isinstance(users, Described) else ''}"


@runtime_checkable
class Traced(Protocol):
    """Says where its images lie; a UserDataset of files may have it."""

    @property
    def traces(self) -> frozenset[str]:
        """Names of the files or stores: two data sets that have one in common have images in common."""


@runtime_checkable
class Digested(Protocol):
    """Knows its images by their bytes without decoding them again; a UserDataset may have it."""

    def image_digests(self) -> Iterator[bytes]:
        """Of each image's bytes as they are kept (fedemb/data/record.py); none where they have not been read."""


def share_images(first: UserDataset, second: UserDataset) -> bool:
    """Do both hold some of the same images, as far as they tell? By their traces, checksums or images' bytes.

    An image that was encoded or scaled anew has other bytes and is not recognised. second: the smaller one.
    """
    if isinstance(first, Traced) and isinstance(second, Traced) and first.traces & second.traces:
        return True
    if isinstance(first, Described) and isinstance(second, Described) and first.checksum == second.checksum:
        return True
    if not isinstance(first, Digested) or not isinstance(second, Digested):
        return False
    known = set(second.image_digests())
    return bool(known) and any(digest in known for digest in first.image_digests())


@runtime_checkable
class LoadsExamples(Protocol):
    """Reads some of a user's examples without the others; a UserDataset whose users are large may have it."""

    def load_examples(self, users: Sequence[UserId], places: Sequence[np.ndarray]) -> Batch:
        """Some examples of distinct users, in the order asked for.

        places: for each user, positions among its examples as `load` returns them.
        """


class InMemoryUsers(UserDataset):
    """Users whose examples fit in memory: one Batch a user."""

    def __init__(self, examples: Sequence[Batch]) -> None:
        """examples: per user {"image": [n, Ch, H, W] uint8, "label": [n] int64}, n may be 0.

            Other names are allowed: [n, ...], of one type.
        Raises: ValueError in one line for a user whose images or labels are of another type or shape, or who has other
            names than user 0; found out here, because an error in a round would tell who was drawn.
        """
        if not examples:
            raise ValueError("a data set needs at least one user, got an empty list")
        _check_images(examples[0])
        first = _layout(examples[0])
        for user, batch in enumerate(examples):
            if _layout(batch) != first:
                raise ValueError(
                    f"user {user} has {_words(batch)} and user 0 has {_words(examples[0])}: "
                    "give all users the same names, types and shapes"
                )
            if len({value.shape[:1] for value in batch.values()}) != 1:
                raise ValueError(f"user {user} has {_words(batch)}: each must be [n, ...] for the user's n images")
        self._examples = list(examples)

    @property
    def name(self) -> str:
        """The data set's name in a report."""
        return "in memory"

    @property
    def num_users(self) -> int:
        """N."""
        return len(self._examples)

    @property
    def num_examples_total(self) -> int:
        """Images of all users."""
        return sum(len(batch["label"]) for batch in self._examples)

    @property
    def checksum(self) -> str:
        """Digest of all users' examples."""
        digest = hashlib.blake2b(digest_size=16)
        for batch in self._examples:
            for name, value in sorted(batch.items()):
                digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
                digest.update(value.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def num_examples(self, user: UserId) -> int:
        """How many images a user has."""
        return len(self._examples[user]["label"])

    def load(self, users: Sequence[UserId]) -> Batch:
        """All examples of some users, in the order asked for."""
        none = {name: value[:0] for name, value in self._examples[0].items()}
        chosen = [none, *(self._examples[user] for user in users)]
        return {name: torch.cat([batch[name] for batch in chosen]) for name in none}


def _check_images(batch: Batch) -> None:
    """Are they [n, Ch, H, W] uint8 with labels [n] int64?"""
    kinds = {name: (value.dtype, value.ndim) for name, value in batch.items()}
    if (kinds.get("image"), kinds.get("label")) != ((torch.uint8, 4), (torch.int64, 1)):
        raise ValueError(f"user 0 has {_words(batch)}: it must be image uint8 [n, Ch, H, W] and label int64 [n]")


def _layout(batch: Batch) -> dict[str, tuple[torch.dtype, int, torch.Size]]:
    """Name -> all that must be the same for every user."""
    return {name: (value.dtype, value.ndim, value.shape[1:]) for name, value in batch.items()}


def _words(batch: Batch) -> str:
    """Names, types and shapes, for a message."""
    told = (
        f"{name} {str(value.dtype).removeprefix('torch.')} {list(value.shape)}" for name, value in sorted(batch.items())
    )
    return ", ".join(told) or "nothing"


def as_they_are(users: UserDataset) -> UserDataset:
    """The users themselves: user-level privacy."""
    return users


class ExampleAsUser(UserDataset):
    """Every image of another data set as a user of its own: example-level privacy as a special case."""

    unit = "example"
    privacy_unit = "a single image"

    def __init__(self, base: UserDataset, examples_per_user: int | None = None) -> None:
        """base: its users' numbers of examples are read once, O(num_users of base) time and memory.

        examples_per_user: a public number of slots for each user of the base: the first so many images take them, and
            slots that are left over are users without data. Another user in the place of one is then another example
            in each of so many slots, whatever both have. None: a slot for each image there is.
        An image that two users of the base own is two examples, and the guarantee is for each alone.
        """
        if examples_per_user is not None:
            check.at_least("examples_per_user", examples_per_user, 1)
        self._counts = np.array([base.num_examples(user) for user in range(base.num_users)], dtype=np.int64)
        slots = self._counts if examples_per_user is None else np.full_like(self._counts, examples_per_user)
        self._base, self._ends, self.examples_per_user = base, np.cumsum(slots), examples_per_user
        if self.num_users == 0:
            raise ValueError("example-level privacy needs at least one example, got a data set without any")

    @property
    def name(self) -> str:
        """The base's."""
        return self._base.name if isinstance(self._base, Described) else type(self._base).__name__

    @property
    def num_examples_total(self) -> int:
        """How many slots are taken."""
        return int(np.minimum(self._counts, np.diff(self._ends, prepend=0)).sum())

    @property
    def checksum(self) -> str:
        """The base's; empty if it has none."""
        return self._base.checksum if isinstance(self._base, Described) else ""

    @property
    def traces(self) -> frozenset[str]:
        """The base's."""
        return self._base.traces if isinstance(self._base, Traced) else frozenset()

    def image_digests(self) -> Iterator[bytes]:
        """The base's."""
        return self._base.image_digests() if isinstance(self._base, Digested) else iter(())

    @property
    def num_users(self) -> int:
        """The number of slots."""
        return int(self._ends[-1])

    def num_examples(self, user: UserId) -> int:
        """One, or none if the slot is left over."""
        return int(self._places(np.array([user]))[2][0])

    def load(self, users: Sequence[UserId]) -> Batch:
        """The examples of the slots that hold one, in the order asked for; each user of the base is read once."""
        wanted = np.asarray(users, dtype=np.int64)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < self.num_users:
            raise ValueError(f"users must lie in 0 .. {self.num_users - 1}, got {wanted.min()} .. {wanted.max()}")
        owner, place, taken = self._places(wanted)
        owners, group = np.unique(owner[taken], return_inverse=True)
        order = np.argsort(group, kind="stable")  # owner by owner
        loaded = _some(self._base, owners.tolist(), np.split(place[taken][order], np.bincount(group).cumsum()[:-1]))
        back = torch.from_numpy(np.argsort(order))
        return {name: value[back] for name, value in loaded.items()}

    def _places(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(owner, position among the owner's examples, is there an example?) of each slot."""
        owner = np.searchsorted(self._ends, slots, side="right")
        place = slots - (self._ends - np.diff(self._ends, prepend=0))[owner]
        return owner, place, place < self._counts[owner]


def _some(base: UserDataset, users: Sequence[UserId], places: Sequence[np.ndarray]) -> Batch:
    """Examples of distinct users at their places; where the data set can, no others are read."""
    if users and isinstance(base, LoadsExamples):
        return base.load_examples(users, places)
    starts = np.cumsum([0, *(base.num_examples(user) for user in users)])
    rows = np.concatenate([np.arange(0), *(start + place for start, place in zip(starts, places, strict=False))])
    return {name: value[torch.from_numpy(rows)] for name, value in base.load(users).items()}
