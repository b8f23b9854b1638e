"""Embeddings of a whole test set, a few users at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fedemb.data.users import UserDataset
from fedemb.evaluation.evaluate import embed

_USERS_AT_ONCE = 64


def embed_users(forward: Callable[[Tensor], Tensor], users: UserDataset, device: torch.device) -> tuple[Tensor, Tensor]:
    """All images of all users: (unit embeddings [n, D], labels [n]), both on the device.

    forward: images [b, Ch, H, W] uint8 on the device -> embeddings [b, D].
    """
    labels: list[Tensor] = []

    def images() -> Iterator[Tensor]:
        for first in range(0, users.num_users, _USERS_AT_ONCE):
            batch = users.load(range(first, min(first + _USERS_AT_ONCE, users.num_users)))
            labels.append(batch["label"].to(device))
            yield batch["image"].to(device)

    embeddings = embed(forward, images())
    return embeddings, torch.cat(labels)
