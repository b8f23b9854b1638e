"""How much memory a client needs, counted rather than guessed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fedemb.client.work import ClientWork
from fedemb.core.types import Batch, Params, VirtualClient


class _CountBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums the bytes of every tensor that is made inside; an upper bound of the peak, as nothing is seen freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor):
                self.total += value.numel() * value.element_size()
        return result


def step_bytes(work: ClientWork, shared: Params, client: VirtualClient, batches: Batch) -> int:
    """An upper bound of the bytes that one client holds: its batches, its state and all that one step makes.

    batches: [S, B, ...]; with S = 0 only the state counts. The step runs once and its result is dropped.
    """
    counter = _CountBytes()
    with counter:
        state = work.begin(shared, client)
        params = sum(value.numel() * value.element_size() for value in state.params.values())
        if len(batches["mask"]):
            work.step(shared, state, {name: value[0] for name, value in batches.items()})
    data = sum(value.numel() * value.element_size() for value in batches.values())
    return max(1, counter.total + params + data)
