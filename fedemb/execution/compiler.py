"""New kernels made of a graph of operators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import cast

import torch
from torch import Tensor, fx


class Compiler(ABC):
    """Turns a graph into a function that does the same."""

    @abstractmethod
    def check(self, device: torch.device) -> None:
        """Raise ValueError in one line if it cannot work here for this device."""

    @abstractmethod
    def compiled(self, graph: fx.GraphModule) -> Callable[..., list[Tensor]]:
        """The graph, which is without mutations, as a function of tensors that lie as they did when it was traced."""


@dataclass(frozen=True, kw_only=True)
class TorchCompile(Compiler):
    """torch.compile. backend: of its; "inductor" makes C++ on a CPU and Triton on a GPU."""

    backend: str = "inductor"

    def check(self, device: torch.device) -> None:
        """Where there is a C++ compiler, or Triton."""
        missing = _missing(device.type)
        if missing is not None:
            raise ValueError(f"kernels=compiled needs {missing}, or take kernels=plain")

    def compiled(self, graph: fx.GraphModule) -> Callable[..., list[Tensor]]:
        """Compiled when it is first called, for exactly those shapes."""
        return cast(
            Callable[..., list[Tensor]], torch.compile(graph, backend=self.backend, fullgraph=True, dynamic=False)
        )


@cache
def _missing(device: str) -> str | None:
    """What PyTorch's compiler lacks for this type of device, and how to mend it."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler
    from torch.utils._triton import has_triton

    if device != "cpu":
        return None if has_triton() else f"Triton for device={device}, which PyTorch does not find: install it"
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "a C++ compiler, which PyTorch does not find: install g++, or name one by the environment variable CXX"
    return None
