"""DP-FedEmb's task: a backbone that is shared and a softmax head that is not (Xu et al. 2023, arXiv:2211.10844).

Shapes: B images, D embedding width, K rows of the head, Ch x H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedemb.core import check
from fedemb.core.params import split
from fedemb.core.rng import generator
from fedemb.core.types import Batch, Params
from fedemb.models.functional import call, fresh_params, refuse_buffers
from fedemb.tasks.heads import Head
from fedemb.tasks.task import Task

_HEAD = "head."  # what the names of the local parameters start with
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
        refuse_buffers(self.backbone)
        names = [name for name, _ in self.backbone.named_parameters()]
        if clash := [name for name in names if name.startswith(_HEAD)]:
            raise ValueError(
                f"the backbone's parameter '{clash[0]}' would be taken for the local head's, which start with "
                f"'{_HEAD}'; rename the layer 'head' of {type(self.backbone).__name__}, or remove it"
            )
        for setting, patterns in (("trained", self.trained), ("frozen", self.frozen)):
            for pattern in patterns:
                if not any(fnmatchcase(name, pattern) for name in names):
                    raise ValueError(
                        f"{setting} pattern '{pattern}' matches no parameter; the backbone has {', '.join(names)}"
                    )
        if not any(self.is_shared(name) for name in names):
            only = "" if list(self.trained) == ["*"] else f" of trained={list(self.trained)}"
            raise ValueError(f"frozen={list(self.frozen)} freezes every parameter{only}: nothing is left to train")

    def check_images(self, shape: Sequence[int]) -> None:
        """Try the backbone on one black image.

        shape: (Ch, H, W) of the data's images.
        Raises: ValueError in one line if the backbone does not take them or does not give `embedding_width` numbers.
        """
        model, image = type(self.backbone).__name__, " x ".join(map(str, shape))
        with torch.no_grad(), torch.random.fork_rng(devices=[]):  # dropout draws
            try:
                embedding = self.backbone(torch.zeros(1, *shape))
            except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
                raise ValueError(
                    f"{model} does not take images of {image}: {' '.join(str(error).split())}; give the model the "
                    "data's channels and size (LeNet: model.channels, model.size) or prepare images that fit it"
                ) from error
        found = list(embedding.shape) if isinstance(embedding, Tensor) else type(embedding).__name__
        if found != [1, self.embedding_width]:
            raise ValueError(
                f"{model} turns one image of {image} into {found} and embedding_width={self.embedding_width} needs "
                f"[1, {self.embedding_width}]; set embedding_width= to the model's width or change its last layer"
            )

    def init(self, seed: int) -> Params:
        """The backbone's parameters."""
        return fresh_params(self.backbone, seed)

    def is_shared(self, name: str) -> bool:
        """Every backbone parameter that is trained and not frozen."""
        chosen = not name.startswith(_HEAD) and any(fnmatchcase(name, pattern) for pattern in self.trained)
        return chosen and not any(fnmatchcase(name, pattern) for pattern in self.frozen)

    def init_local(self, seed: int) -> Params:
        """A fresh head."""
        return self.head.init(self.local_classes, self.embedding_width, generator(seed, "head"))

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Softmax cross-entropy over the classes that the client has, averaged over real examples.

        batch: "image" [B, Ch, H, W] float, "label" [B] local classes, "classes" [B] their number, "mask" [B].
        """
        head, backbone = split(params, lambda name: name.startswith(_HEAD))
        logits = self.head.logits(head, call(self.backbone, backbone, batch["image"]))
        absent = torch.arange(self.local_classes, device=logits.device) >= batch["classes"].unsqueeze(-1)
        losses = cross_entropy(logits.masked_fill(absent, _NEVER), batch["label"], reduction="none")
        return (losses * batch["mask"]).sum() / batch["mask"].sum().clamp(min=1.0)
