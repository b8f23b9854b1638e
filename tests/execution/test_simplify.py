"""A simplified graph computes the same with fewer calls, and touches neither its inputs nor PyTorch's operators."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from fedemb.execution.simplify import in_place, simplified

aten = torch.ops.aten


def graph_of(function, *inputs):
    return in_place(simplified(make_fx(function)(*inputs), inputs), inputs)


def calls(graph):
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


def test_an_equal_call_is_made_once_and_an_unused_one_never():
    def wasteful(x):
        x.exp()
        return x.cos() * 2 + x.cos() * 3

    x = torch.randn(4)
    graph = graph_of(wasteful, x)
    assert sum(aten.cos in (call.overloadpacket,) for call in calls(graph)) == 1
    assert not any(call.overloadpacket is aten.exp for call in calls(graph))
    torch.testing.assert_close(graph(x), 5 * x.cos())


def test_a_view_that_changes_nothing_is_not_taken():
    x = torch.randn(3, 4)
    graph = graph_of(lambda x: x.t().t().add(1), x)
    assert [call.overloadpacket for call in calls(graph)] == [aten.add]
    torch.testing.assert_close(graph(x), x + 1)


def test_memory_is_reused_between_results_and_never_that_of_an_input():
    x = torch.randn(5)
    before = x.clone()
    graph = graph_of(lambda x: x.mul(3).add(1).mul(x), x)
    for _ in range(2):
        torch.testing.assert_close(graph(x), (before * 3 + 1) * before)
        torch.testing.assert_close(x, before, rtol=0, atol=0)
    assert sum("out" in call._overloadname or call.__name__.split(".")[0].endswith("_") for call in calls(graph)) == 2


def test_a_value_that_is_read_again_keeps_its_memory():
    x = torch.randn(5)
    graph = graph_of(lambda x: (lambda y: y.mul(2) + y)(x.exp()), x)
    torch.testing.assert_close(graph(x), 3 * x.exp())


@pytest.mark.parametrize("read_again", [False, True])
def test_a_pools_gradient_takes_the_memory_of_what_was_pooled_unless_it_is_read_again(read_again):
    def pooled_sum(x):
        y = x.mul(2)
        values, indices = aten.max_pool2d_with_indices(y, [2, 2])
        gradient = aten.max_pool2d_with_indices_backward(values, y, [2, 2], [2, 2], [0, 0], [1, 1], False, indices)
        return gradient + y if read_again else gradient

    x = torch.randn(1, 3, 4, 4)
    graph = graph_of(pooled_sum, x)
    over = [call for call in calls(graph) if call is aten.max_pool2d_with_indices_backward.grad_input]
    assert len(over) == (not read_again)
    torch.testing.assert_close(graph(x), pooled_sum(x))


@pytest.mark.parametrize("part", [lambda y: y[:1], lambda y: y[:, :1], lambda y: y.t(), lambda y: y.diagonal()])
def test_a_value_that_is_also_read_in_part_or_in_another_order_keeps_its_memory(part):
    """y - y[:1] written over y would take the later rows from a first row that is zero already."""
    x = torch.randn(4, 4)
    graph = graph_of(lambda x: (lambda y: y - part(y))(x.mul(3)), x)
    torch.testing.assert_close(graph(x), 3 * x - part(3 * x))


def test_pytorch_keeps_its_own_operators():
    operators = {name: getattr(aten.mul, name) for name in aten.mul.overloads()}
    x = torch.randn(5)
    graph_of(lambda x: x.mul(3).mul(x), x)
    assert all(getattr(aten.mul, name) is operator for name, operator in operators.items())
