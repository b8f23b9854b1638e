"""ResNet-50 with GroupNorm: its size by hand, and the numbers of another library's ResNet with the same weights."""

import pytest
import torch

from fedemb.models.functional import fresh_params, refuse_buffers
from fedemb.models.normalisation import GroupNormalised
from fedemb.models.resnet import ResNet

ONE_EACH = (1, 1, 1, 1)


def count_by_hand(blocks=(3, 4, 6, 3), width=128):
    """He et al. 2016, table 1: weights of the convolutions, scale and shift of each norm, the linear layer."""
    count, inputs = 7 * 7 * 3 * 64 + 2 * 64, 64
    for filters, repeats in zip((64, 128, 256, 512), blocks, strict=True):
        outputs = 4 * filters
        count += inputs * outputs + 2 * outputs  # the projected shortcut of the first block
        for _ in range(repeats):
            count += inputs * filters + 3 * 3 * filters * filters + filters * outputs + 2 * (2 * filters + outputs)
            inputs = outputs
    return count + inputs * width + width


def test_parameter_count_by_hand():
    """23,770,304: the 25,557,032 of the ImageNet model, less 2048 x 1000 + 1000, plus 2048 x 128 + 128."""
    assert count_by_hand() == 25_557_032 - 2_049_000 + 262_272 == 23_770_304
    with torch.device("meta"):
        assert sum(value.numel() for value in ResNet().parameters()) == 23_770_304
        assert sum(value.numel() for value in ResNet(blocks=ONE_EACH).parameters()) == count_by_hand(ONE_EACH)
    assert "23,770,304 parameters" in ResNet.__doc__


def test_every_norm_has_32_groups_and_epsilon_1e_5():
    with torch.device("meta"):
        norms = [layer for layer in ResNet().modules() if isinstance(layer, torch.nn.GroupNorm)]
    assert {(norm.num_groups, norm.eps) for norm in norms} == {(32, 1e-5)}
    assert len(norms) == 1 + 4 + 3 * 16  # stem, shortcuts, blocks


def theirs_to_ours(name):
    """stages.0.layers.0.layer.2.normalization.bias -> stages.0.0.body.7.bias."""
    parts = name.split(".")
    part = {"convolution": 0, "normalization": 1}[parts[-2]]
    if parts[0] == "embedder":
        return f"stem.{part}.{parts[-1]}"
    block = f"stages.{parts[2]}.{parts[4]}"
    place = f"shortcut.{part}" if parts[5] == "shortcut" else f"body.{3 * int(parts[6]) + part}"
    return f"{block}.{place}.{parts[-1]}"


def test_equals_the_resnet_of_transformers_with_its_norms_replaced():
    """Strides, shortcuts, paddings and pools: all that the count does not show. Two blocks in the second stage."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(hidden_sizes=[256, 512, 1024, 2048], depths=[1, 2, 1, 1])
    theirs, ours = transformers.ResNetModel(config), ResNet(embedding_width=3, blocks=(1, 2, 1, 1))
    GroupNormalised(groups=32).apply(theirs)
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            noise = torch.randn(value.shape, generator=stream) / value[0].numel() ** 0.5
            value.copy_(noise + (name.endswith("normalization.weight")))
            ours.get_parameter(theirs_to_ours(name)).copy_(value)
        images = torch.randn(2, 3, 40, 40, generator=stream)
        wanted = ours.embedding(theirs(images).pooler_output.flatten(1))
        torch.testing.assert_close(ours(images), wanted, rtol=1e-4, atol=1e-6)
    assert wanted.abs().max() > 1e-3
    copied = {theirs_to_ours(name) for name, _ in theirs.named_parameters()}
    assert {name for name, _ in ours.named_parameters()} - copied == {"embedding.weight", "embedding.bias"}


@pytest.mark.parametrize(("size", "batch"), [(28, 2), (1, 1), (33, 0)])
def test_shapes_and_no_state(size, batch):
    model = ResNet(channels=1, embedding_width=5, blocks=ONE_EACH)
    refuse_buffers(model)
    with torch.no_grad():
        assert model(torch.zeros(batch, 1, size, size)).shape == (batch, 5)


def test_convolutions_start_by_he_and_the_last_layer_small():
    """std sqrt(2 / fan in): 147 for the stem, 9 x 64 for a 3 x 3 layer, 64 for 1 x 1; 0.01 for the last layer."""
    params = fresh_params(ResNet(blocks=ONE_EACH), 3)
    for name, fan_in in [("stem.0.weight", 147), ("stages.0.0.body.3.weight", 576), ("stages.0.0.body.6.weight", 64)]:
        assert params[name].std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05), name
    assert params["embedding.weight"].std().item() == pytest.approx(0.01, rel=0.02)
    assert not params["embedding.bias"].any()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"groups": 48}, "groups=48 filters=64"),
        ({"blocks": (3, 4, 6)}, "blocks=[3, 4, 6]"),
        ({"blocks": (0, 1, 1, 1)}, "blocks="),
    ],
)
def test_what_does_not_fit_is_one_line(wrong, words):
    with pytest.raises(ValueError) as caught:
        ResNet(**wrong)
    assert words in str(caught.value)
