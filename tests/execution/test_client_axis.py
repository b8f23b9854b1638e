"""One client's graph over many clients: every operator with a rule against vmap, and what goes without a rule."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import avg_pool2d, dropout, max_pool2d, one_hot
from torch.utils._pytree import tree_leaves

from fedemb.execution.capture import Captured
from fedemb.execution.capture import over_clients as over_clients_by
from fedemb.execution.client_axis import PerClient, _for_norms, weave
from fedemb.execution.launch import Plain

CLIENTS, IMAGES = 3, 4
over_clients = partial(over_clients_by, launch=Plain())


class Net(nn.Module):
    """A layer of every kind that has a rule, and some that have none."""

    def __init__(self, kind):
        super().__init__()
        parts = {"plain": 1, "groups": 2, "transposed": 1, "depthwise": 4, "strided": 1, "no bias": 1}[kind]
        make = nn.ConvTranspose2d if kind == "transposed" else nn.Conv2d
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        stride = 2 if kind == "strided" else 1
        self.second = make(4, 4, 3, stride=stride, padding=1, groups=parts, bias=kind != "no bias")
        self.norm = nn.GroupNorm(2, 4)
        self.output = nn.LazyLinear(5)

    def forward(self, images):
        maps = max_pool2d(nn.functional.relu(self.first(images), inplace=True), 2)
        maps = avg_pool2d(self.norm(self.second(maps)).tanh(), 2)
        return self.output(maps.flatten(1))


def stacked(value, stream):
    return torch.randn(CLIENTS, *value.shape, generator=stream, dtype=torch.float64)


def gradient(model, params, images):
    """d/d params of a loss that every output enters by its own weight."""

    def loss(params):
        outputs = functional_call(model, params, (images,))
        return (outputs.square() * torch.arange(1.0, 6.0, dtype=torch.float64)).sum()

    return grad(loss)(params)


@pytest.mark.parametrize("kind", ["plain", "groups", "transposed", "depthwise", "strided", "no bias"])
@pytest.mark.parametrize("frozen", [(), ("first.weight", "norm.bias"), ("second.weight", "output.weight")])
def test_gradients_equal_vmap(kind, frozen):
    """Channels or clients swapped where they lie side by side, and parameters that are the same for all clients."""
    stream, model = torch.Generator().manual_seed(0), Net(kind).double()
    model(torch.zeros(1, 2, 8, 8, dtype=torch.float64))
    params = {name: value.detach() for name, value in model.named_parameters()}
    common = {name: value for name, value in params.items() if name in frozen}
    own = {name: stacked(value, stream) for name, value in params.items() if name not in frozen}
    images = torch.randn(CLIENTS, IMAGES, 2, 8, 8, generator=stream, dtype=torch.float64)

    def one(common, own, images):
        found = gradient(model, {**common, **own}, images)
        return {name: found[name] for name in own}

    found = over_clients(one, common, own, images)(*tree_leaves((common, own, images)))
    wanted = vmap(one, in_dims=(None, 0, 0))(common, own, images)
    torch.testing.assert_close(found, list(wanted.values()), rtol=1e-10, atol=1e-10)


def test_inputs_are_left_alone_and_results_are_their_own():
    """Memory is written over only where nobody else can see it."""
    value = torch.randn(CLIENTS, 4, generator=torch.Generator().manual_seed(0))
    before = value.clone()

    def one(common, value):
        twice = value + value
        return twice, twice.relu(), (value.relu() + 1).relu()

    run = over_clients(one, {}, value)
    first = run(value)
    kept = [result.clone() for result in first]
    run(-value)
    assert torch.equal(value, before)
    torch.testing.assert_close(first, kept, rtol=0, atol=0)
    wanted = [2 * value, (2 * value).relu(), value.relu() + 1]
    torch.testing.assert_close(first, wanted, rtol=0, atol=0)
    assert all(result.is_contiguous() for result in first)


def test_inputs_with_gaps_in_memory():
    """A step's batch is a slice of all steps; a layout mistaken for another would read a neighbour's images."""
    whole = torch.randn(CLIENTS, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    part = whole[:, 2]

    def one(common, images):
        return images.transpose(0, 1).flatten() * 2, images.T.reshape(3, 8).sum(0)

    run = over_clients(one, {}, part)
    for step in (0, 2, 4):
        wanted = vmap(lambda images: one({}, images))(whole[:, step])
        torch.testing.assert_close(run(whole[:, step]), list(wanted))


def test_a_result_that_is_the_same_for_all_clients_is_repeated():
    [found] = over_clients(lambda common, own: common["w"] * 3, {"w": torch.ones(2)}, torch.zeros(CLIENTS))(
        torch.ones(2), torch.zeros(CLIENTS)
    )
    assert found.tolist() == [[3.0, 3.0]] * CLIENTS


@pytest.mark.parametrize(("dtype", "channels_last"), [(torch.bfloat16, True), (torch.float32, False)])
def test_images_lie_as_kernels_like_them(dtype, channels_last):
    """Beside a CPU, where the channels come last in any case: for matrix units only, which take 16 bits."""
    images = torch.empty(CLIENTS, IMAGES, 2, 8, 6, dtype=dtype, device="meta")
    wanted = (CLIENTS * 2 * 48, 1, 6 * CLIENTS * 2, CLIENTS * 2) if channels_last else (CLIENTS * 2 * 48, 48, 6, 1)
    assert weave(PerClient(images)).stride() == wanted


def test_group_norms_elsewhere_than_on_a_cpu_get_channels_first():
    """PyTorch's GPU kernel refuses channels last, and its gradient takes them for something else."""
    for device in ("cpu", "meta"):
        woven = weave(PerClient(torch.empty(3, 2, 4, 5, 6, dtype=torch.bfloat16, device=device)))
        assert not woven.is_contiguous()
        assert _for_norms(woven).is_contiguous() == (device == "meta")


