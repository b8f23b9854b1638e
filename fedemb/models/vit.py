"""Vision transformer. Shapes: B images, Ch channels, H x W pixels, T tokens, W width, D embedding width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedemb.core import check

_STD = 0.02  # of weights, tokens and positions at the start
_WIDEN = 4


class ViT(nn.Module):
    """Patches, a class token, pre-norm blocks, linear layer: [B, Ch, size, size] -> [B, D].

    5,549,120 parameters at the defaults (ViT-Ti/16 on 224 x 224 colour images); width 384 and 6 heads make ViT-S/16,
    768 and 12 ViT-B/16. No dropout. For 28 x 28 grey images: size 28, patch 4, channels 1.
    Source: Dosovitskiy et al. 2021, arXiv:2010.11929; sizes and std of DeiT (Touvron et al. 2021, arXiv:2012.12877).
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        size: int = 224,
        patch: int = 16,
        width: int = 192,
        depth: int = 12,
        heads: int = 3,
        embedding_width: int = 128,
    ) -> None:
        """size, patch: pixels. Raises ValueError in one line unless patch divides size and heads divides width."""
        super().__init__()
        settings = {"channels": channels, "size": size, "patch": patch, "width": width, "depth": depth, "heads": heads}
        for name, value in {**settings, "embedding_width": embedding_width}.items():
            check.at_least(name, value, 1)
        if size % patch:
            raise ValueError(f"patch must divide size, the images' height, got {patch=} {size=}")
        if width % heads:
            raise ValueError(f"heads must divide width, got {heads=} {width=}")
        self.size = size
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.empty(width))
        self.positions = nn.Parameter(torch.empty((size // patch) ** 2 + 1, width))
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.embedding = nn.Linear(width, embedding_width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal weights, class token and positions; no biases."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(layer.weight, std=_STD)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        for own in (self.class_token, self.positions):
            nn.init.trunc_normal_(own, std=_STD)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings, not normalised. Raises: ValueError for images of another size."""
        if images.shape[-2:] != (self.size, self.size):
            raise ValueError(f"size={self.size} takes no images of {tuple(images.shape[-2:])}: set model.size")
        patches_BTW = self.patches(images).flatten(2).mT
        first_B1W = self.class_token.expand(images.shape[0], 1, -1)
        tokens_BTW = self.blocks(torch.cat([first_B1W, patches_BTW], dim=1) + self.positions)
        return self.embedding(self.norm(tokens_BTW[:, 0]))  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Self-attention and two linear layers, each after a norm and added to its input: [B, T, W] -> [B, T, W]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.project = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.widen = nn.Linear(width, _WIDEN * width)
        self.narrow = nn.Linear(_WIDEN * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self._attention(self.norm1(tokens))
        hidden = nn.functional.gelu(self.widen(self.norm2(tokens)))
        return tokens + self.narrow(hidden)  # type: ignore[no-any-return]

    def _attention(self, tokens: Tensor) -> Tensor:
        """In plain products: the fused kernels have no rule for several clients at once."""
        parts = (layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in self._inputs())
        query, key, value = parts  # [B, heads, T, W / heads]
        weights = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1)
        return self.project((weights @ value).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _inputs(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.query, self.key, self.value
