"""Pixels as in the paper: x / 128 - 1."""

import numpy as np
import torch

from fedemb.core.pixels import scale_pixels
from fedemb.data.transforms import ScalePixels


def test_by_hand():
    scaled = scale_pixels(torch.tensor([0, 64, 128, 255], dtype=torch.uint8))
    assert scaled.dtype == torch.float32
    assert scaled.tolist() == [-1.0, -0.5, 0.0, 127 / 128]


def test_training_and_inference_scale_alike():
    """A model that sees other pixels when it is used than when it was trained loses accuracy without an error."""
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    trained = ScalePixels()({"image": images}, np.random.default_rng(0))["image"]
    assert torch.equal(trained, scale_pixels(images))
