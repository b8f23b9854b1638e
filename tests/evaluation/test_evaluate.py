"""Names, pass-through and configuration of the evaluation."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from fedemb.evaluation.evaluate import EmbeddingEvaluation, embed

CONF = Path(__file__).parents[2] / "conf" / "evaluation" / "verification.yaml"


def test_names_and_values_of_a_perfect_model():
    metrics = EmbeddingEvaluation().measure(torch.eye(3)[[0, 0, 1, 1, 2, 2]], torch.tensor([5, 5, 6, 6, 7, 7]))
    assert metrics == {
        "recall@far=0.001": 1.0,
        "recall@far=0.1": 1.0,
        "auc": 1.0,
        "recall@1": 1.0,
        "recall@5": 1.0,
        "map@r": 1.0,
    }


def test_one_image_gives_json_nulls():
    metrics = EmbeddingEvaluation(fars=(0.01,), ks=(1,)).measure(torch.ones(1, 2), torch.tensor([0]))
    assert json.loads(json.dumps(metrics, allow_nan=False)) == {
        "recall@far=0.01": None,
        "auc": None,
        "recall@1": None,
        "map@r": None,
    }


def test_the_configuration_builds_the_defaults():
    built = instantiate(OmegaConf.load(CONF))
    assert isinstance(built, EmbeddingEvaluation)
    assert (tuple(built.fars), tuple(built.ks)) == ((1e-3, 1e-1), (1, 5))


@pytest.mark.parametrize("bad", [{"fars": [1.0]}, {"ks": [0]}, {"block_size": 0}])
def test_bad_settings_are_refused_at_birth(bad):
    with pytest.raises(ValueError, match="must"):
        EmbeddingEvaluation(**bad)


def test_embed_normalises_in_order_and_without_gradients():
    weight = torch.tensor(2.0, requires_grad=True)
    batches = [torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([[math.nan, 1.0]])]
    rows = embed(lambda images: images * weight, batches)
    torch.testing.assert_close(rows.clone(), torch.tensor([[0.6, 0.8], [0.0, 1.0], [0.0, 0.0]]))
    assert not rows.requires_grad


def test_embed_without_images_says_so():
    with pytest.raises(ValueError, match="at least one batch"):
        embed(lambda images: images, [])
