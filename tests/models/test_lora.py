"""Low-rank adapters: zero at the start, the stated product later, merged without a difference."""

import pytest
import torch
from small import Conv, make_cohort, make_load, make_work
from torch import nn

from fedemb.execution.executor import Sequential
from fedemb.execution.vectorised import Vectorised
from fedemb.models.functional import call, fresh_params
from fedemb.models.lora import LowRank, is_adapter, merged
from fedemb.privacy.clipping import FlatClipping
from fedemb.tasks.embedding import EmbeddingTask
from fedemb.tasks.heads import SoftmaxHead
from fedemb.testing import check_executor

IMAGES = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
ALL = LowRank(layers=["*"], rank=2, alpha=6.0)


def adapted(change=ALL, backbone=None):
    backbone = backbone or Conv()
    change.apply(backbone)
    return backbone


def drawn(backbone, seed=1):
    """Parameters with adapters that do something."""
    stream = torch.Generator().manual_seed(seed)
    return {name: torch.randn(value.shape, generator=stream) * 0.3 for name, value in backbone.named_parameters()}


def test_starts_as_the_model_without_adapters():
    params = fresh_params(adapted(), 3)
    plain = {name: value for name, value in params.items() if not is_adapter(name)}
    assert torch.equal(call(adapted(), params, IMAGES), call(Conv(), plain, IMAGES))
    assert all(torch.equal(plain[name], value) for name, value in merged(adapted(), params).items())
    assert params["conv.lora.down"].any()
    assert not params["conv.lora.up"].any()


def test_adds_scale_up_down_to_a_linear_layer():
    """Hu et al. 2022, eq. 3: h = W x + (alpha / r) B A x."""
    layer = adapted(LowRank(layers=["*"], rank=2, alpha=6.0), nn.Sequential(nn.Linear(5, 3)))
    params = drawn(layer)
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(2))
    weight = params["0.weight"] + 3.0 * params["0.lora.up"] @ params["0.lora.down"]
    torch.testing.assert_close(call(layer, params, x), x @ weight.T + params["0.bias"])


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(2, 5, (3, 2), stride=2, padding=(1, 0)), nn.Conv2d(2, 5, 3, padding="same", bias=False)]
)
def test_merged_weights_compute_the_same(layer):
    backbone = adapted(backbone=nn.Sequential(layer))
    params = drawn(backbone)
    images = torch.randn(2, 2, 7, 7, generator=torch.Generator().manual_seed(2))
    again = merged(backbone, params)
    assert again.keys() == {name for name in params if not is_adapter(name)}
    torch.testing.assert_close(call(nn.Sequential(layer), again, images), call(backbone, params, images))
    assert not torch.allclose(again["0.weight"], params["0.weight"], atol=1e-2)


def test_names_of_the_layers_stay_and_values_too():
    before = Conv()
    after = adapted(backbone=before)
    names = {name for name, _ in Conv().named_parameters()}
    more = {f"{layer}.lora.{part}" for layer in ("conv", "embedding") for part in ("down", "up")}
    assert {name for name, _ in after.named_parameters()} == names | more
    assert {name for name in names | more if is_adapter(name)} == more
    assert after.conv.lora.down.shape == (2, 1, 3, 3)


def test_patterns_choose_and_the_line_says_what():
    backbone = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.MultiheadAttention(4, 2))
    assert ALL.apply(backbone) == "adapter: rank 2 on 1 layers: * (1)"
    assert not any(is_adapter(name) for name, _ in backbone[1:].named_parameters())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layers": ["cov*"]}, "'cov*' matches no linear layer or ungrouped convolution; the backbone has conv, emb"),
        ({"layers": []}, "adapter.layers=[]"),
        ({"rank": 0}, "rank=0"),
        ({"alpha": 0.0}, "alpha=0.0"),
    ],
)
def test_mistakes_are_one_line(settings, words):
    with pytest.raises(ValueError) as caught:
        LowRank(**{"layers": ["*"], "rank": 2, "alpha": 1.0, **settings}).apply(Conv())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def work(trained=("*.lora.*",), learning_rate=0.3):
    task = EmbeddingTask(backbone=adapted(), head=SoftmaxHead(), embedding_width=4, local_classes=3, trained=trained)
    return make_work(task=task, learning_rate=learning_rate)


def test_only_adapters_travel_and_the_base_stays():
    found, _ = Sequential().clipped_sum(
        work(), FlatClipping(clip_norm=1.0), work().task.init(1), make_cohort((3, 5), (6, 8)), make_stream()
    )
    assert found.keys() == {"conv.lora.down", "conv.lora.up", "embedding.lora.down", "embedding.lora.up"}
    assert found["conv.lora.up"].any()
    assert found["embedding.lora.up"].any()


def test_clients_at_once_equal_clients_one_by_one():
    one = work(learning_rate=0.003)  # at a larger one norms reach a thousand, and float32 has no digits left for 1e-5
    shared = one.task.init(1)
    shared = {name: value + 0.1 * is_adapter(name) for name, value in shared.items()}  # both factors have gradients
    check_executor(Vectorised(), one, shared, make_cohort((3, 5), (6,)), make_load(), clip_norm=0.1)


def make_stream():
    load = make_load()
    return lambda clients: map(load, clients)
