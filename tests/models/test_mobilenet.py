"""MobileNetV2: its size from the paper's table by hand, its shapes, and what training per client asks of a module."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from torch.func import grad, vmap

import fedemb.conf
from fedemb.models.exported import check_rebuilds
from fedemb.models.functional import call, fresh_params, refuse_buffers
from fedemb.models.mobilenet import MobileNetV2, SmallMobileNetV2

# Sandler et al. 2018, table 2: a line for each block, (expansion, channels, stride)
SMALL_BLOCKS = [(1, 16, 1), (6, 24, 2), (6, 24, 1), (6, 32, 2), (6, 32, 1), (6, 32, 1)]
BLOCKS = [
    *SMALL_BLOCKS,
    *[(6, 64, 2), (6, 64, 1), (6, 64, 1), (6, 64, 1)],
    *[(6, 96, 1), (6, 96, 1), (6, 96, 1)],
    *[(6, 160, 2), (6, 160, 1), (6, 160, 1)],
    (6, 320, 1),
]
MODELS = {MobileNetV2: (BLOCKS, 1280), SmallMobileNetV2: (SMALL_BLOCKS, 640)}


def count_by_hand(blocks, last, width=128):
    """Weights of the convolutions, scale and shift of the GroupNorms, the linear layer with its bias."""
    count = 3 * 3 * 3 * 32 + 2 * 32
    for (_, inputs, _), (expansion, outputs, _) in pairwise([(0, 32, 0), *blocks]):
        hidden = expansion * inputs
        count += (inputs * hidden + 2 * hidden) if expansion > 1 else 0
        count += 3 * 3 * hidden + 2 * hidden
        count += hidden * outputs + 2 * outputs
    return count + blocks[-1][1] * last + 2 * last + last * width + width


@pytest.mark.parametrize(("model", "count"), [(MobileNetV2, 2_387_840), (SmallMobileNetV2, 159_296)])
def test_parameter_count_by_hand(model, count):
    """2,387,840: the 3,504,872 of the ImageNet model of 1,000 classes, less 1,281,000, plus 1280 x 128 + 128."""
    assert count_by_hand(*MODELS[model]) == count
    assert sum(value.numel() for value in model().parameters()) == count
    assert f"{count:,} parameters" in model.__doc__
    assert 3_504_872 - 1_281_000 + 163_968 == 2_387_840


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("size", "batch"), [(224, 1), (112, 2), (32, 3), (1, 1), (33, 0)])
def test_shapes(model, size, batch):
    with torch.no_grad():
        assert model()(torch.zeros(batch, 3, size, size)).shape == (batch, 128)
        assert model(channels=1, embedding_width=5)(torch.zeros(batch, 1, size, size)).shape == (batch, 5)


@pytest.mark.parametrize(("model", "side", "channels"), [(MobileNetV2, 7, 1280), (SmallMobileNetV2, 28, 640)])
def test_strides(model, side, channels):
    """224 / 32 = 7 and 224 / 8 = 28: the size before the average pool, which the shapes of the answer do not show."""
    found = []
    backbone = model()
    backbone.last.register_forward_hook(lambda layer, inputs, output: found.append(output.shape))
    with torch.no_grad():
        backbone(torch.zeros(1, 3, 224, 224))
    assert found == [(1, channels, side, side)]


@pytest.mark.parametrize("model", MODELS)
def test_every_block_has_its_stride_and_a_shortcut_where_shapes_agree(model):
    """A block whose last GroupNorm is silent passes its input on, or gives zeros."""
    blocks, _ = MODELS[model]
    inputs = [32, *(outputs for _, outputs, _ in blocks)]
    for block, width, (_, outputs, stride) in zip(model().blocks, inputs, blocks, strict=False):
        torch.nn.init.zeros_(block.body[-1].weight)
        images = torch.randn(1, width, 6, 6, generator=torch.Generator().manual_seed(0))
        side = 6 // stride
        shortcut = stride == 1 and width == outputs
        wanted = images if shortcut else torch.zeros(1, outputs, side, side)
        assert torch.equal(block(images), wanted)
    assert len(model().blocks) == len(blocks)


@pytest.mark.parametrize("model", MODELS)
def test_no_state_besides_parameters_and_no_influence_between_images(model):
    """What batch statistics would do: one user's images would enter another's embedding."""
    backbone = model(embedding_width=8)
    refuse_buffers(backbone)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(backbone(images)[:1], backbone(images[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_a_gradient_reaches_every_parameter(model):
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    backbone = model(embedding_width=8)
    backbone(images).square().sum().backward()
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in backbone.parameters())


@pytest.mark.parametrize("model", MODELS)
def test_clients_together_equal_clients_one_by_one(model):
    """Embeddings and gradients of two clients with parameters and images of their own, in float64."""
    backbone = model(embedding_width=4).double()
    each = [{name: value.double() for name, value in fresh_params(backbone, seed).items()} for seed in (1, 2)]
    together = {name: torch.stack([params[name] for params in each]) for name in each[0]}
    images = torch.randn(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(params, images):
        return call(backbone, params, images).square().mean()

    found = vmap(call, in_dims=(None, 0, 0))(backbone, together, images)
    slopes = vmap(grad(loss))(together, images)
    for client, params in enumerate(each):
        torch.testing.assert_close(found[client], call(backbone, params, images[client]), rtol=0, atol=1e-5)
        for name, slope in grad(loss)(params, images[client]).items():
            torch.testing.assert_close(slopes[name][client], slope, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-2)


@pytest.mark.parametrize("model", MODELS)
def test_convolutions_start_by_he_and_are_drawn_anew(model):
    """std sqrt(2 / fan in): 27 for the stem, 9 for a depthwise layer, the input channels for 1 x 1."""
    backbone = model()
    for params in (dict(backbone.named_parameters()), fresh_params(backbone, 3)):
        for name, fan_in in [("stem.0.weight", 27), ("blocks.5.body.3.weight", 9), ("blocks.5.body.0.weight", 32)]:
            weight = params[name]
            assert weight.mean().abs() < 5 * (2 / fan_in / weight.numel()) ** 0.5, name
            assert weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.1), name
    one, other = fresh_params(backbone, 3), fresh_params(backbone, 4)
    assert all(torch.equal(one[name], value) for name, value in fresh_params(backbone, 3).items())
    assert not torch.equal(one["stem.0.weight"], other["stem.0.weight"])
    norms = {name: value for name, value in one.items() if value.ndim == 1 and name != "embedding.bias"}
    assert all(bool((value == name.endswith("weight")).all()) for name, value in norms.items())


@pytest.mark.parametrize("model", MODELS)
def test_activations_are_cut_at_six(model):
    found = []
    backbone = model()
    for layer in backbone.modules():
        if isinstance(layer, torch.nn.ReLU6):
            layer.register_forward_hook(lambda layer, inputs, output: found.append(float(output.max())))
    for name, value in backbone.named_parameters():
        if name.endswith("weight") and value.ndim == 1:
            torch.nn.init.constant_(value, 50.0)
    with torch.no_grad():
        backbone(torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    blocks, _ = MODELS[model]
    assert found == [6.0] * (2 * len(blocks) - 1 + 2)  # two in a block, one in the first; stem and last


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("wrong", "words"), [({"groups": 3}, "groups=3"), ({"groups": 0}, "groups=0")])
def test_groups_that_do_not_divide_the_channels_are_refused(model, wrong, words):
    with pytest.raises(ValueError, match=words):
        model(**wrong)
    assert model(groups=8).last[1].num_groups == 8


def test_two_groups_by_default():
    layers = [layer for layer in MobileNetV2().modules() if isinstance(layer, torch.nn.GroupNorm)]
    assert {layer.num_groups for layer in layers} == {2}
    assert len(layers) == 2 + 2 + 16 * 3


@pytest.mark.parametrize(("name", "model"), [("mobilenet", MobileNetV2), ("mobilenet_small", SmallMobileNetV2)])
def test_the_configuration_builds_it(name, model):
    spec = yaml.safe_load((Path(fedemb.conf.__file__).parent / "model" / f"{name}.yaml").read_text())
    assert spec.pop("embedding_width") == "${embedding_width}"
    assert spec["_target_"] == f"{model.__module__}.{model.__name__}"
    check_rebuilds({**spec, "embedding_width": 16}, model(embedding_width=16))
