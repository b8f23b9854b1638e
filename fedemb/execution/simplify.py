"""Fewer calls and less memory for the same numbers: a small step takes as long in calls and copies as in kernels."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, fx

from fedemb.execution.layouts import Layouts, last_uses, layouts_of
from fedemb.execution.reuse import part_results, reuse

aten = torch.ops.aten


def simplified(graph: fx.GraphModule, inputs: Sequence[Tensor], spent: Collection[int] = ()) -> fx.GraphModule:
    """A graph of aten operators without mutations, changed in place, for inputs of these shapes and strides, so that

    - each call is made once with the same arguments,
    - a view of a view is taken from the first tensor, and none where nothing changes,
    - what is not used is not computed.

    spent: numbers of the inputs, no two of which share memory, that may be given away: the results share memory with
        one another and with other inputs nowhere, so that they can be such inputs of the next call.
    """
    _share(graph.graph)
    _shorten_views(graph.graph, layouts_of(graph, inputs))
    _share(graph.graph)
    graph.graph.eliminate_dead_code()
    part_results(graph.graph, layouts_of(graph, inputs), _numbered(graph, spent))
    return _finished(graph)


def in_place(graph: fx.GraphModule, inputs: Sequence[Tensor], spent: Collection[int] = ()) -> fx.GraphModule:
    """The same of a simplified graph, so that

    - a matrix product that is added to a spent input is added by the product's own kernel,
    - an entry-wise operator writes over an argument that nobody needs afterwards.
    """
    free = _numbered(graph, spent)
    _add_by_product(graph.graph, layouts_of(graph, inputs), free)
    graph.graph.eliminate_dead_code()
    reuse(graph.graph, layouts_of(graph, inputs), free)
    return _finished(graph)


def _numbered(graph: fx.GraphModule, numbers: Collection[int]) -> list[fx.Node]:
    """The inputs with these numbers."""
    return [node for number, node in enumerate(graph.graph.find_nodes(op="placeholder")) if number in numbers]


def _finished(graph: fx.GraphModule) -> fx.GraphModule:
    graph.graph.lint()
    graph.recompile()
    return graph


def _share(graph: fx.Graph) -> None:
    """Replace every call that was made before with the same arguments."""
    seen: dict[str, fx.Node] = {}
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        first = seen.setdefault(f"{node.target} {node.args} {node.kwargs}", node)
        if first is not node:
            node.replace_all_uses_with(first)
            graph.erase_node(node)


def _shorten_views(graph: fx.Graph, layouts: Layouts) -> None:
    """Replace a view by the tensor that it views if they lie alike, or else by one call on that tensor."""
    owners: dict[int, fx.Node] = {}
    for node in list(graph.nodes):
        if node not in layouts:
            continue
        layout = layouts[node]
        owner = owners.setdefault(layout.storage, node)
        if owner is node or node.op != "call_function" or layout.offset != layouts[owner].offset:
            continue
        if layout == layouts[owner]:
            node.replace_all_uses_with(owner)
        elif layout.dtype == layouts[owner].dtype:
            with graph.inserting_before(node):
                view = graph.call_function(aten.as_strided.default, (owner, layout.shape, layout.strides))
            node.replace_all_uses_with(view)


def _add_by_product(graph: fx.Graph, layouts: Layouts, spent: Collection[fx.Node]) -> None:
    """value + s rate (left right), of a spent value that is not read again, as one product that adds (s rate left).

    Shapes: value [c, n, k], rate [c, 1, 1], left [c, n, b], right [c, b, k]; the product [c, n, k] is never written.
    """
    last_use = last_uses(graph, layouts)
    for place, node in enumerate(list(graph.nodes)):
        if node.target is not aten.addcmul.default:
            continue
        value, product, rate = node.args
        is_product = product.target is aten.bmm.default and len(product.users) == 1
        if not is_product or value not in spent or last_use[layouts[value].storage] != place:
            continue
        left, right = product.args
        one_rate = layouts[rate].shape[1:] == (1, 1)
        if one_rate and layouts[left].shape[2] < layouts[right].shape[2]:
            with graph.inserting_before(node):
                scaled = graph.call_function(aten.mul.Tensor, (left, rate))
                added = graph.call_function(
                    aten.baddbmm.default, (value, scaled, right), {"alpha": node.kwargs.get("value", 1)}
                )
            node.replace_all_uses_with(added)
