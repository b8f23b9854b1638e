"""A virtual client to padded minibatches.

Shapes: n examples of a client, B batch size, S = ceil(n / B) local steps, m clients.
A padded example has mask 0, a zero image, label 0 and "classes" 1, so that its loss is finite before the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedemb.core import check
from fedemb.core.rng import generator
from fedemb.core.types import Batch, VirtualClient
from fedemb.data.transforms import Transform
from fedemb.data.users import LoadsExamples, UserDataset

_PADDING = {"classes": 1}  # the other names are padded with 0


@dataclass(frozen=True, kw_only=True)
class Batcher:
    """Reads a virtual client's users and cuts their mixed examples into minibatches.

    epochs: E passes over the examples, each shuffled anew.
    max_examples: the E passes together are cut off after so many examples; None for no limit.
    max_examples_per_user: a user brings at most so many examples, chosen by the client's seed; None for no limit.
        Both limits are public rules and hold for every client alike.
    transform: applied once to all n examples of the client.
    """

    users: UserDataset
    batch_size: int
    epochs: int = 1
    max_examples: int | None = None
    max_examples_per_user: int | None = None
    transform: Transform

    def __post_init__(self) -> None:
        check.at_least("batch_size", self.batch_size, 1)
        check.at_least("epochs", self.epochs, 1)
        if self.max_examples is not None:
            check.at_least("max_examples", self.max_examples, 1)
        if self.max_examples_per_user is not None:
            check.at_least("max_examples_per_user", self.max_examples_per_user, 1)

    def load(self, client: VirtualClient) -> Batch:
        """All local steps of one virtual client; a pure function of the client and the data.

        Returns: "image" [S, B, Ch, H, W], "label" [S, B] int64, "mask" [S, B] float32 and what the transform adds;
            S = 0 for a client without examples.
        """
        counts = [self.users.num_examples(user) for user in client.users]
        batch = self._examples(client, counts, self._order(client, counts))
        batch["mask"] = torch.ones(len(batch["label"]))
        return _cut(self.transform(batch, generator(client.seed, "transform")), self.batch_size)

    def num_examples(self, client: VirtualClient) -> int:
        """How many examples `load` returns, each as often as it is trained on; none is read."""
        counts = [self.users.num_examples(user) for user in client.users]
        if self.max_examples_per_user is not None:
            counts = [min(count, self.max_examples_per_user) for count in counts]
        examples = self.epochs * sum(counts)
        return examples if self.max_examples is None else min(examples, self.max_examples)

    def _order(self, client: VirtualClient, counts: Sequence[int]) -> np.ndarray:
        """Positions [n] among the examples of all the client's users, in the order they are trained on."""
        kept = self._kept(client, counts)
        rng = generator(client.seed, "batches")
        stream = np.concatenate([rng.permutation(kept) for _ in range(self.epochs)])
        return stream[: self.max_examples]

    def _kept(self, client: VirtualClient, counts: Sequence[int]) -> np.ndarray:
        """Positions of the examples that the per-user limit lets through."""
        if self.max_examples_per_user is None:
            return np.arange(sum(counts))
        rng = generator(client.seed, "examples per user")
        starts = np.cumsum([0, *counts])[:-1]
        chosen = [
            start + rng.permutation(count)[: self.max_examples_per_user]
            for start, count in zip(starts, counts, strict=True)
        ]
        return np.concatenate([np.arange(0), *chosen])

    def _examples(self, client: VirtualClient, counts: Sequence[int], order: np.ndarray) -> Batch:
        """The examples at some positions; where the data set can, no others are read."""
        needed, expected = np.unique(order), sum(counts)
        if len(needed) < expected and isinstance(self.users, LoadsExamples):
            ends = np.cumsum(counts)
            parts = np.split(needed, np.searchsorted(needed, ends[:-1]))
            places = [part - (end - count) for part, end, count in zip(parts, ends, counts, strict=True)]
            loaded, order = self.users.load_examples(client.users, places), np.searchsorted(needed, order)
            expected = len(needed)
        else:
            loaded = self.users.load(client.users)
        _check_examples(loaded, expected)
        order_n = torch.from_numpy(order)
        return {name: value.index_select(0, order_n) for name, value in loaded.items()}


def _check_examples(loaded: Batch, expected: int) -> None:
    """Raise ValueError if a data set gives something else than it says."""
    if missing := {"image", "label"} - loaded.keys():
        raise ValueError(
            f"a data set's load gives 'image' and 'label', got {sorted(loaded)}: {missing.pop()} is missing"
        )
    counts = {name: len(value) for name, value in loaded.items()}
    if set(counts.values()) != {expected}:
        raise ValueError(f"a data set's num_examples and load disagree: {expected} examples said, loaded {counts}")


def pad_steps(batches: Sequence[Batch]) -> Batch:
    """m >= 1 clients of [S, B, ...] with any S to one batch [m, max S, B, ...]; the added steps have mask 0.

    In memory the clients lie side by side within an image's place, [max S, B, m, ...], as joint kernels want them.
    """
    if not batches:
        raise ValueError("pad_steps needs at least one client, got an empty list")
    steps = max(len(batch["mask"]) for batch in batches)
    return {
        name: torch.stack([_lengthen(name, batch[name], steps) for batch in batches], dim=2).movedim(2, 0)
        for name in batches[0]
    }


def _cut(batch: Batch, batch_size: int) -> Batch:
    """[n, ...] to [S, B, ...], the last step padded."""
    steps = -(-len(batch["mask"]) // batch_size)
    return {
        name: _lengthen(name, value, steps * batch_size).reshape(steps, batch_size, *value.shape[1:])
        for name, value in batch.items()
    }


def _lengthen(name: str, value: Tensor, length: int) -> Tensor:
    """[n, ...] to [length, ...] by padding at the end."""
    missing = length - len(value)
    return torch.cat([value, value.new_full((missing, *value.shape[1:]), _PADDING.get(name, 0))]) if missing else value
