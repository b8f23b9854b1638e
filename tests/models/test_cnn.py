"""The benchmarks' CNNs: their sizes by hand and their shapes."""

import pytest
import torch

from fedemb.models.cnn import FedAvgCNN, TinyCNN


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (FedAvgCNN, (27 * 32 + 32) + (288 * 64 + 64) + (64 * 14 * 14 * 128 + 128) + (128 * 10 + 10)),
        (TinyCNN, (75 * 8 + 8) + (200 * 16 + 16) + (400 * 10 + 10)),
    ],
)
def test_parameter_count_by_hand(model, count):
    assert sum(value.numel() for value in model().parameters()) == count
    assert f"{count:,} parameters" in model.__doc__


@pytest.mark.parametrize("model", [FedAvgCNN, TinyCNN])
def test_shapes(model):
    assert model(outputs=7)(torch.zeros(4, 3, 32, 32)).shape == (4, 7)
