"""Ways to run a list of kernel calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, fx

from fedemb.execution.compiler import Compiler, TorchCompile
from fedemb.execution.layouts import empty_alike
from fedemb.execution.recorder import Gpu, Recorder
from fedemb.execution.simplify import in_place

Kernels: TypeAlias = Callable[..., list[Tensor]]
"""Tensors in, tensors out. What comes out is good until the next call, which may be given it."""


class Launch(ABC):
    """A way to run the graph of a local step, again and again, with inputs of the same layouts."""

    @abstractmethod
    def check(self, device: torch.device) -> None:
        """Raise ValueError in one line if this cannot be done here for parameters on this device."""

    @abstractmethod
    def ready(self, graph: fx.GraphModule, inputs: Sequence[Tensor], spent: Collection[int]) -> Kernels:
        """The graph, as `simplify.simplified` leaves it, to be called with tensors that lie like these inputs.

        spent: numbers of the inputs, no two of which share memory, that a call may write over.
        """


@dataclass(frozen=True, kw_only=True)
class Plain(Launch):
    """Kernel by kernel, each result in memory that nobody needs any more where there is such."""

    def check(self, device: torch.device) -> None:
        """Everywhere."""

    def ready(self, graph: fx.GraphModule, inputs: Sequence[Tensor], spent: Collection[int]) -> Kernels:
        """The graph itself, changed."""
        return in_place(graph, inputs, spent)


@dataclass(frozen=True, kw_only=True)
class Compiled(Launch):
    """Operators fused into new kernels, which takes seconds to a minute for each layout of the inputs."""

    compiler: Compiler = TorchCompile()

    def check(self, device: torch.device) -> None:
        """Where the compiler is."""
        self.compiler.check(device)

    def ready(self, graph: fx.GraphModule, inputs: Sequence[Tensor], spent: Collection[int]) -> Kernels:
        """Compiled by the first call. The compiler plans memory by itself, and only that of its own tensors."""
        return self.compiler.compiled(graph)


@dataclass(frozen=True, kw_only=True)
class CudaGraphs(Launch):
    """Recorded once and replayed as one call of the GPU's: for steps so small that calling takes longer than computing.

    of: how the kernels run that are recorded.
    """

    of: Launch = Plain()
    recorder: Recorder = Gpu()

    def check(self, device: torch.device) -> None:
        """On a GPU, where `of` can run."""
        self.recorder.check(device)
        self.of.check(device)

    def ready(self, graph: fx.GraphModule, inputs: Sequence[Tensor], spent: Collection[int]) -> Kernels:
        """A recording, with memory of its own for the inputs that are read, and for results."""
        read = [bool(node.users) for node in graph.graph.find_nodes(op="placeholder")]
        return _Recording(self.of.ready(graph, inputs, spent), inputs, read, self.recorder)


class _Recording:
    """Kernels that always read from, and write to, the same memory.

    A result that is handed to the next call lies, as a rule, where that call reads it: nothing is moved then.
    """

    def __init__(self, kernels: Kernels, inputs: Sequence[Tensor], read: Sequence[bool], recorder: Recorder) -> None:
        self._inputs = [
            empty_alike(value).zero_() if is_read else value.new_empty(0)
            for value, is_read in zip(inputs, read, strict=True)
        ]
        self._read = read
        self._results, self._replay = recorder.record(lambda: kernels(*self._inputs))
        self._storages = {_storage(value) for value in self._inputs}

    def __call__(self, *given: Tensor) -> list[Tensor]:
        pairs = zip(self._inputs, given, self._read, strict=True)
        moves = [(place, value) for place, value, is_read in pairs if is_read and not _lie_alike(place, value)]
        # A result may lie where another one is about to be moved to.
        sources = [value.clone() if _storage(value) in self._storages else value for _, value in moves]
        for (place, _), value in zip(moves, sources, strict=True):
            place.copy_(value)
        self._replay()
        return list(self._results)


def _storage(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()


def _lie_alike(left: Tensor, right: Tensor) -> bool:
    return left.data_ptr() == right.data_ptr() and left.stride() == right.stride()
