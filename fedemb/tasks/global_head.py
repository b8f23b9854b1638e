"""The baselines' task: backbone and one head over all classes, both shared, clipped and noised.

Shapes: B images, D embedding width, K classes, Ch x H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedemb.core import check
from fedemb.core.params import merge, split
from fedemb.core.rng import generator
from fedemb.core.types import Batch, Params
from fedemb.models.functional import call, fresh_params
from fedemb.tasks.backbone import HEAD, check_backbone, is_trained
from fedemb.tasks.heads import Head
from fedemb.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class GlobalHeadTask(Task):
    """Identity classification over all classes of the data set (McMahan et al. 2017, arXiv:1602.05629).

    Where classes are users, rows of the head are about single users: it is trained under the same guarantee as the
    backbone, and it is dropped from the exported model.
    backbone: images [B, Ch, H, W] -> [B, D]; parameters only, no buffers.
    classes: K >= 2, rows of the head; a public constant.
    trained: name patterns (* and ?) of the backbone parameters that are trained, but for those that are
    frozen: name patterns of backbone parameters that stay at their start.
    """

    backbone: nn.Module
    head: Head
    embedding_width: int
    classes: int
    trained: Sequence[str] = ("*",)
    frozen: Sequence[str] = ()

    def __post_init__(self) -> None:
        check.at_least("embedding_width", self.embedding_width, 1)
        check.at_least("classes", self.classes, 2)
        check_backbone(self.backbone, self.trained, self.frozen)

    def init(self, seed: int) -> Params:
        """The backbone's parameters and the head's."""
        head = self.head.init(self.classes, self.embedding_width, generator(seed, "head"))
        return merge(fresh_params(self.backbone, seed), head)

    def is_shared(self, name: str) -> bool:
        """The head, and every backbone parameter that is trained and not frozen."""
        return name.startswith(HEAD) or is_trained(name, self.trained, self.frozen)

    def init_local(self, seed: int) -> Params:
        """None."""
        return {}

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Softmax cross-entropy over all classes, averaged over real examples.

        batch: "image" [B, Ch, H, W] float, "label" [B] in 0 .. K-1, "mask" [B].
        """
        head, backbone = split(params, lambda name: name.startswith(HEAD))
        logits = self.head.logits(head, call(self.backbone, backbone, batch["image"]))
        losses = cross_entropy(logits, batch["label"], reduction="none")
        return (losses * batch["mask"]).sum() / batch["mask"].sum().clamp(min=1.0)
