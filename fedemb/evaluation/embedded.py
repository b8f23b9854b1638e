"""A test set as a model sees it, and what measures it.

Shapes: n images, D embedding width, Ch x H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fedemb.core.types import UserId

Metrics = dict[str, float | None]
"""Name -> value; None where there is nothing to measure."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """What embeds images that are not the test users'. forward: [b, Ch, H, W] uint8 -> [b, D], on the device."""

    forward: Callable[[Tensor], Tensor]
    image_shape: tuple[int, int, int]
    device: torch.device


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """All images of all test users.

    embeddings: [n, D] float32, rows of length 1 or 0.
    labels: [n] integer identities or classes.
    owners: [n] int64, the user that an image belongs to, ascending.
    user_name: what the data set calls a user; None where it has no names.
    model: embeds other images; None where there is none, as for embeddings that were read from a file.
    """

    embeddings: Tensor
    labels: Tensor
    owners: Tensor
    user_name: Callable[[UserId], str] | None = None
    model: Model | None = None

    def __post_init__(self) -> None:
        images = len(self.embeddings)
        if self.labels.shape != (images,) or self.owners.shape != (images,):
            raise ValueError(
                f"labels and owners must be [{images}], one for each embedding, "
                f"got {list(self.labels.shape)} and {list(self.owners.shape)}"
            )

    @classmethod
    def of_identities(cls, embeddings: Tensor, labels: Tensor) -> Embedded:
        """Images alone: every identity is a user of its own."""
        return cls(embeddings=embeddings, labels=labels, owners=labels)

    def subset(self, chosen: Tensor) -> Embedded:
        """Some of the images. chosen: [n] bool."""
        return Embedded(
            embeddings=self.embeddings[chosen],
            labels=self.labels[chosen],
            owners=self.owners[chosen],
            user_name=self.user_name,
            model=self.model,
        )

    def user_names(self) -> dict[UserId, str]:
        """Of all users with an image; none where the data set has no names."""
        if self.user_name is None:
            return {}
        return {user: self.user_name(user) for user in torch.unique(self.owners).tolist()}


@runtime_checkable
class NamesUsers(Protocol):
    """Has names for its users; a UserDataset may."""

    def user_id(self, user: UserId) -> str:
        """A user's name."""


class Measure(Protocol):
    """Measures a finished model."""

    @property
    def test_users_only(self) -> bool:
        """Are its metrics functions of the test users' images alone? Otherwise it brings images of its own."""

    def metrics(self, test: Embedded) -> Metrics:
        """By name; every value is exact, or says in its documentation what was drawn at random."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Several measures, one after the other. measures: any names, for the settings alone; their order is kept."""

    measures: Mapping[str, Measure]

    @property
    def test_users_only(self) -> bool:
        """Of all measures."""
        return all(measure.test_users_only for measure in self.measures.values())

    def metrics(self, test: Embedded) -> Metrics:
        """Those of all measures. Raises: ValueError if two measures call something by one name."""
        found: Metrics = {}
        for name, measure in self.measures.items():
            own = measure.metrics(test)
            if again := sorted(found.keys() & own.keys()):
                raise ValueError(f"evaluation.measures.{name} measures {again[0]} again: leave one of the two out")
            found |= own
        return found


def ratio(part: float, whole: float) -> float | None:
    """part / whole; None of nothing."""
    return part / whole if whole else None


def class_positions(labels: Tensor, *, at_least: int) -> Sequence[Tensor]:
    """Positions of the images of each class that has enough, in order of label."""
    order = torch.argsort(labels, stable=True)
    sizes = torch.unique_consecutive(labels[order], return_counts=True)[1]
    return [places for places in torch.split(order, sizes.tolist()) if len(places) >= at_least]
