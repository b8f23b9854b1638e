"""Where the tensors of a graph lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, fx


class Layout(NamedTuple):
    """Where a tensor lies."""

    storage: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    dtype: torch.dtype

    @property
    def is_dense(self) -> bool:
        """Is every entry in a place of its own, without gaps?"""
        expected = 1
        for stride, size in sorted(zip(self.strides, self.shape, strict=True)):
            if size != 1:
                if stride != expected:
                    return False
                expected *= size
        return True


Layouts: TypeAlias = dict[fx.Node, Layout]


def layouts_of(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> Layouts:
    """Of every node that is a tensor, found by running the graph, which must not write over anything."""
    look = _Look(graph)
    look.run(*inputs)
    return look.found


def empty_alike(value: Tensor) -> Tensor:
    """In the same layout, gaps included."""
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)


def last_uses(graph: fx.Graph, layouts: Layouts) -> dict[int, int]:
    """Storage -> the place in the list of the last node that reads it."""
    found: dict[int, int] = {}
    for place, node in enumerate(graph.nodes):
        found |= {layouts[arg].storage: place for arg in node.all_input_nodes if arg in layouts}
    return found


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
