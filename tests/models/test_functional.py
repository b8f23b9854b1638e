"""Modules as functions: no hidden state in, none out."""

import pytest
import torch
from small import Conv
from torch import nn

from fedemb.models.functional import bring_constants, call, fresh_params, refuse_buffers, seeded


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


class Attentive(nn.Module):
    """Has what fresh_params alone cannot draw: a parameter of its own; and a layer with _reset_parameters only."""

    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.randn(2, 4))
        self.attention = nn.MultiheadAttention(4, 2)
        self.out = nn.Linear(4, 4)


def start_of(seed, global_seed):
    torch.manual_seed(global_seed)
    with seeded(seed):
        model = Attentive()
    return fresh_params(model, seed)


def test_every_parameter_of_a_seeded_module_follows_from_the_seed():
    """A raw nn.Parameter kept whatever the process happened to draw: two runs of one seed had two starts."""
    one, again, other = start_of(1, 10), start_of(1, 11), start_of(2, 10)
    assert all(torch.equal(one[name], again[name]) for name in one)
    for name in ("position", "attention.in_proj_weight", "attention.out_proj.weight", "out.weight"):
        assert not torch.equal(one[name], other[name]), name


def test_what_the_constructor_draws_is_not_drawn_again():
    """One stream for both would make a raw parameter the twin of a layer's weights."""
    torch.manual_seed(0)
    with seeded(1):
        constructed = torch.rand(8)

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.value = nn.Parameter(torch.zeros(8))

        def reset_parameters(self):
            nn.init.uniform_(self.value)

    assert not torch.equal(fresh_params(Twin(), 1)["value"], constructed)


def test_layers_with_only_the_underscored_initialiser_are_drawn_anew():
    """MultiheadAttention: in_proj_weight is Xavier-uniform, |w| <= sqrt(6 / (4 + 12)), whatever the module holds."""
    layer = nn.MultiheadAttention(4, 2)
    nn.init.constant_(layer.in_proj_weight, 7.0)
    weight = fresh_params(layer, 1)["in_proj_weight"]
    assert 0 < weight.abs().max() <= (6 / 16) ** 0.5


def test_seeded_gives_the_global_generator_back_even_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), seeded(1):
        torch.rand(3).reshape(2)
    assert torch.equal(before, torch.get_rng_state())


def test_drawing_parameters_leaves_the_gpu_generators_alone(monkeypatch):
    """torch.manual_seed reseeds every GPU, now or when it is first used."""
    asked = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", asked.append)
    with seeded(1):
        model = Conv()
    fresh_params(model, 1)
    assert asked == []


class Table(nn.Module):
    """Constants as models of tokens have them, and a forward that writes on one."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("positions", torch.arange(2))
        self.register_buffer("frequencies", torch.ones(2), persistent=False)

    def forward(self, images):
        self.positions += 1
        self.frequencies.mul_(images.sum())
        return images * self.weight[self.positions - 1] * self.frequencies


def test_constants_pass_and_what_is_written_there_outlives_no_call():
    """One client's images would reach the next one's update."""
    model, images = Table(), torch.full((1, 2), 3.0)
    refuse_buffers(model)
    params = dict(model.named_parameters())
    for _ in range(2):
        assert call(model, params, images).tolist() == [[18.0, 18.0]]
    assert model.positions.tolist() == [0, 1]
    assert model.frequencies.tolist() == [1.0, 1.0]


def test_constants_are_brought_to_the_device_and_nothing_else_is():
    """Or each step would fetch them, and wait."""
    model = Table()
    bring_constants(model, torch.device("meta"))
    assert {value.device.type for value in model.buffers()} == {"meta"}
    assert {value.device.type for value in model.parameters()} == {"cpu"}
    assert list(model.state_dict()) == ["weight", "positions"]
