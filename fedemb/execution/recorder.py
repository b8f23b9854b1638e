"""Kernels noted down once and started again all together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

_WARM_UP = 3  # calls in which libraries choose kernels and take memory, neither of which may happen while recording


class Recorder(ABC):
    """Records what a function makes a device do."""

    @abstractmethod
    def check(self, device: torch.device) -> None:
        """Raise ValueError in one line if this device's work cannot be recorded."""

    @abstractmethod
    def record(self, run: Callable[[], list[Tensor]]) -> tuple[list[Tensor], Callable[[], None]]:
        """(results, replay): `replay()` does all again on the tensors that `run` works on, into the same results.

        What `run` reads may have been written over by then, and the results have no values yet.
        """


@dataclass(frozen=True, kw_only=True)
class Gpu(Recorder):
    """By a CUDA graph (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs)."""

    def check(self, device: torch.device) -> None:
        """On a GPU only."""
        if device.type != "cuda":
            raise ValueError(
                f"kernels=cuda_graphs needs a GPU, got parameters on device={device}: take device=cuda where there is "
                "one, or kernels=plain"
            )

    def record(self, run: Callable[[], list[Tensor]]) -> tuple[list[Tensor], Callable[[], None]]:
        """On a stream of its own, after calls to warm up."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        pool, stream = _workshop()
        with torch.cuda.graph(graph, pool=pool, stream=stream):
            results = run()
        _ALIVE.add(graph)
        return results, graph.replay


_ALIVE: WeakSet[Any] = WeakSet()
_WORKSHOP: list[Any] = []


def _workshop() -> list[Any]:
    """Memory in which all recordings of this process work, as never two of them run at once, and where they are made.

    Anew when none is left: the memory goes with the last one, but for what libraries keep there for the stream.
    """
    if not _ALIVE:
        _WORKSHOP[:] = torch.cuda.graph_pool_handle(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    return _WORKSHOP
