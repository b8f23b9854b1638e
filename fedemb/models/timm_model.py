"""Any model of timm as a backbone, where timm is installed. Shapes: B images, Ch x H x W pixels, D embedding width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fedemb.core import check
from fedemb.core.types import Params
from fedemb.models.optional import library
from fedemb.models.published import pooled

_BODY = "body."


class TimmModel(nn.Module):
    """The model's pooled features and a linear layer: [B, Ch, H, W] -> [B, D]. No dropout, also when it trains.

    name: as timm.list_models() has it. arguments: others of timm.create_model, e.g. {img_size: 28, patch_size: 4}.
    The constructor makes the architecture; `published` gets the weights, from timm's cache or the network.
    """

    def __init__(
        self, *, name: str, embedding_width: int, channels: int = 3, arguments: Mapping[str, Any] | None = None
    ) -> None:
        """Raises ValueError in one line for an unknown model or argument."""
        super().__init__()
        check.at_least("embedding_width", embedding_width, 1)
        check.at_least("channels", channels, 1)
        self._name, self._arguments = name, {**(arguments or {}), "in_chans": channels, "num_classes": 0}
        self.body = self._made(pretrained=False).eval()
        width: Any = getattr(self.body, "head_hidden_size", None) or self.body.num_features
        self.embedding = nn.Linear(width, embedding_width)

    def train(self, mode: bool = True) -> TimmModel:
        """The body stays as it is for inference: dropout would draw random numbers in a local step."""
        super().train(mode)
        self.body.eval()
        return self

    def reset_parameters(self) -> None:
        """The model's own initialiser, if it has one, has the last word."""
        own = getattr(self.body, "init_weights", None)
        if callable(own):
            own()

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings, not normalised."""
        return self.embedding(pooled(self.body(images)))  # type: ignore[no-any-return]

    def published(self) -> Params:
        """All of the body's."""
        with torch.random.fork_rng(devices=[]):
            body = self._made(pretrained=True)
        return {_BODY + name: value.detach() for name, value in body.named_parameters()}

    def _made(self, *, pretrained: bool) -> nn.Module:
        timm = library("timm", extra="timm")
        try:
            made: nn.Module = timm.create_model(self._name, pretrained=pretrained, **self._arguments)
        except (RuntimeError, ValueError, TypeError, KeyError, OSError) as error:
            raise ValueError(f"model.name={self._name}: {' '.join(str(error).split())}") from error
        return made
