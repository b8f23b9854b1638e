"""DP-FedEmb's task: a backbone that is shared and a softmax head that is not (Xu et al. 2023, arXiv:2211.10844).

Shapes: B images, D embedding width, K rows of the head, Ch x H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedemb.core import check
from fedemb.core.params import split
from fedemb.core.rng import generator
from fedemb.core.types import Batch, Params
from fedemb.models.functional import call, fresh_params
from fedemb.tasks.backbone import HEAD, check_backbone, is_trained
from fedemb.tasks.heads import Head
from fedemb.tasks.task import Task

_NEVER = -1e9  # logit of a class that the client does not have: finite, so that padding gives no NaN


@dataclass(frozen=True, kw_only=True)
class EmbeddingTask(Task):
    """Identity classification within a virtual client.

    backbone: images [B, Ch, H, W] -> [B, D]; parameters only, no buffers.
    local_classes: K >= 2, rows of the local head; a public constant, at least the identities of any virtual client.
    trained: name patterns (* and ?) of the backbone parameters that are trained, but for those that are
    frozen: name patterns of backbone parameters that stay at their start.
    """

    backbone: nn.Module
    head: Head
    embedding_width: int
    local_classes: int
    trained: Sequence[str] = ("*",)
    frozen: Sequence[str] = ()

    def __post_init__(self) -> None:
        check.at_least("embedding_width", self.embedding_width, 1)
        check.at_least("local_classes", self.local_classes, 1)
        if self.local_classes < 2:
            raise ValueError(
                "local_classes=1: a softmax over one class learns nothing; join more users into a virtual client "
                "(users_per_client) or, where a user holds several identities, raise local_classes"
            )
        check_backbone(self.backbone, self.trained, self.frozen)

    def init(self, seed: int) -> Params:
        """The backbone's parameters."""
        return fresh_params(self.backbone, seed)

    def is_shared(self, name: str) -> bool:
        """Every backbone parameter that is trained and not frozen."""
        return not name.startswith(HEAD) and is_trained(name, self.trained, self.frozen)

    def init_local(self, seed: int) -> Params:
        """A fresh head."""
        return self.head.init(self.local_classes, self.embedding_width, generator(seed, "head"))

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Softmax cross-entropy over the classes that the client has, averaged over real examples.

        batch: "image" [B, Ch, H, W] float, "label" [B] local classes, "classes" [B] their number, "mask" [B].
        """
        head, backbone = split(params, lambda name: name.startswith(HEAD))
        logits = self.head.logits(head, call(self.backbone, backbone, batch["image"]))
        absent = torch.arange(self.local_classes, device=logits.device) >= batch["classes"].unsqueeze(-1)
        losses = cross_entropy(logits.masked_fill(absent, _NEVER), batch["label"], reduction="none")
        return (losses * batch["mask"]).sum() / batch["mask"].sum().clamp(min=1.0)
