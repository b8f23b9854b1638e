"""Batch -> batch: pixel scaling, labels within a client or over all of them, augmentation.

A transform sees all the examples that a virtual client trains on (every epoch of them) as one batch, and draws from
the generator that it is handed and from nothing else.
Shapes: n examples (0 is allowed), Ch channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from fedemb.core import check
from fedemb.core.pixels import scale_pixels
from fedemb.core.types import Batch

Transform = Callable[[Batch, np.random.Generator], Batch]
"""(batch, rng) -> batch with the same number of examples; a new dictionary, the argument's tensors untouched."""

BACKGROUND = -1.0  # a black pixel after ScalePixels


@dataclass(frozen=True, kw_only=True)
class Compose:
    """One transform after another; none is the identity."""

    transforms: Sequence[Transform] = ()

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Apply them in order."""
        for transform in self.transforms:
            batch = transform(batch, rng)
        return batch


@dataclass(frozen=True, kw_only=True)
class ScalePixels:
    """uint8 x in 0 .. 255 to float32 x/128 - 1, as in the paper's code."""

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Scale "image". Raises: ValueError for other numbers than uint8, which would all become about -1."""
        if batch["image"].dtype != torch.uint8:
            raise ValueError(
                f"a data set gives images as uint8 in 0 .. 255, got {batch['image'].dtype}: leave the scaling to fedemb"
            )
        return {**batch, "image": scale_pixels(batch["image"])}


@dataclass(frozen=True, kw_only=True)
class LocalLabels:
    """Labels renumbered 0, 1, … within the client, in order of first appearance.

    Adds "classes" [n] int64: how many labels the client has, at most `max_classes`, so that a loss can leave out the
    rows of the head that nobody uses. An example whose local label would be `max_classes` or above keeps its slot
    with mask 0 (a public rule: it depends on no other client and raises on no data).
    """

    max_classes: int

    def __post_init__(self) -> None:
        check.at_least("max_classes", self.max_classes, 1)

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Renumber "label", lower "mask", add "classes"."""
        label = batch["label"]
        _, first, inverse = np.unique(label.numpy(), return_index=True, return_inverse=True)
        rank = np.argsort(np.argsort(first))  # rank of each distinct label by its first position
        local = torch.from_numpy(rank[inverse]).to(torch.int64)
        kept = local < self.max_classes
        return {
            **batch,
            "label": torch.where(kept, local, 0),
            "mask": batch["mask"] * kept,
            "classes": torch.full_like(label, min(len(first), self.max_classes)),
        }


@dataclass(frozen=True, kw_only=True)
class GlobalLabels:
    """Labels as the data set numbers them, for a head over all classes.

    An example whose label is not in 0 .. classes - 1 keeps its slot with mask 0 (a public rule, as in `LocalLabels`).
    """

    classes: int

    def __post_init__(self) -> None:
        check.at_least("classes", self.classes, 1)

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Lower "mask"."""
        label = batch["label"]
        kept = (label >= 0) & (label < self.classes)
        return {**batch, "label": torch.where(kept, label, 0), "mask": batch["mask"] * kept}


@dataclass(frozen=True, kw_only=True)
class RandomAffine:
    """Each image turned, shifted, scaled and sheared about its centre, bilinear, by its own uniform draws.

    degrees: turn within ±degrees. translate: shift within ±translate of the side, along both axes.
    scale: (lowest, highest) size factor. shear: horizontal shear within ±shear degrees.
    fill: the value outside the image; -1 is black after ScalePixels.
    """

    degrees: float = 0.0
    translate: float = 0.0
    scale: Sequence[float] = (1.0, 1.0)
    shear: float = 0.0
    fill: float = BACKGROUND

    def __post_init__(self) -> None:
        check.non_negative("degrees", self.degrees)
        check.fraction("translate", self.translate)
        check.fraction("shear / 90 degrees", self.shear / 90)
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be two factors with 0 < lowest <= highest, got scale={list(self.scale)}")

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Warp "image", which is float."""
        image = batch["image"]
        turn, across, down, size, slant = torch.from_numpy(rng.random((5, len(image)), dtype=np.float32))
        low, high = self.scale
        warped = warp(
            image,
            degrees=(2 * turn - 1) * self.degrees,
            shift=torch.stack([2 * across - 1, 2 * down - 1], dim=1) * self.translate,
            scale=low + (high - low) * size,
            shear=(2 * slant - 1) * self.shear,
            fill=self.fill,
        )
        return {**batch, "image": warped}


@dataclass(frozen=True, kw_only=True)
class HorizontalFlip:
    """Each image mirrored left to right with the given probability."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must lie in [0, 1], got probability={self.probability}")

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Flip some of "image"."""
        image = batch["image"]
        flipped = torch.from_numpy(rng.random(len(image)) < self.probability)
        return {**batch, "image": torch.where(flipped[:, None, None, None], image.flip(-1), image)}


@dataclass(frozen=True, kw_only=True)
class RandomCrop:
    """Each image padded on every side and cut back to its size at a random place."""

    padding: int
    fill: float = BACKGROUND

    def __post_init__(self) -> None:
        check.at_least("padding", self.padding, 0)

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Shift "image" by up to `padding` pixels."""
        image = batch["image"]
        n, _, height, width = image.shape
        top, left = torch.from_numpy(rng.integers(2 * self.padding + 1, size=(2, n)))
        rows, columns = top[:, None] + torch.arange(height), left[:, None] + torch.arange(width)
        channels_last = pad(image, [self.padding] * 4, value=self.fill).movedim(1, -1)
        cropped = channels_last[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
        return {**batch, "image": cropped.movedim(-1, 1).contiguous()}


def warp(image: Tensor, *, degrees: Tensor, shift: Tensor, scale: Tensor, shear: Tensor, fill: float) -> Tensor:
    """Shear, turn, scale, then shift each image about its centre; bilinear, on the same pixel grid.

    Args: image: [n, Ch, H, W] float. degrees: [n], counter-clockwise as seen. shift: [n, 2] (right, down), in sides.
          scale: [n] > 0. shear: [n] degrees, |shear| < 90. fill: value outside the image.
    Returns: [n, Ch, H, W].
    """
    if len(image) == 0:  # grid_sample takes no empty batch
        return image
    height, width = image.shape[-2:]
    sine, cosine, slant = degrees.deg2rad().sin(), degrees.deg2rad().cos(), shear.deg2rad().tan()
    # The grid asks where each output pixel comes from: the inverse map, in units of half a side.
    across = torch.stack([cosine - slant * sine, (-sine - slant * cosine) * height / width], dim=1)
    down = torch.stack([sine * width / height, cosine], dim=1)
    inverse = torch.stack([across, down], dim=1) / scale[:, None, None]  # [n, 2, 2]
    offset = -(inverse @ (2.0 * shift)[:, :, None])
    grid = affine_grid(torch.cat([inverse, offset], dim=2), list(image.shape), align_corners=False)
    return grid_sample(image - fill, grid, align_corners=False) + fill
