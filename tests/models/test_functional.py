"""Modules as functions: no hidden state in, none out."""

import pytest
import torch
from small import Conv
from torch import nn

from fedemb.models.functional import call, fresh_params, refuse_buffers


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.BatchNorm2d(4), r"layer 'body\.1' \(BatchNorm2d\).*GroupNorm"),
        (nn.InstanceNorm2d(4, track_running_stats=True), r"layer 'body\.1' \(InstanceNorm2d\).*GroupNorm"),
        (Counter(), r"layer 'body\.1' \(Counter\).*buffer 'seen'.*remove it"),
    ],
)
def test_state_besides_parameters_is_refused_by_layer(layer, words):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 4, 3), layer)

    with pytest.raises(ValueError, match=words) as raised:
        refuse_buffers(Model())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("layer", [nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.BatchNorm2d(4, track_running_stats=False)])
def test_layers_without_state_pass(layer):
    refuse_buffers(nn.Sequential(nn.Conv2d(1, 4, 3), layer))


def test_fresh_params_are_reproducible_and_differ_by_seed():
    model = Conv()
    one, again, other = fresh_params(model, 1), fresh_params(model, 1), fresh_params(model, 2)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["conv.weight"], other["conv.weight"])
    assert one.keys() == dict(model.named_parameters()).keys()


def test_fresh_params_do_not_depend_on_the_modules_own_values():
    """A module that was trained, or was made under another global seed, must start alike."""
    model = Conv()
    wanted = fresh_params(model, 1)
    with torch.no_grad():
        for value in model.parameters():
            value.fill_(7.0)
    found = fresh_params(model, 1)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_fresh_params_leave_module_and_global_generator_alone():
    model = Conv()
    values = {name: value.detach().clone() for name, value in model.named_parameters()}
    before = torch.get_rng_state()
    fresh = fresh_params(model, 3)
    assert torch.equal(before, torch.get_rng_state())
    for value in fresh.values():
        value.add_(100)
    assert all(torch.equal(value, values[name]) for name, value in model.named_parameters())
    assert not any(value.requires_grad for value in fresh.values())


def test_a_parents_initialiser_has_the_last_word():
    class Gentle(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def reset_parameters(self):
            nn.init.constant_(self.inner.bias, 0.25)

    assert fresh_params(Gentle(), 0)["inner.bias"].tolist() == [0.25, 0.25]


def test_call_uses_the_given_parameters():
    model = Conv()
    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    own = dict(model.named_parameters())
    torch.testing.assert_close(call(model, own, images), model(images))
    zeros = {name: torch.zeros_like(value) for name, value in own.items()}
    assert not call(model, zeros, images).any()


def test_call_refuses_missing_names():
    """A forgotten parameter would silently come from the module."""
    model = Conv()
    some = {name: value for name, value in model.named_parameters() if name != "conv.bias"}
    with pytest.raises(RuntimeError, match=r"conv\.bias"):
        call(model, some, torch.zeros(1, 1, 8, 8))
