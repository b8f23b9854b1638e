"""ReLU behind a max-pool instead of before it: the same numbers from a quarter of the entries, or fewer."""

from __future__ import annotations

from operator import getitem

import torch
from torch import fx

aten = torch.ops.aten

_RELU, _POOL = aten.relu.default, aten.max_pool2d_with_indices.default
_RELU_BACKWARD, _POOL_BACKWARD = aten.threshold_backward.default, aten.max_pool2d_with_indices_backward.default


def pool_before_relu(graph: fx.Graph) -> None:
    """Change pool(relu(x)) to relu(pool(x)), with its gradient, wherever nothing else reads relu(x).

    The values are the same, as max and ReLU commute. So are the gradients: one passes where the greatest entry of a
    window is positive, and then it is the greatest, and the first of equals, with ReLU and without.
    """
    for relu in graph.find_nodes(op="call_function", target=_RELU):
        pools = [user for user in relu.users if user.target is _POOL]
        if len(pools) != 1:
            continue
        [pool] = pools
        values = [user for user in pool.users if user.target is getitem and user.args[1] == 0]
        backward = [user for user in relu.users if user is not pool]
        if len(values) == 1 and (not backward or _is_gradient_of(pool, relu, backward)):
            _swap(graph, relu, pool, values[0], backward)


def _is_gradient_of(pool: fx.Node, relu: fx.Node, found: list[fx.Node]) -> bool:
    """Are these the gradients of this pool and of this ReLU, one straight after the other?"""
    by_target = {node.target: node for node in found}
    if len(found) != 2 or by_target.keys() != {_POOL_BACKWARD, _RELU_BACKWARD}:
        return False
    of_pool, of_relu = by_target[_POOL_BACKWARD], by_target[_RELU_BACKWARD]
    indices = of_pool.args[-1]
    same_pool = isinstance(indices, fx.Node) and indices.target is getitem and indices.args == (pool, 1)
    return same_pool and list(of_pool.users) == [of_relu] and of_relu.args == (of_pool, relu, 0)


def _swap(graph: fx.Graph, relu: fx.Node, pool: fx.Node, values: fx.Node, backward: list[fx.Node]) -> None:
    before = relu.args[0]
    pool.replace_input_with(relu, before)  # type: ignore[arg-type]
    with graph.inserting_after(values):
        after = graph.call_function(_RELU, (values,))
    values.replace_all_uses_with(after, delete_user_cb=lambda user: user is not after)
    for of_pool in (node for node in backward if node.target is _POOL_BACKWARD):
        [of_relu] = of_pool.users
        with graph.inserting_before(of_pool):
            gradient = graph.call_function(_RELU_BACKWARD, (of_pool.args[0], after, 0))
        of_pool.args = (gradient, before, *of_pool.args[2:])
        of_relu.replace_all_uses_with(of_pool)
        graph.erase_node(of_relu)
    graph.erase_node(relu)
