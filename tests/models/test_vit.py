"""The vision transformer: its size by hand, another library's numbers with the same weights, many clients at once."""

import pytest
import torch
from torch.func import grad, vmap

from fedemb.models.functional import call, fresh_params, refuse_buffers
from fedemb.models.vit import ViT

SMALL = {"channels": 1, "size": 8, "patch": 4, "width": 16, "depth": 2, "heads": 2, "embedding_width": 5}
IMAGES = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_parameter_count_by_hand():
    """DeiT-Ti's 5,717,416 with 1,000 classes, less 192 x 1000 + 1000, plus 192 x 128 + 128."""
    block = 2 * 2 * 192 + 4 * (192 * 192 + 192) + (192 * 768 + 768) + (768 * 192 + 192)
    count = (16 * 16 * 3 * 192 + 192) + 192 + 197 * 192 + 12 * block + 2 * 192 + (192 * 128 + 128)
    assert count == 5_717_416 - 193_000 + 24_704 == 5_549_120
    with torch.device("meta"):
        assert sum(value.numel() for value in ViT().parameters()) == count
    assert f"{count:,} parameters" in ViT.__doc__


@pytest.mark.parametrize(("size", "patch"), [(28, 4), (224, 16)])
def test_random_start_at_the_sizes_of_the_data_sets(size, patch):
    model = ViT(size=size, patch=patch, depth=2)
    params = fresh_params(model, 1)
    with torch.no_grad():
        found = call(model, params, torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1)))
    assert found.shape == (2, 128)
    assert found.isfinite().all()
    assert not torch.allclose(found[0], found[1], atol=1e-3)


RENAMED = {
    "embeddings.cls_token": "class_token",
    "embeddings.position_embeddings": "positions",
    "embeddings.patch_embeddings.projection": "patches",
    "layers": "blocks",
    "attention.q_proj": "query",
    "attention.k_proj": "key",
    "attention.v_proj": "value",
    "attention.o_proj": "project",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "mlp.fc1": "widen",
    "mlp.fc2": "narrow",
    "layernorm": "norm",
}


def theirs_to_ours(name):
    for old, new in RENAMED.items():
        name = name.replace(old, new)
    return name


def test_equals_the_vit_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=8,
        patch_size=4,
        num_channels=1,
        layer_norm_eps=1e-6,
    )
    theirs, ours = transformers.ViTModel(config, add_pooling_layer=False), ViT(**SMALL)
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            value.copy_(torch.randn(value.shape, generator=stream) * 0.5)
            mine = ours.get_parameter(theirs_to_ours(name))
            mine.copy_(value.reshape(mine.shape))
        wanted = ours.embedding(theirs(IMAGES).last_hidden_state[:, 0])
        torch.testing.assert_close(ours(IMAGES), wanted, rtol=1e-4, atol=1e-5)
    copied = {theirs_to_ours(name) for name, _ in theirs.named_parameters()}
    assert {name for name, _ in ours.named_parameters()} - copied == {"embedding.weight", "embedding.bias"}


def test_clients_together_equal_clients_one_by_one():
    model = ViT(**SMALL).double()
    each = [{name: value.double() for name, value in fresh_params(model, seed).items()} for seed in (1, 2)]
    together = {name: torch.stack([params[name] for params in each]) for name in each[0]}
    images = torch.randn(2, 2, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(params, images):
        return call(model, params, images).square().mean()

    slopes = vmap(grad(loss))(together, images)
    for client, params in enumerate(each):
        for name, slope in grad(loss)(params, images[client]).items():
            torch.testing.assert_close(slopes[name][client], slope, rtol=1e-9, atol=1e-12)
            assert slope.any(), name  # a gradient reaches every parameter


def test_images_do_not_influence_each_other_and_nothing_is_kept():
    model = ViT(**SMALL)
    refuse_buffers(model)
    torch.testing.assert_close(model(IMAGES)[:1], model(IMAGES[:1]), rtol=1e-5, atol=1e-6)


def test_every_parameter_is_drawn_anew():
    model = ViT(**SMALL)
    one, again, other = (fresh_params(model, seed) for seed in (3, 3, 4))
    assert all(torch.equal(one[name], again[name]) for name in one)
    drawn = {name for name in one if not torch.equal(one[name], other[name])}
    assert drawn == {name for name in one if not name.endswith("bias") and "norm" not in name}
    assert one["positions"].std().item() == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"patch": 5}, "patch=5 size=8"), ({"heads": 3}, "heads=3 width=16"), ({"depth": 0}, "depth=0")],
)
def test_what_does_not_fit_is_one_line(wrong, words):
    with pytest.raises(ValueError) as caught:
        ViT(**{**SMALL, **wrong})
    assert words in str(caught.value)
    with pytest.raises(ValueError, match=r"size=8 takes no images of \(12, 12\)"):
        ViT(**SMALL)(torch.zeros(1, 1, 12, 12))
