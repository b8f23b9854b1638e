"""Vision models of transformers, for real: saved, loaded, initialised, trained in step, exported and refused."""

import sys

import pytest
import torch
from small import make_cohort, make_load, make_work
from torch import nn

from fedemb.execution.vectorised import Vectorised
from fedemb.models.exported import check_rebuilds, embed, load_model, save_model
from fedemb.models.functional import call, fresh_params, refuse_buffers, seeded
from fedemb.models.lora import LowRank
from fedemb.models.normalisation import GroupNormalised
from fedemb.models.published import Published, SelfContained
from fedemb.models.transformers_model import TransformersModel
from fedemb.tasks.embedding import EmbeddingTask
from fedemb.tasks.heads import SoftmaxHead
from fedemb.tasks.start import PublishedStart
from fedemb.testing import check_executor

transformers = pytest.importorskip("transformers")

TOKENS = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 8,
    "patch_size": 4,
    "num_channels": 1,
}
CONFIGS = {
    "vit": TOKENS,
    "dinov2": {**TOKENS, "mlp_ratio": 2},
    "clip_vision_model": TOKENS,
    "convnext": {
        "num_channels": 1,
        "patch_size": 2,
        "num_stages": 2,
        "hidden_sizes": [8, 16],
        "depths": [1, 1],
        "image_size": 8,
    },
    "swin": {
        "image_size": 8,
        "patch_size": 2,
        "num_channels": 1,
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "window_size": 2,
        "drop_path_rate": 0.5,
    },
}
RESNET = {
    "model_type": "resnet",
    "num_channels": 1,
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
}
IMAGES = torch.randint(256, (3, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def new(kind="vit", **more):
    return TransformersModel(config={"model_type": kind, **CONFIGS[kind], **more}, embedding_width=4)


def task_of(backbone):
    return EmbeddingTask(backbone=backbone, head=SoftmaxHead(), embedding_width=4, local_classes=3)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A ViT classifier as its authors would publish it."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(5)
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**TOKENS))
    nn.init.normal_(model.vit.embeddings.cls_token)
    model.save_pretrained(folder)
    return folder, model


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_new_model_of_any_kind_starts_from_the_seed_and_embeds(kind):
    with seeded(1):
        model = new(kind)
    refuse_buffers(model)
    one, again, other = (fresh_params(model, seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    drawn = [name for name, value in one.items() if value.ndim == 2 and not torch.equal(value, other[name])]
    assert len(drawn) >= 3
    found, stacked = embed(model, one, IMAGES), embed(model, one, IMAGES[:1])
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(found[:1], stacked, rtol=1e-4, atol=1e-5)


def test_layers_start_as_the_library_starts_them():
    """Weights of std 0.02 and no biases, where a linear layer of its own has std 1 / sqrt(3 x 64)."""
    params = fresh_params(new(hidden_size=64), 1)
    weight = params["body.layers.0.attention.q_proj.weight"]
    assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not params["body.layers.0.attention.q_proj.bias"].any()
    assert params["embedding.weight"].std().item() == pytest.approx((3 * 64) ** -0.5, rel=0.2)


def test_no_dropout_when_it_trains():
    model = new("swin", hidden_dropout_prob=0.5).train()
    images = IMAGES.float()
    assert torch.equal(model(images), model(images))
    assert model.training
    assert not any(part.training for part in model.body.modules())


def test_published_weights_are_taken_and_the_rest_starts_at_random(saved):
    folder, theirs = saved
    task = task_of(TransformersModel(name=str(folder), embedding_width=4))
    state = torch.get_rng_state()
    params = PublishedStart(provenance="public").params(task, 7)
    assert torch.equal(state, torch.get_rng_state())
    for name, value in theirs.vit.named_parameters():
        assert torch.equal(params[f"body.{name}"], value), name
    own = task.init(7)
    for name in ("embedding.weight", "embedding.bias", "body.pooler.dense.weight"):  # no classifier has them
        assert torch.equal(params[name], own[name]), name


def test_the_constructor_takes_no_weights(saved):
    """They would come without a declaration of what they were trained on."""
    model = TransformersModel(name=str(saved[0]), embedding_width=4)
    assert not torch.equal(model.body.embeddings.cls_token, saved[1].vit.embeddings.cls_token)


def test_pooled_output_and_linear_layer(saved):
    folder, _ = saved
    model = TransformersModel(name=str(folder), embedding_width=4)
    body = transformers.AutoModel.from_pretrained(folder)
    params = {f"body.{name}": value for name, value in body.named_parameters()}
    params |= {f"embedding.{name}": value for name, value in model.embedding.named_parameters()}
    images = IMAGES.float() / 128 - 1
    wanted = model.embedding(body(images).pooler_output)
    torch.testing.assert_close(call(model, params, images), wanted, rtol=1e-4, atol=1e-5)


def test_published_weights_fit_after_changes(saved):
    model = TransformersModel(name=str(saved[0]), embedding_width=4)
    LowRank(layers=["*_proj"], rank=2, alpha=2.0).apply(model)
    params = PublishedStart(provenance="private").params(task_of(model), 7)
    assert torch.equal(params["body.layers.0.attention.q_proj.weight"], saved[1].vit.layers[0].attention.q_proj.weight)
    assert params["body.layers.0.attention.q_proj.lora.down"].any()


def test_batch_norm_is_refused_or_replaced():
    model = TransformersModel(config=RESNET, embedding_width=4)
    with pytest.raises(ValueError, match=r"BatchNorm2d.*normalisation=group"):
        task_of(model)
    said = GroupNormalised(groups=4).apply(model)
    assert " 8 BatchNorm layers became GroupNorm: body." in said  # stem, two bottlenecks of 3, one shortcut
    refuse_buffers(model)
    assert embed(model, fresh_params(model, 1), IMAGES).shape == (3, 4)


def test_clients_at_once_equal_clients_one_by_one():
    work = make_work(task=task_of(new()), learning_rate=0.05)
    check_executor(Vectorised(), work, work.task.init(1), make_cohort((3, 5), (6,)), make_load(), clip_norm=0.1)


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_a_stored_model_needs_neither_name_nor_folder(saved, tmp_path, kind):
    model = TransformersModel(name=str(saved[0]), embedding_width=4) if kind == "vit" else new(kind)
    assert isinstance(model, Published)
    assert isinstance(model, SelfContained)
    target = {"_target_": "fedemb.models.transformers_model.TransformersModel", "embedding_width": 4}
    spec, params = {**target, **model.settings()}, fresh_params(model, 3)
    check_rebuilds(spec, model)
    save_model(tmp_path, backbone=spec, params=params, about={})
    assert str(saved[0]) not in (tmp_path / "config.json").read_text()
    torch.testing.assert_close(load_model(tmp_path)(IMAGES), embed(model, params, IMAGES))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "set model.name"),
        ({"name": "nobody/nothing"}, "model.name=nobody/nothing: "),
        ({"config": {"model_type": "nonsense"}}, "nonsense"),
        ({"config": {"model_type": "convnext", "hidden_sizes": [8]}}, "index out of range"),
        ({"config": {"model_type": "bert", "hidden_size": 8, "num_attention_heads": 1}}, "input_ids, not images"),
    ],
)
def test_mistakes_are_one_line(settings, words):
    with pytest.raises(ValueError) as caught:
        TransformersModel(embedding_width=4, **settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_of_a_named_model_can_be_replaced_but_not_made_up(saved):
    grown = TransformersModel(name=str(saved[0]), config={"image_size": 12}, embedding_width=4)
    assert grown(torch.zeros(2, 1, 12, 12)).shape == (2, 4)
    with pytest.raises(ValueError, match=r"weights of model\.name=.*"):
        grown.published()  # positions for 2 x 2 patches
    with pytest.raises(ValueError, match=r"model\.config\.image_sise is no key of ViTConfig"):
        TransformersModel(name=str(saved[0]), config={"image_sise": 12}, embedding_width=4)


def test_without_the_library_it_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"transformers is needed.*pip install 'fedemb\[transformers\]'"):
        TransformersModel(name="x", embedding_width=4)
