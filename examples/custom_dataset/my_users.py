"""A data set that is not fedemb's: one .npz file a person, with an array photos [n, H, W, 3] uint8."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fedemb.core.types import Batch, UserId
from fedemb.data.users import UserDataset


class MyUsers(UserDataset):
    """One person, one user, one identity."""

    privacy_unit = "a person with an album"

    def __init__(self, root: str, split: str = "train") -> None:
        """Looks into every file now: an error in a round would tell who was drawn."""
        self._files = sorted(Path(root, split).glob("*.npz"))
        if not self._files:
            raise ValueError(f"no .npz file in {Path(root, split)}: run 'python make_albums.py {root}'")
        self._counts = [len(_photos(file)) for file in self._files]
        self._empty = torch.from_numpy(_photos(self._files[0])[:0]).movedim(3, 1)  # [0, 3, H, W]

    @property
    def num_users(self) -> int:
        """How many people there are."""
        return len(self._files)

    def num_examples(self, user: UserId) -> int:
        """How many photographs a person has."""
        return self._counts[user]

    def load(self, users: Sequence[UserId]) -> Batch:
        """All photographs of some people, person by person; the label says who it is."""
        albums = [torch.from_numpy(_photos(self._files[user])).movedim(3, 1) for user in users]
        labels = [label for user, album in zip(users, albums, strict=True) for label in [user] * len(album)]
        return {"image": torch.cat([self._empty, *albums]), "label": torch.tensor(labels, dtype=torch.int64)}


def _photos(file: Path) -> np.ndarray:
    """[n, H, W, 3]; a pickle is never opened."""
    with np.load(file, allow_pickle=False) as arrays:
        return arrays["photos"]
