"""Canaries: orthogonal unit vectors that a clipping leaves in their direction."""

import numpy as np
import pytest
import torch

from fedemb.core.params import flatten, norm
from fedemb.privacy.canaries import Canaries
from fedemb.privacy.clipping import FlatClipping, PerLayerClipping
from fedemb.privacy.discrete import GridClipping

LIKE = {"a.weight": torch.zeros(30, 10), "a.bias": torch.zeros(30), "b.weight": torch.zeros(200)}
CLIPPINGS = {
    "flat": FlatClipping(clip_norm=0.5),
    "per layer": PerLayerClipping(clip_norm=0.5, weights={"a": 3.0}),
    "grid": GridClipping.from_multiplier(clip_norm=0.5, noise_multiplier=1.0, bits=16),
}


def drawn(clipping, count=10):
    return Canaries.draw(clipping=clipping, like=LIKE, count=count, rng=np.random.default_rng(0))


@pytest.mark.parametrize("name", CLIPPINGS)
def test_a_clipped_canary_moves_the_sum_by_one_clip_norm_along_its_direction(name):
    clipping, coins = CLIPPINGS[name], torch.tensor([1.0, -1.0] * 5, dtype=torch.float64)
    canaries = drawn(clipping)
    for canary in range(10):
        sent = canaries.update([canary], coins, 0.5)
        assert norm(sent) == pytest.approx(5.0)  # ten clip norms
        clipped, _ = clipping(sent)
        seen = canaries.project({key: value.double() for key, value in clipped.items()}) * clipping.unit / 0.5
        expected = torch.zeros(10, dtype=torch.float64)
        expected[canary] = coins[canary]
        assert torch.allclose(seen, expected, atol=2e-3)


def test_directions_are_orthogonal_unit_vectors_that_use_every_parameter():
    canaries = drawn(CLIPPINGS["flat"], count=7)
    ones = torch.ones(7, dtype=torch.float64)
    vectors = torch.stack([flatten(canaries.update([canary], ones, 0.1)) for canary in range(7)])
    assert torch.allclose(vectors @ vectors.T, torch.eye(7, dtype=torch.float64), atol=1e-12)
    assert (vectors != 0).sum(0).eq(1).all()


def test_as_many_canaries_as_parameters_and_no_more():
    assert drawn(CLIPPINGS["flat"], count=530).count == 530
    with pytest.raises(ValueError, match="canaries must be at most the 530 parameters"):
        drawn(CLIPPINGS["flat"], count=531)
