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


def client_bytes(work: ClientWork, shared: Params, client: VirtualClient, batches: Batch) -> int:
    """An upper bound of what one client holds while it steps: a batch, its state and all that the step makes.

    Counted on a batch of zeros, so that it depends on shapes alone and never on a client's data.
    batches: [S, B, ...], any S, on the device of the parameters.
    """
    zeros = {name: value.new_zeros(value.shape[1:]) for name, value in batches.items()}
    counter = _CountBytes()
    with counter:
        state = work.begin(shared, client)
        work.step(shared, state, zeros)
    held = [*state.params.values(), *zeros.values()]
    return counter.total + sum(value.numel() * value.element_size() for value in held)