def test_results_have_the_dtype_that_one_client_has():
    """A norm of 16-bit numbers with weights of 32 bits, some the same for all, is taken apart by vmap and widened."""

    def one(common, weight, images):
        return torch.nn.functional.group_norm(images.bfloat16(), 2, weight, common["bias"])

    weight, images = torch.ones(CLIENTS, 4), torch.randn(CLIENTS, IMAGES, 4, 2, 2)
    [found] = over_clients(one, {"bias": torch.zeros(4)}, weight, images)(torch.zeros(4), weight, images)
    assert found.dtype == one({"bias": torch.zeros(4)}, weight[0], images[0]).dtype == torch.bfloat16


def test_random_numbers_within_a_step_are_refused():
    """A captured draw would be shared by all clients."""
    with pytest.raises(ValueError, match="draws random numbers"):
        over_clients(lambda common, own: dropout(own), {}, torch.ones(CLIENTS, 4))


@pytest.mark.parametrize(
    "needs_values",
    [
        lambda common, own: own if float(own.sum()) > 0 else -own,
        lambda common, own: own[own > 0],
        lambda common, own: one_hot(own.long(), 4),
    ],
)
def test_a_step_that_needs_values_is_refused_in_one_line(needs_values):
    line = (
        r"^a local step does what cannot be done for several clients at once \(.*\): take executor=sequential, or .*$"
    )
    with pytest.raises(ValueError, match=line):
        over_clients(needs_values, {}, torch.ones(CLIENTS, 4))
    with pytest.raises(RuntimeError, match="size of tensor a"):  # any other mistake stays what it is
        over_clients(lambda common, own: own + torch.ones(3), {}, torch.ones(CLIENTS, 4))


def test_capture_is_kept_by_shapes_strides_names_and_purpose():
    kept, made = Captured(), []
    value, about = torch.zeros(2, 3), object()

    def get(what, about, names, *inputs):
        return kept.get(what, about, names, inputs, lambda: made.append(what) or len(made))

    assert get("step", about, ("a",), value) == get("step", about, ("a",), torch.ones(2, 3)) == 1
    others = [
        get("rest", about, ("a",), value),
        get("step", object(), ("a",), value),
        get("step", about, ("b",), value),
        get("step", about, ("a",), value.T.contiguous().T),
        get("step", about, ("a",), value.double()),
    ]
    assert others == [2, 3, 4, 5, 6]
    assert get("step", about, ("a",), value) == 1
