"""timm's models by a stand-in for the library, which is optional."""

import sys

import fake_timm
import pytest
import torch

from fedemb.models.functional import refuse_buffers
from fedemb.models.normalisation import GroupNormalised
from fedemb.models.timm_model import TimmModel
from fedemb.tasks.embedding import EmbeddingTask
from fedemb.tasks.heads import SoftmaxHead
from fedemb.tasks.start import PublishedStart


@pytest.fixture
def timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", fake_timm)


def test_features_and_a_linear_layer_without_dropout(timm):
    model = TimmModel(name="fake", channels=1, embedding_width=4)
    GroupNormalised(groups=2).apply(model)
    refuse_buffers(model)
    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.train()(images), model.embedding(model.body.norm(model.body.conv(images)).mean((2, 3))))


def test_published_weights_are_declared(timm):
    model = TimmModel(name="fake", channels=1, embedding_width=4, arguments={"drop_rate": 0.0})
    assert not bool((model.body.conv.weight == torch.pi).any())
    GroupNormalised(groups=2).apply(model)
    task = EmbeddingTask(backbone=model, head=SoftmaxHead(), embedding_width=4, local_classes=3)
    params = PublishedStart(provenance="public").params(task, 3)
    assert bool((params["body.conv.weight"] == torch.pi).all())
    assert torch.equal(params["embedding.weight"], task.init(3)["embedding.weight"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "other"}, "model.name=other: Unknown model (other)"),
        ({"name": "fake", "arguments": {"depth": 3}}, "model.name=fake: .*depth"),
        ({"name": "fake", "channels": 0}, "channels=0"),
    ],
)
def test_mistakes_are_one_line(timm, settings, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(").replace(")", r"\)")):
        TimmModel(embedding_width=4, **settings)


def test_without_the_library_it_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"timm is needed.*pip install 'fedemb\[timm\]'"):
        TimmModel(name="fake", embedding_width=4)
