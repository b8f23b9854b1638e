"""Images computed from the user's number: nothing to download, for tests and for trying things out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from fedemb.core import check
from fedemb.core.rng import generator
from fedemb.core.types import Batch, UserId
from fedemb.data.users import UserDataset

_CELL = 4  # pixels a side of the blocks that a class is drawn with
_SHIFT = 1  # pixels that an example may be displaced by
_INK, _PAPER, _NOISE = 200, 30, 20  # grey levels of 255; the noise is a standard deviation


class SyntheticUsers(UserDataset):
    """Users whose images show a block pattern for each class, displaced and with pixel noise."""

    privacy_unit = "a made-up user of computed images (no person)"

    def __init__(
        self,
        *,
        num_users: int,
        examples_per_user: int,
        classes: int,
        seed: int,
        min_examples: int | None = None,
        labels_per_user: int = 1,
        image_shape: Sequence[int] = (1, 28, 28),
    ) -> None:
        """Nothing is computed before it is asked for.

        examples_per_user: images of each user, or at most so many where `min_examples` is given.
        classes: labels 0 .. classes-1. User u shows u * labels_per_user + (0 .. labels_per_user-1), modulo classes,
            in turn; with classes = num_users a user is one identity.
        seed: another seed gives other patterns for the classes and other images.
        min_examples: if given, a user has a uniform number of images from here (0 is allowed) to examples_per_user.
        image_shape: (Ch, H, W).
        """
        check.at_least("num_users", num_users, 1)
        check.at_least("examples_per_user", examples_per_user, 0)
        check.at_least("classes", classes, 1)
        check.at_least("labels_per_user", labels_per_user, 1)
        fewest = examples_per_user if min_examples is None else min_examples
        check.at_least("min_examples", fewest, 0)
        if fewest > examples_per_user:
            raise ValueError(f"min_examples must be at most {examples_per_user=}, got {min_examples=}")
        self._num_users, self._classes, self._seed = num_users, classes, seed
        self._fewest, self._most, self._labels_per_user = fewest, examples_per_user, labels_per_user
        self._shape = tuple(int(side) for side in image_shape)

    @property
    def name(self) -> str:
        """The data set's name in a report."""
        return "synthetic"

    @property
    def num_users(self) -> int:
        """N."""
        return self._num_users

    @property
    def num_examples_total(self) -> int:
        """Images of all users; takes a pass over them only where they differ."""
        if self._fewest == self._most:
            return self._num_users * self._most
        return sum(self.num_examples(user) for user in range(self._num_users))

    @property
    def checksum(self) -> str:
        """Digest of the settings that the images follow from."""
        settings = (self._num_users, self._fewest, self._most, self._classes, self._labels_per_user, self._shape)
        return hashlib.blake2b(f"{settings} {self._seed}".encode(), digest_size=16).hexdigest()

    def num_examples(self, user: UserId) -> int:
        """How many images a user has."""
        if not 0 <= user < self._num_users:
            raise ValueError(f"user must lie in 0 .. {self._num_users - 1}, got {user=}")
        return int(generator(self._seed, "synthetic examples", user).integers(self._fewest, self._most + 1))

    def load(self, users: Sequence[UserId]) -> Batch:
        """All examples of some users, in the order asked for."""
        labels = [self._labels(user) for user in users]
        images = [self._images(user, label) for user, label in zip(users, labels, strict=True)]
        return {
            "image": torch.from_numpy(np.concatenate([np.zeros((0, *self._shape), np.uint8), *images])),
            "label": torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *labels])),
        }

    def _labels(self, user: UserId) -> np.ndarray:
        """[n] int64."""
        in_turn = np.arange(self.num_examples(user)) % self._labels_per_user
        return (user * self._labels_per_user + in_turn) % self._classes

    def _images(self, user: UserId, labels: np.ndarray) -> np.ndarray:
        """[n, Ch, H, W] uint8."""
        rng = generator(self._seed, "synthetic images", user)
        patterns = {int(label): self._pattern(int(label)) for label in np.unique(labels)}
        shifts = rng.integers(-_SHIFT, _SHIFT + 1, size=(len(labels), 2)).tolist()
        drawn = [np.roll(patterns[int(c)], shift, (1, 2)) for c, shift in zip(labels, shifts, strict=True)]
        noise = rng.normal(0.0, _NOISE, size=(len(labels), *self._shape))
        return np.clip(np.rint(np.reshape(drawn, noise.shape) + noise), 0, 255).astype(np.uint8)

    def _pattern(self, label: int) -> np.ndarray:
        """[Ch, H, W]: a coarse random grid of ink and paper."""
        channels, height, width = self._shape
        coarse = (channels, -(-height // _CELL), -(-width // _CELL))
        ink = generator(self._seed, "synthetic pattern", label).random(coarse) < 0.5
        fine = np.where(ink, _INK, _PAPER).repeat(_CELL, axis=1).repeat(_CELL, axis=2)
        return fine[:, :height, :width]
