"""The LeNet: its size by hand and its shapes."""

import pytest
import torch

from fedemb.models import lenet
from fedemb.models.functional import refuse_buffers
from fedemb.models.lenet import LeNet


def test_parameter_count_by_hand():
    """conv 5 x 5 x 1 x 32 + 32, conv 5 x 5 x 32 x 64 + 64, linear (7 x 7 x 64) x 128 + 128; the docstring agrees."""
    count = 832 + 51_264 + (3136 * 128 + 128)
    assert count == 453_632
    assert sum(value.numel() for value in LeNet().parameters()) == count
    assert f"{count:,} parameters" in LeNet.__doc__


@pytest.mark.parametrize(("channels", "size", "width"), [(1, 28, 128), (3, 32, 16), (1, 4, 2)])
def test_shapes(channels, size, width):
    model = LeNet(channels=channels, size=size, embedding_width=width)
    assert model(torch.zeros(5, channels, size, size)).shape == (5, width)
    assert model(torch.zeros(0, channels, size, size)).shape == (0, width)


def test_images_of_a_batch_do_not_influence_each_other():
    """What batch statistics would do: one user's images would enter another's embedding."""
    images = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    model = LeNet(embedding_width=8)
    torch.testing.assert_close(model(images)[:1], model(images[:1]), rtol=1e-4, atol=1e-5)
    refuse_buffers(model)


@pytest.mark.parametrize("size", [0, 2, 27, -4, None])
def test_sizes_that_cannot_be_halved_twice_are_refused(size):
    with pytest.raises(ValueError, match=f"size={size}"):
        lenet.LeNet(size=size)
