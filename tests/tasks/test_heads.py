"""Heads: shapes, by hand, bounds and initial values."""

import math

import pytest
import torch

from fedemb.core.rng import generator
from fedemb.tasks.heads import CosineHead, SoftmaxHead, glorot


def test_softmax_head_by_hand():
    """[1, 2] against the rows [3, 4] and [5, -6]: 11 and -7."""
    logits = SoftmaxHead().logits({"head.weight": torch.tensor([[3.0, 4.0], [5.0, -6.0]])}, torch.tensor([[1.0, 2.0]]))
    assert logits.tolist() == [[11.0, -7.0]]


def test_cosine_head_by_hand():
    """[3, 4] against [10, 0] and [-3, -4], scale 5: 5 * 0.6 and 5 * -1."""
    params = {"head.weight": torch.tensor([[10.0, 0.0], [-3.0, -4.0]]), "head.scale": torch.tensor(5.0)}
    logits = CosineHead().logits(params, torch.tensor([[3.0, 4.0]]))
    torch.testing.assert_close(logits, torch.tensor([[3.0, -5.0]]))


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_cosine_logits_are_bounded_by_the_scale(size):
    stream = torch.Generator().manual_seed(0)
    params = {"head.weight": size * torch.randn(7, 4, generator=stream), "head.scale": torch.tensor(3.0)}
    logits = CosineHead().logits(params, torch.randn(100, 4, generator=stream) / size)
    assert logits.abs().max() <= 3.0 * (1 + 1e-6)
    assert logits.abs().max() > 2.5


def test_cosine_head_survives_a_zero_embedding():
    params = CosineHead().init(3, 4, generator(0, "head"))
    embedding = torch.zeros(1, 4, requires_grad=True)
    CosineHead().logits(params, embedding).sum().backward()
    assert embedding.grad.isfinite().all()


def test_initial_parameters():
    soft, cosine = (
        SoftmaxHead().init(5, 4, generator(1, "head")),
        CosineHead(initial_scale=7.0).init(5, 4, generator(1, "head")),
    )
    assert {name: list(value.shape) for name, value in cosine.items()} == {"head.weight": [5, 4], "head.scale": []}
    assert list(soft) == ["head.weight"]
    assert float(cosine["head.scale"]) == 7.0
    assert torch.equal(soft["head.weight"], cosine["head.weight"])


def test_glorot_is_uniform_within_its_bound():
    """Bound sqrt(6 / 500); the variance of a uniform is bound^2 / 3 (n = 6e4: 0.4 % at one standard error)."""
    weights = glorot(300, 200, generator(2, "head"))
    bound = math.sqrt(6 / 500)
    assert weights.dtype == torch.float32
    assert 0.999 * bound < weights.abs().max() <= bound
    assert float(weights.var()) == pytest.approx(bound**2 / 3, rel=0.02)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
def test_scale_must_be_positive(scale):
    with pytest.raises(ValueError, match="initial_scale"):
        CosineHead(initial_scale=scale)
