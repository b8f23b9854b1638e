"""All pairs of images, a block at a time.

Shapes: n images, D embedding width, b block_size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fedemb.core import check


def unit_rows(embeddings: Tensor) -> Tensor:
    """Scale every row to length 1, as float32.

    Args: embeddings: [n, D] of any float type.
    Returns: [n, D] float32. A zero row, and a row with a NaN or an infinity, becomes the zero row: its similarity
        to every image is 0, so that a broken embedding resembles nothing instead of stopping the evaluation.
    """
    rows = embeddings.float()
    largest = rows.abs().amax(dim=1, keepdim=True) if rows.shape[1] else rows.new_zeros(len(rows), 1)
    usable = torch.isfinite(rows).all(dim=1, keepdim=True) & (largest > 0)
    scaled = torch.where(usable, rows / torch.where(usable, largest, 1.0), 0.0)  # no overflow in the norm
    length = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return scaled / torch.where(usable, length, 1.0)


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Unit embeddings, sorted by identity so that same-identity pairs lie near the diagonal.

    embeddings: [n, D] float32, rows of length 1 or 0.
    labels: [n] integers, ascending.
    """

    embeddings: Tensor
    labels: Tensor

    @classmethod
    def of(cls, embeddings: Tensor, labels: Tensor) -> Gallery:
        """Normalise and sort; raises ValueError unless embeddings are [n, D] floats and labels [n] integers."""
        if embeddings.ndim != 2 or not embeddings.is_floating_point():
            raise ValueError(f"embeddings must be floats [n, D], got {embeddings.dtype} {list(embeddings.shape)}")
        if labels.shape != embeddings.shape[:1] or labels.is_floating_point():
            raise ValueError(
                f"labels must be integers [{len(embeddings)}], one for each embedding, "
                f"got {labels.dtype} {list(labels.shape)}"
            )
        ascending, order = torch.sort(labels.to(embeddings.device), stable=True)
        return cls(embeddings=unit_rows(embeddings.detach())[order], labels=ascending)

    def identity_sizes(self) -> Tensor:
        """[number of identities]: images of each, in order of label."""
        sizes: Tensor = torch.unique_consecutive(self.labels, return_counts=True)[1]
        return sizes

    def pair_totals(self) -> tuple[int, int]:
        """(same-identity pairs, different-identity pairs)."""
        sizes, images = self.identity_sizes(), len(self.labels)
        same = int((sizes * (sizes - 1)).sum()) // 2
        return same, images * (images - 1) // 2 - same


@dataclass(frozen=True, kw_only=True)
class PairBlocks:
    """Similarities of the n(n-1)/2 unordered pairs; holds b² of them at a time.

    A similarity is the float32 cosine, clipped to [-1, 1]. Two passes over the same object see the same bits: the
    products have the same shapes and operands. Matrix products follow torch's float32 precision setting.
    """

    gallery: Gallery
    block_size: int

    def __post_init__(self) -> None:
        check.at_least("block_size", self.block_size, 1)

    @property
    def fit_one_block(self) -> bool:
        """Is there a single block?"""
        return len(self.gallery.labels) <= self.block_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (similarities of all pairs of the block [p], those of its same-identity pairs [q]).

        The first is a buffer: valid until the next block.
        """
        rows, labels, size = self.gallery.embeddings, self.gallery.labels, self.block_size
        buffer = rows.new_empty(min(size, len(rows)) ** 2)
        for start in range(0, len(rows), size):
            left, left_labels = rows[start : start + size], labels[start : start + size]
            last_label = left_labels[-1]
            for other in range(start, len(rows), size):
                right, right_labels = rows[other : other + size], labels[other : other + size]
                block = buffer[: len(left) * len(right)].view(len(left), len(right))
                torch.mm(left, right.T, out=block).clamp_(-1.0, 1.0)
                similarities = block.view(-1)
                if right_labels[0] > last_label:  # sorted by identity: nothing in common
                    yield similarities, similarities[:0]
                    continue
                same = left_labels[:, None] == right_labels[None, :]
                if other == start:
                    above = torch.ones_like(same).triu(diagonal=1)
                    yield block[above], block[same & above]
                else:
                    yield similarities, block[same]
