"""Classification heads that live and die on the client. Shapes: B images, D embedding width, K local classes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fedemb.core import check
from fedemb.core.types import Params


class Head(ABC):
    """embedding -> logits."""

    @abstractmethod
    def init(self, classes: int, width: int, stream: np.random.Generator) -> Params:
        """Fresh parameters for K classes and width D; names start with "head."."""

    @abstractmethod
    def logits(self, params: Params, embedding: Tensor) -> Tensor:
        """[B, D] -> [B, K]."""


def glorot(rows: int, columns: int, stream: np.random.Generator) -> Tensor:
    """Uniform weights [rows, columns] in +-sqrt(6 / (rows + columns)) (Glorot and Bengio 2010, Eq. 16)."""
    bound = math.sqrt(6.0 / (rows + columns))
    return torch.from_numpy(stream.uniform(-bound, bound, size=(rows, columns)).astype(np.float32))


def cosines(embedding: Tensor, weight: Tensor) -> Tensor:
    """Between every embedding [B, D] and every row [K, D]: [B, K]."""
    return normalize(embedding, dim=-1) @ normalize(weight, dim=-1).T


@dataclass(frozen=True, kw_only=True)
class SoftmaxHead(Head):
    """Linear without bias."""

    def init(self, classes: int, width: int, stream: np.random.Generator) -> Params:
        """{"head.weight": [K, D]}."""
        return {"head.weight": glorot(classes, width, stream)}

    def logits(self, params: Params, embedding: Tensor) -> Tensor:
        """[B, D] -> [B, K]."""
        return embedding @ params["head.weight"].T


@dataclass(frozen=True, kw_only=True)
class CosineHead(Head):
    """Cosines between unit embeddings and unit rows, times a trained scale (Xu et al. 2023; NormFace, 1704.06369)."""

    initial_scale: float = 1.0

    def __post_init__(self) -> None:
        check.positive("initial_scale", self.initial_scale)

    def init(self, classes: int, width: int, stream: np.random.Generator) -> Params:
        """{"head.weight": [K, D], "head.scale": []}."""
        return {"head.weight": glorot(classes, width, stream), "head.scale": torch.tensor(self.initial_scale)}

    def logits(self, params: Params, embedding: Tensor) -> Tensor:
        """[B, D] -> [B, K], each within +-scale."""
        return params["head.scale"] * cosines(embedding, params["head.weight"])


@dataclass(frozen=True, kw_only=True)
class FixedCosineHead(Head):
    """Cosines times a scale that is a setting (CosFace without margin, Wang et al. 2018, arXiv:1801.09414)."""

    scale: float

    def __post_init__(self) -> None:
        check.positive("scale", self.scale)

    def init(self, classes: int, width: int, stream: np.random.Generator) -> Params:
        """{"head.weight": [K, D]}."""
        return {"head.weight": glorot(classes, width, stream)}

    def logits(self, params: Params, embedding: Tensor) -> Tensor:
        """[B, D] -> [B, K], each within +-scale."""
        return self.scale * cosines(embedding, params["head.weight"])
