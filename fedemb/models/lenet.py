"""The LeNet of the EMNIST experiments."""

from __future__ import annotations

from torch import Tensor, nn

from fedemb.core import check


class LeNet(nn.Module):
    """Two 5x5 convolutions and a linear layer: [B, channels, size, size] -> [B, embedding_width].

    453,632 parameters at the defaults (28 x 28 grey images, width 128).
    Source: Xu et al. 2023, arXiv:2211.10844, EMNIST experiments ("same" padding, 32 and 64 filters).
    """

    def __init__(self, *, channels: int = 1, size: int = 28, embedding_width: int = 128) -> None:
        """Raises ValueError unless size is a positive multiple of 4 (two halvings)."""
        super().__init__()
        check.at_least("channels", channels, 1)
        check.at_least("embedding_width", embedding_width, 1)
        if not isinstance(size, int) or size < 4 or size % 4:
            raise ValueError(
                f"size must be a positive multiple of 4 for two halvings, got {size=}: pass the images' height"
            )
        self.conv1 = nn.Conv2d(channels, 32, kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=5, padding=2)
        self.embedding = nn.Linear(64 * (size // 4) ** 2, embedding_width)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings, not normalised."""
        hidden = nn.functional.max_pool2d(self.conv1(images).relu(), 2)
        hidden = nn.functional.max_pool2d(self.conv2(hidden).relu(), 2)
        return self.embedding(hidden.flatten(1))  # type: ignore[no-any-return]
