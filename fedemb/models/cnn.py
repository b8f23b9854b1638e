"""Small plain CNNs of the federated-learning benchmarks."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import max_pool2d


class FedAvgCNN(nn.Module):
    """Two 3x3 convolutions, a pool, two linear layers: [B, 3, 32, 32] -> [B, outputs].

    1,626,442 parameters at the defaults. Source: the CIFAR-10 benchmark of pfl-research (Granqvist et al. 2024,
    arXiv:2404.06430), after McMahan et al. 2017, arXiv:1602.05629; without dropout.
    """

    def __init__(self, *, outputs: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, kernel_size=3)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3)
        self.hidden = nn.Linear(64 * 14 * 14, 128)
        self.output = nn.Linear(128, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Logits or embeddings."""
        maps = max_pool2d(self.conv2(self.conv1(images).relu()).relu(), 2)
        return self.output(self.hidden(maps.flatten(1)).relu())  # type: ignore[no-any-return]


class TinyCNN(nn.Module):
    """Two 5x5 convolutions, each with a pool, and a linear layer: [B, 3, 32, 32] -> [B, outputs].

    7,834 parameters at the defaults: a step is over so soon that what surrounds it counts.
    """

    def __init__(self, *, outputs: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, kernel_size=5)
        self.conv2 = nn.Conv2d(8, 16, kernel_size=5)
        self.output = nn.Linear(16 * 5 * 5, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Logits or embeddings."""
        maps = max_pool2d(self.conv1(images).relu(), 2)
        maps = max_pool2d(self.conv2(maps).relu(), 2)
        return self.output(maps.flatten(1))  # type: ignore[no-any-return]
