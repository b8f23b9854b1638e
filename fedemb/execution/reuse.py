"""Results written where something lies that nobody needs any more: memory that a kernel finds in the caches."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload, OpOverloadPacket
from torch.fx.node import map_arg

from fedemb.execution.layouts import Layouts, last_uses

aten = torch.ops.aten


def part_results(graph: fx.Graph, layouts: Layouts, spent: Collection[fx.Node]) -> None:
    """Give every result of the graph memory of its own, or that of a spent input."""
    taken = {layouts[node].storage for node in graph.nodes if node.op == "placeholder" and node not in spent}
    [output] = graph.find_nodes(op="output")

    def part(result: fx.Node) -> fx.Node:
        if layouts[result].storage not in taken:
            taken.add(layouts[result].storage)
            return result
        with graph.inserting_before(output):
            return graph.call_function(aten.clone.default, (result,))

    output.args = map_arg(output.args, part)


def reuse(graph: fx.Graph, layouts: Layouts, spent: Collection[fx.Node]) -> None:
    """Let operators write over an argument whose memory is not read again; over that of an input only if it is spent.

    Changes the layouts: a result lies from then on where its argument lay.
    """
    last_use = last_uses(graph, layouts)
    kept = {
        layouts[node].storage
        for node in graph.nodes
        if node.op != "call_function" and node in layouts and node not in spent
    }
    for place, node in enumerate(graph.nodes):
        if node.op != "call_function" or node not in layouts:
            continue
        for position, arg in enumerate(node.args):
            theirs = layouts.get(arg) if isinstance(arg, fx.Node) else None
            if theirs is None or theirs.storage in kept or last_use[theirs.storage] != place:
                continue
            variant = _writing_over(node.target, position) if _can_take(node, position, layouts) else None
            if variant is not None:
                node.target, name = variant
                node.kwargs = node.kwargs if name is None else {**node.kwargs, name: arg}
                ours = layouts[node].storage
                last_use[theirs.storage] = last_use.get(ours, place)
                _rename(layouts, ours, theirs.storage)
                break


def _can_take(node: fx.Node, position: int, layouts: Layouts) -> bool:
    """Would a result lie just as the argument at this position, and does no other argument reach into its memory?"""
    ours, theirs = layouts[node], layouts[node.args[position]]  # type: ignore[index]
    if theirs[1:] != ours[1:] or not ours.is_dense:
        return False
    others = [layouts[arg] for arg in node.all_input_nodes if arg in layouts and arg is not node.args[position]]
    alike = all(other == theirs for other in others if other.storage == theirs.storage)
    return alike if _is_entry_wise(node.target) else all(other.storage != theirs.storage for other in others)


def _rename(layouts: Layouts, old: int, new: int) -> None:
    for node, layout in layouts.items():
        if layout.storage == old:
            layouts[node] = layout._replace(storage=new)


def _is_entry_wise(target: Any) -> bool:
    return isinstance(target, OpOverload) and torch.Tag.pointwise in target.tags


def _writing_over(target: Any, position: int) -> tuple[OpOverload[..., Any], str | None] | None:
    """The same operator that writes over the argument at this position, and the name of the argument that says where
    to (None: it always writes over its first); None if there is none that saves the copy.
    """
    if target is aten.baddbmm.default and position == 0:
        return aten.baddbmm_.default, None
    if target is aten.max_pool2d_with_indices_backward.default and position == 1:  # of what was pooled, only the shape
        return aten.max_pool2d_with_indices_backward.grad_input, "grad_input"
    if not _is_entry_wise(target):
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
    """By getattr and no other way: `__getattr__` frees the operator that PyTorch points to and makes a new one."""
    names = packet.overloads()  # type: ignore[no-untyped-call]
    return [getattr(packet, name) for name in names]


def _signature(operator: OpOverload[..., Any]) -> list[tuple[str, str]]:
    """Names and types of what goes in."""
    return [(a.name, str(a.type)) for a in operator._schema.arguments if not a.is_out]
