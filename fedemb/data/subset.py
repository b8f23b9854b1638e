"""Some users of a data set, e.g. to choose settings on users that neither train nor test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fedemb.core import check
from fedemb.core.types import Batch, UserId
from fedemb.data.users import Described, Digested, Traced, UserDataset


class PartOfUsers(UserDataset):
    """The users whose number leaves one of the chosen remainders: parts with different ones have no user in common."""

    def __init__(self, *, of: UserDataset, parts: int, chosen: Sequence[int]) -> None:
        """of: all users. parts: how many parts there are. chosen: distinct numbers of parts, 0 .. parts - 1.

        Raises: ValueError in one line for other numbers, or if nobody is left.
        """
        check.at_least("parts", parts, 1)
        if len(set(chosen)) != len(chosen) or not all(0 <= part < parts for part in chosen):
            raise ValueError(f"chosen must be distinct numbers of 0 .. {parts - 1}, got chosen={list(chosen)}")
        self._of = of
        self._users = np.flatnonzero(np.isin(np.arange(of.num_users) % parts, list(chosen)))
        if not len(self._users):
            raise ValueError(f"no user of {of.num_users} is in part {list(chosen)} of {parts}: choose another")
        self.privacy_unit, self.trainable = of.privacy_unit, of.trainable
        self._which = f"parts {', '.join(map(str, sorted(chosen)))} of {parts}"

    @property
    def name(self) -> str:
        """The data set's, and which part."""
        return f"{self._of.name if isinstance(self._of, Described) else type(self._of).__name__}, {self._which}"

    @property
    def num_users(self) -> int:
        """How many are left."""
        return len(self._users)

    @property
    def num_examples_total(self) -> int:
        """Images of those who are left."""
        return sum(self.num_examples(user) for user in range(self.num_users))

    @property
    def checksum(self) -> str:
        """That of all users."""
        return self._of.checksum if isinstance(self._of, Described) else ""

    @property
    def traces(self) -> frozenset[str]:
        """Those of all users, who may share images."""
        return self._of.traces if isinstance(self._of, Traced) else frozenset()

    def image_digests(self) -> Iterator[bytes]:
        """Those of all users."""
        return self._of.image_digests() if isinstance(self._of, Digested) else iter(())

    def num_examples(self, user: UserId) -> int:
        """How many images a user has."""
        return self._of.num_examples(int(self._users[user]))

    def load(self, users: Sequence[UserId]) -> Batch:
        """All examples of some users, in the order asked for."""
        return self._of.load([int(self._users[user]) for user in users])
