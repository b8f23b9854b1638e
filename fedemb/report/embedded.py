"""Test images and where models put them: for ROC, neighbours and the map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedemb.core.types import UserId
from fedemb.data.users import UserDataset
from fedemb.evaluation.evaluate import embed

_AT_ONCE = 512  # images in one forward pass


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """n images of some test users.

    label: whose model it is. embeddings: [n, D] unit rows. labels: [n] identities. owners: user of each image and
    its place among the user's images, so that `users` can load it again. total: images of all test users.
    """

    label: str
    embeddings: Tensor
    labels: Tensor
    owners: Sequence[tuple[UserId, int]]
    users: UserDataset
    total: int

    def image(self, index: int) -> np.ndarray:
        """[Ch, H, W] uint8."""
        user, place = self.owners[index]
        pixels: np.ndarray = self.users.load([user])["image"][place].numpy()
        return pixels


def embedded(
    models: Mapping[str, Callable[[Tensor], Tensor]], users: UserDataset, device: torch.device, *, most_images: int
) -> list[Embedded]:
    """Embed test users by every model: all, or if they have more images, as many as fit, evenly spread.

    models: label -> images [B, Ch, H, W] uint8 to embeddings [B, D]. Every image is loaded once.
    Raises: ValueError where no user has an image.
    """
    counts = [users.num_examples(user) for user in range(users.num_users)]
    total = sum(counts)
    if total == 0:
        raise ValueError("the test users have no images")
    every = max(1, -(-total // most_images))
    chosen = [user for user in range(0, users.num_users, every) if counts[user]] or [int(np.argmax(counts))]
    labels: list[Tensor] = []

    def images() -> Iterator[Tensor]:
        for user in chosen:
            batch = users.load([user])
            labels.append(batch["label"])
            yield from torch.split(batch["image"].to(device), _AT_ONCE)

    rows: dict[str, list[Tensor]] = {label: [] for label in models}
    for batch in _joined(images()):
        for label, model in models.items():
            rows[label].append(embed(model, [batch]).cpu())
    owners = [(user, place) for user in chosen for place in range(counts[user])]
    return [
        Embedded(
            label=label,
            embeddings=torch.cat(parts),
            labels=torch.cat(labels),
            owners=owners,
            users=users,
            total=total,
        )
        for label, parts in rows.items()
    ]


def _joined(images: Iterator[Tensor]) -> Iterator[Tensor]:
    """The same images in fewer, larger batches."""
    held: list[Tensor] = []
    for batch in images:
        if held and sum(map(len, held)) + len(batch) > _AT_ONCE:
            yield torch.cat(held)
            held = []
        held.append(batch)
    if held:
        yield torch.cat(held)
