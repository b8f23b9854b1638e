"""Classification with labels that mean the same for all users: the whole model is shared, nothing stays on a client.

Shapes: B images, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedemb.core.types import Batch, Params
from fedemb.models.functional import call, fresh_params, refuse_buffers
from fedemb.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class ClassificationTask(Task):
    """FedAvg's task (McMahan et al. 2017, arXiv:1602.05629).

    model: images [B, Ch, H, W] -> logits [B, K]; parameters only, no buffers.
    """

    model: nn.Module

    def __post_init__(self) -> None:
        refuse_buffers(self.model)

    def init(self, seed: int) -> Params:
        """The model's parameters."""
        return fresh_params(self.model, seed)

    def is_shared(self, name: str) -> bool:
        """All of them."""
        return True

    def init_local(self, seed: int) -> Params:
        """None."""
        return {}

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Softmax cross-entropy, averaged over real examples.

        batch: "image" [B, Ch, H, W] float, "label" [B] in 0 .. K-1, "mask" [B].
        """
        losses = cross_entropy(call(self.model, params, batch["image"]), batch["label"], reduction="none")
        return (losses * batch["mask"]).sum() / batch["mask"].sum().clamp(min=1.0)
