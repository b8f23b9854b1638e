"""BatchNorm to GroupNorm: what is replaced, what it computes, what stays and what is said."""

import pytest
import torch
from torch import nn

from fedemb.models.functional import refuse_buffers
from fedemb.models.normalisation import GroupNormalised


class Acting(nn.BatchNorm2d):
    """As timm's BatchNormAct2d: its forward is norm, drop, act."""

    def __init__(self, channels):
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.ReLU()


def model():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6, eps=0.25), nn.Sequential(nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4))
    )


def test_each_becomes_a_group_norm_with_its_scale_shift_and_epsilon():
    changed = model()
    nn.init.constant_(changed[1].weight, 3.0)
    nn.init.constant_(changed[1].bias, -1.0)
    said = GroupNormalised(groups=4).apply(changed)
    images = torch.randn(2, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    maps = changed[0](images)
    parts = maps.reshape(2, 3, 2, 3, 3)  # 4 does not divide 6: 3 groups of 2 channels
    mean, variance = parts.mean((2, 3, 4), keepdim=True), parts.var((2, 3, 4), correction=0, keepdim=True)
    wanted = ((parts - mean) / (variance + 0.25).sqrt()).reshape(maps.shape) * 3.0 - 1.0
    torch.testing.assert_close(changed[1](maps), wanted)
    refuse_buffers(changed)
    assert changed[2][1].num_groups == 4
    assert said == "normalisation: 2 BatchNorm layers became GroupNorm: * (1), *.* (1)"


def test_names_and_parameters_stay():
    before, changed = model(), model()
    GroupNormalised(groups=2).apply(changed)
    assert [name for name, _ in changed.named_parameters()] == [name for name, _ in before.named_parameters()]


def test_a_norm_that_also_activates_still_does():
    changed = nn.Sequential(Acting(4))
    GroupNormalised(groups=2).apply(changed)
    values = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(changed(values), nn.GroupNorm(2, 4)(values).relu())
    assert [name for name, _ in changed.named_parameters()] == ["0.weight", "0.bias"]


def test_without_a_batch_norm_it_says_so():
    assert "nothing was replaced" in GroupNormalised(groups=2).apply(nn.Sequential(nn.GroupNorm(2, 4)))


def test_flat_features_and_no_affine():
    changed = nn.Sequential(nn.BatchNorm1d(6, affine=False))
    GroupNormalised(groups=2).apply(changed)
    row = torch.tensor([[0.0, 1.0, 2.0, 3.0, 5.0, 7.0]])
    scale = torch.tensor([2 / 3, 8 / 3]).add(1e-5).sqrt().repeat_interleave(3)
    torch.testing.assert_close(changed(row), (row - torch.tensor([[1.0] * 3 + [5.0] * 3])) / scale)


def test_groups_must_be_positive():
    with pytest.raises(ValueError, match="groups=0"):
        GroupNormalised(groups=0)
