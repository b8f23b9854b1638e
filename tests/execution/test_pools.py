"""ReLU and a max-pool change places without changing a bit, and only where nothing else looks between them."""

from collections import Counter

import pytest
import torch
from torch.func import functionalize, grad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import conv2d, max_pool2d

from fedemb.execution.pools import pool_before_relu

aten = torch.ops.aten
SIZES = {"plain": {"kernel_size": 2}, "overlapping": {"kernel_size": 3, "stride": 1, "padding": 1}}


def images():
    """Whole numbers, so that windows have ties, and windows without a positive entry."""
    return torch.randint(-3, 3, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0)).float()


def traced(function, *inputs):
    graph = make_fx(functionalize(function))(*inputs)
    before = [value.clone() for value in graph(*inputs)]
    pool_before_relu(graph.graph)
    graph.graph.lint()
    graph.recompile()
    return graph, before


def gradients(pool):
    def loss(weight, image):
        return (pool(conv2d(image, weight).relu()) ** 2).sum()

    def both(weight, image):
        return [*grad(loss, argnums=(0, 1))(weight, image), loss(weight, image)]

    return both


@pytest.mark.parametrize("sizes", SIZES)
def test_values_and_gradients_are_the_same_bits(sizes):
    weight = torch.tensor([-1.0, 0.0, 1.0]).repeat(9).reshape(3, 3, 1, 3)
    inputs = (weight, images())
    graph, before = traced(gradients(lambda maps: max_pool2d(maps, **SIZES[sizes])), *inputs)
    assert all(torch.equal(now, then) for now, then in zip(graph(*inputs), before, strict=True))
    order = [node.target for node in graph.graph.nodes if node.target in (aten.relu.default, POOL)]
    assert order[:2] == [POOL, aten.relu.default]
    backward = [node for node in graph.graph.nodes if node.target is aten.threshold_backward.default]
    assert all(node.args[0].target is not aten.max_pool2d_with_indices_backward.default for node in backward)


POOL = aten.max_pool2d_with_indices.default


def test_what_is_read_between_them_stays():
    def read(image):
        maps = image.relu()
        return [max_pool2d(maps, 2), maps + 1]

    graph, before = traced(read, images())
    assert all(torch.equal(now, then) for now, then in zip(graph(images()), before, strict=True))
    assert next(node.target for node in graph.graph.nodes if node.target in (aten.relu.default, POOL)) is not POOL


def test_two_pools_of_one_relu_stay():
    graph, _ = traced(lambda image: [max_pool2d(image.relu(), 2) + max_pool2d(image.relu(), 2)], images())
    assert Counter(node.target for node in graph.graph.nodes)[aten.relu.default] == 2  # each has a pool of its own


def test_a_gradient_that_goes_elsewhere_too_stays():
    def loss(image):
        maps = image.relu()
        return (max_pool2d(maps, 2) ** 2).sum() + (maps**2).sum()

    graph, before = traced(lambda image: [grad(loss)(image)], images())
    assert torch.equal(graph(images())[0], before[0])
