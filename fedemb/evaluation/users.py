"""Embeddings of a whole test set, a few users at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fedemb.core.types import UserId
from fedemb.data.users import UserDataset
from fedemb.evaluation.embedded import Embedded, Model, NamesUsers
from fedemb.evaluation.evaluate import embed

_IMAGES_AT_ONCE = 512  # in one forward pass; and, one user aside, in memory


def embed_users(forward: Callable[[Tensor], Tensor], users: UserDataset, device: torch.device) -> tuple[Tensor, Tensor]:
    """All images of all users: (unit embeddings [n, D], labels [n]), both on the device.

    forward: images [b, Ch, H, W] uint8 on the device -> embeddings [b, D].
    """
    labels: list[Tensor] = []

    def images() -> Iterator[Tensor]:
        for group in _groups(users):
            batch = users.load(group)
            labels.append(batch["label"].to(device))
            yield from torch.split(batch["image"].to(device), _IMAGES_AT_ONCE)

    embeddings = embed(forward, images())
    return embeddings, torch.cat(labels)


def embedded_users(forward: Callable[[Tensor], Tensor], users: UserDataset, device: torch.device) -> Embedded:
    """The same with all that measures may ask for. forward: as for `embed_users`."""
    embeddings, labels = embed_users(forward, users, device)
    counts = torch.tensor([users.num_examples(user) for user in range(users.num_users)])
    channels, height, width = users.load([0])["image"].shape[1:]
    return Embedded(
        embeddings=embeddings,
        labels=labels,
        owners=torch.repeat_interleave(torch.arange(users.num_users), counts).to(device),
        user_name=users.user_id if isinstance(users, NamesUsers) else None,
        model=Model(forward=forward, image_shape=(channels, height, width), device=device),
    )


def _groups(users: UserDataset) -> Iterator[list[UserId]]:
    """All users in order, as many at a time as have _IMAGES_AT_ONCE images together, and at least one."""
    group, images = list[UserId](), 0
    for user in range(users.num_users):
        count = users.num_examples(user)
        if group and images + count > _IMAGES_AT_ONCE:
            yield group
            group, images = [], 0
        group.append(user)
        images += count
    yield group
