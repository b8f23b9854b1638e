"""ResNet-50 with GroupNorm. Shapes: B images, Ch channels, H x W pixels, D embedding width."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fedemb.core import check

_WIDEN = 4


class ResNet(nn.Module):
    """Stem, four stages of bottleneck blocks, average pool, linear layer: [B, Ch, H, W] -> [B, D].

    ResNet-50 at the defaults, with 23,770,304 parameters; any size of image from 1 x 1 on, 224 x 224 in the paper. The
    stride of a block is that of its 3 x 3 convolution.
    Source: Xu et al. 2023, arXiv:2211.10844 (GroupNorm with 32 groups, epsilon 1e-5, He initialisation, a last layer of
    std 0.01), after He et al. 2016, arXiv:1512.03385, table 1.
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        embedding_width: int = 128,
        groups: int = 32,
        filters: int = 64,
        blocks: Sequence[int] = (3, 4, 6, 3),
    ) -> None:
        """groups: of each GroupNorm. filters: of the stem and the first stage, doubled from stage to stage.

        blocks: of each stage; (3, 4, 23, 3) makes ResNet-101.
        Raises: ValueError in one line unless `groups` divides `filters` and `blocks` are four numbers from 1 on.
        """
        super().__init__()
        numbers = {"channels": channels, "embedding_width": embedding_width, "groups": groups, "filters": filters}
        for name, value in numbers.items():
            check.at_least(name, value, 1)
        if filters % groups:
            raise ValueError(
                f"groups must divide filters, which divide every layer's channels, got {groups=} {filters=}"
            )
        if len(blocks) != 4 or min(blocks) < 1:
            raise ValueError(f"blocks must be four numbers from 1 on, one a stage, got blocks={list(blocks)}")
        self.stem = nn.Sequential(
            *_conv(channels, filters, groups, size=7, stride=2), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)
        )
        stages, width = list[nn.Module](), filters
        for place, repeats in enumerate(blocks):
            narrow = filters << place
            strides = [1 if place == 0 else 2, *[1] * (repeats - 1)]
            widths = [width, *[_WIDEN * narrow] * (repeats - 1)]
            pairs = zip(widths, strides, strict=True)
            stages.append(nn.Sequential(*(_Block(inputs, narrow, stride, groups) for inputs, stride in pairs)))
            width = _WIDEN * narrow
        self.stages = nn.Sequential(*stages)
        self.embedding = nn.Linear(width, embedding_width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Convolutions by He et al. 2015, arXiv:1502.01852 (fan in, gain of ReLU); the last layer small."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.normal_(self.embedding.weight, std=0.01)
        nn.init.zeros_(self.embedding.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings, not normalised."""
        return self.embedding(self.stages(self.stem(images)).mean((2, 3)))  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Narrow, filter, widen; added to the input, or to a projection of it where the shapes differ."""

    def __init__(self, inputs: int, filters: int, stride: int, groups: int) -> None:
        super().__init__()
        outputs = _WIDEN * filters
        self.body = nn.Sequential(
            *_conv(inputs, filters, groups),
            nn.ReLU(),
            *_conv(filters, filters, groups, size=3, stride=stride),
            nn.ReLU(),
            *_conv(filters, outputs, groups),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Sequential(*([] if same else _conv(inputs, outputs, groups, stride=stride)))

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.body(images) + self.shortcut(images)
        return found.relu()


def _conv(inputs: int, outputs: int, groups: int, *, size: int = 1, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    """A convolution and its GroupNorm, which has the bias."""
    conv = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    return conv, nn.GroupNorm(groups, outputs, eps=1e-5)
