"""Verification over all pairs and leave-one-out retrieval, as measures of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fedemb.core import check
from fedemb.evaluation.embedded import Embedded, Metrics
from fedemb.evaluation.retrieval import retrieve
from fedemb.evaluation.verification import verify


@dataclass(frozen=True, kw_only=True)
class AllPairs:
    """Verification over all pairs: `recall@far=<far>`, `auc`, `eer`.

    fars: false accept rates in [0, 1). block_size: b; memory is about 4 b² similarities.
    """

    fars: Sequence[float]
    block_size: int = 1024
    test_users_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for far in self.fars:
            check.fraction("far", far)
        check.at_least("block_size", self.block_size, 1)

    def metrics(self, test: Embedded) -> Metrics:
        """Exact; see `verify`."""
        found = verify(test.embeddings, test.labels, fars=self.fars, block_size=self.block_size)
        recalls = {f"recall@far={far:g}": recall for far, recall in zip(self.fars, found.recalls, strict=True)}
        return {**recalls, "auc": found.auc, "eer": found.eer}


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut:
    """Every image asks for the others of its identity: `recall@<k>`, `map@r`.

    ks: cut-offs, each at least 1. block_size: b; 16 b² similarities are held.
    """

    ks: Sequence[int]
    block_size: int = 1024
    test_users_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for k in self.ks:
            check.at_least("k", k, 1)
        check.at_least("block_size", self.block_size, 1)

    def metrics(self, test: Embedded) -> Metrics:
        """Exact; see `retrieve`."""
        found = retrieve(test.embeddings, test.labels, ks=self.ks, block_size=self.block_size)
        recalls = {f"recall@{k}": recall for k, recall in zip(self.ks, found.recalls, strict=True)}
        return {**recalls, "map@r": found.map_at_r}
