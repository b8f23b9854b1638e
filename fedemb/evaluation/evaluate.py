"""One object that measures finished embeddings, and the loop that makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedemb.core import check
from fedemb.evaluation.embedded import Embedded, Metrics
from fedemb.evaluation.pairs import unit_rows
from fedemb.evaluation.retrieval import retrieve
from fedemb.evaluation.verification import verify


@dataclass(frozen=True, kw_only=True)
class EmbeddingEvaluation:
    """Verification over all pairs and leave-one-out retrieval.

    fars: false accept rates in [0, 1) at which recall is reported.
    ks: cut-offs of retrieval recall.
    block_size: b; memory is about 16 b² similarities, whatever the number of images.
    """

    fars: Sequence[float] = (1e-3, 1e-1)
    ks: Sequence[int] = (1, 5)
    block_size: int = 1024
    test_users_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for far in self.fars:
            check.fraction("far", far)
        for k in self.ks:
            check.at_least("k", k, 1)
        check.at_least("block_size", self.block_size, 1)

    def measure(self, embeddings: Tensor, labels: Tensor) -> Metrics:
        """Metrics by name: `recall@far=<far>`, `auc`, `recall@<k>`, `map@r`; None where there is nothing to measure.

        Args: embeddings: [n, D] floats, normalised or not. labels: [n] integer identities.
        """
        pairs = verify(embeddings, labels, fars=self.fars, block_size=self.block_size)
        search = retrieve(embeddings, labels, ks=self.ks, block_size=self.block_size)
        metrics: Metrics = {f"recall@far={far:g}": recall for far, recall in zip(self.fars, pairs.recalls, strict=True)}
        metrics["auc"] = pairs.auc
        metrics |= {f"recall@{k}": recall for k, recall in zip(self.ks, search.recalls, strict=True)}
        metrics["map@r"] = search.map_at_r
        return metrics

    def metrics(self, test: Embedded) -> Metrics:
        """The same of a test set."""
        return self.measure(test.embeddings, test.labels)


def embed(forward: Callable[[Tensor], Tensor], batches: Iterable[Tensor]) -> Tensor:
    """Unit embeddings of images, without gradients.

    Args: forward: images [B, ...] -> embeddings [B, D]. batches: image batches, B may vary.
    Returns: [n, D] float32, rows of length 1 (0 where the embedding was zero or not finite), in the order given.
    Raises: ValueError where there is no batch.
    """
    with torch.inference_mode():
        rows = [unit_rows(forward(batch)) for batch in batches]
    if not rows:
        raise ValueError("embed needs at least one batch of images, got none")
    return torch.cat(rows)
