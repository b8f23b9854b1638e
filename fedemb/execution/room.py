"""How many virtual clients fit into memory at once: what was free at the start, and what shows when they do not fit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch

from fedemb.execution.executor import TooLargeError

Item = TypeVar("Item")
Result = TypeVar("Result")


_RAN_OUT = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def ran_out(error: RuntimeError) -> bool:
    """Is it that a device's memory is full? PyTorch's allocator has a class for it, CUDA's libraries have words."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _RAN_OUT)


class Room:
    """Gives work in parts, which are halved from then on whenever one does not fit; stderr says so each time."""

    def __init__(self) -> None:
        self._halved, self._most = 0, 0
        self._gib: float | None = None

    def record(self) -> dict[str, float]:
        """What was found so far."""
        halved: dict[str, float] = {"halved": self._halved, "most": self._most} if self._halved else {}
        return halved if self._gib is None else {**halved, "gib": self._gib}

    def restore(self, record: Mapping[str, float]) -> None:
        """Have the room that another one found."""
        self._halved, self._most = int(record.get("halved", 0)), int(record.get("most", 0))
        self._gib = record.get("gib")

    def gib(self, measure: Callable[[], float]) -> float:
        """What there was when this was first asked."""
        if self._gib is None:
            self._gib = measure()
        return self._gib

    def in_parts(
        self,
        items: Sequence[Item],
        run: Callable[[Sequence[Item]], Result],
        halvings: int,
        let_go: Callable[[], None],
    ) -> Iterator[Result]:
        """run(part) for consecutive parts of the items, one for each virtual client; one that fails gives nothing.

        halvings: how many are allowed, over all calls.
        let_go: gives back memory that a part of that size has left behind.
        Raises: TooLargeError if a single client does not fit, or the halvings are used up.
        """
        start = 0
        while start < len(items):
            part = items[start : start + (self._most or len(items))]
            try:
                result = run(part)
            except RuntimeError as error:  # dealt with below, when the failed run's frames are gone
                if not ran_out(error):
                    raise
                fits = False
            else:
                fits = True
            if fits:
                yield result
                start += len(part)
            else:
                self._halve(len(part), halvings)
                let_go()

    def _halve(self, clients: int, halvings: int) -> None:
        if clients == 1:
            raise TooLargeError(
                "one virtual client does not fit into the device's memory: lower batching.batch_size, or take a "
                "smaller model"
            )
        if self._halved == halvings:
            raise TooLargeError(
                f"{clients} virtual clients at once do not fit into the device's memory: lower executor.memory_gib, or "
                "batching.batch_size"
            )
        self._halved, self._most = self._halved + 1, -(-clients // 2)
        print(
            f"fedemb: out of memory with {clients} virtual clients at once: at most {self._most} from now on; "
            "executor.memory_gib sets a bound",
            file=sys.stderr,
        )
