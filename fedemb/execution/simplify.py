"""Fewer calls and less memory for the same numbers: a small step takes as long in calls and copies as in kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, fx
from torch._ops import OpOverload, OpOverloadPacket

aten = torch.ops.aten


class Layout(NamedTuple):
    """Where a tensor lies."""

    storage: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    dtype: torch.dtype


Layouts: TypeAlias = dict[fx.Node, Layout]


def simplified(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> fx.GraphModule:
    """A graph of aten operators without mutations, changed in place, for inputs of these shapes and strides, so that

    - each call is made once with the same arguments,
    - a view of a view is taken from the first tensor, and none where nothing changes,
    - what is not used is not computed,
    - an entry-wise operator writes over an argument that nobody needs afterwards.
    """
    _share(graph.graph)
    _shorten_views(graph.graph, _layouts(graph, inputs))
    _share(graph.graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    _reuse(graph.graph, _layouts(graph, inputs))
    graph.graph.lint()
    graph.recompile()
    return graph


class _Look(fx.Interpreter):
    """Runs a graph and notes where each result lies; storages are numbered, and a view has its argument's number."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.found: Layouts = {}

    def run_node(self, n: fx.Node) -> Any:
        given = {_storage(self.env[arg]): self.found[arg].storage for arg in n.all_input_nodes if arg in self.found}
        result = super().run_node(n)
        if isinstance(result, Tensor):
            number = given.get(_storage(result), len(self.found))
            shape, strides = tuple(result.shape), result.stride()
            self.found[n] = Layout(number, shape, strides, int(result.storage_offset()), result.dtype)
        return result


def _storage(value: Tensor) -> int:
    """The same for tensors that share memory; may come back once they are gone."""
    return int(value.untyped_storage()._cdata)


def _layouts(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> Layouts:
    look = _Look(graph)
    look.run(*inputs)
    return look.found


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


def _reuse(graph: fx.Graph, layouts: Layouts) -> None:
    """Let entry-wise operators write their result over an argument whose memory is not read again."""
    nodes = list(graph.nodes)
    last_use: dict[int, int] = {}
    for place, node in enumerate(nodes):
        last_use |= {layouts[arg].storage: place for arg in node.all_input_nodes if arg in layouts}
    given = {layouts[node].storage for node in nodes if node.op != "call_function" and node in layouts}
    for place, node in enumerate(nodes):
        if node.op != "call_function" or node not in layouts:
            continue
        ours = layouts[node]
        for position, arg in enumerate(node.args):
            theirs = layouts.get(arg) if isinstance(arg, fx.Node) else None
            if theirs is None or theirs[1:] != ours[1:] or not _is_dense(ours):
                continue
            free = theirs.storage not in given and last_use[theirs.storage] == place
            variant = _writing_over(node.target, position) if free else None
            if variant is not None:
                node.target, name = variant
                node.kwargs = node.kwargs if name is None else {**node.kwargs, name: arg}
                last_use[theirs.storage] = last_use.get(ours.storage, place)
                _rename(layouts, ours.storage, theirs.storage)
                break


def _rename(layouts: Layouts, old: int, new: int) -> None:
    """A result lies from now on where its argument lay."""
    for node, layout in layouts.items():
        if layout.storage == old:
            layouts[node] = layout._replace(storage=new)


def _is_dense(layout: Layout) -> bool:
    """Is every entry in a place of its own, without gaps?"""
    expected = 1
    for stride, size in sorted(zip(layout.strides, layout.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def _writing_over(target: Any, position: int) -> tuple[OpOverload[..., Any], str | None] | None:
    """The same entry-wise operator that writes over the argument at this position, and the name of the argument that
    says where to (None: it always writes over its first); None if there is none that saves the copy.
    """
    if not isinstance(target, OpOverload) or torch.Tag.pointwise not in target.tags:
        return None
    packet, wanted = target.overloadpacket, _signature(target)
    for overload in _overloads(packet):
        out = [argument.name for argument in overload._schema.arguments if argument.is_out]
        if len(out) == 1 and _signature(overload) == wanted and torch.Tag.generated not in overload.tags:
            return overload, out[0]
    over_first = getattr(aten, f"{packet.__name__}_", None) if position == 0 else None
    for overload in [] if over_first is None else _overloads(over_first):
        if _signature(overload) == wanted:
            return overload, None
    return None


def _overloads(packet: OpOverloadPacket[..., Any]) -> list[OpOverload[..., Any]]:
    """By getattr and no other way: `__getattr__` makes a new operator and frees the one that PyTorch still points to."""
    return [getattr(packet, name) for name in packet.overloads()]


def _signature(operator: OpOverload[..., Any]) -> list[tuple[str, str]]:
    """Names and types of what goes in."""
    return [(a.name, str(a.type)) for a in operator._schema.arguments if not a.is_out]
