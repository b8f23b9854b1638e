"""What an executor asks of the device that it works on: how much fits, and how batches get there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from fedemb.core.params import to
from fedemb.core.types import Batch

_CACHES_GIB = 3 / 64  # what the caches of a CPU's core hold, more or less: a chunk that fits is fastest
_UNMEASURED_GIB = 2.0
_SHARE = 0.5  # of a GPU's free memory; the rest is for libraries, gaps, and what is made outside of the steps
_QUEUED = 4  # batches: with one the device would wait for each, and more take memory for nothing


class Place(ABC):
    """A device and the way to it."""

    @abstractmethod
    def gib(self) -> float:
        """What a chunk of clients may hold now, in 2^30 bytes, beside what the device holds already."""

    @abstractmethod
    def bring(self, batch: Batch) -> Batch:
        """A batch in ordinary memory to the device; kernels that are started from now on find it there."""


@dataclass(frozen=True, kw_only=True)
class Direct(Place):
    """A device that shares memory with us, or that we know nothing more about."""

    device: torch.device
    fits_gib: float

    def gib(self) -> float:
        """As set."""
        return self.fits_gib

    def bring(self, batch: Batch) -> Batch:
        """When it is there; no copy on a CPU."""
        return to(batch, self.device)


class Driver(ABC):
    """A device that works through what it is given while we go on."""

    @abstractmethod
    def free_bytes(self) -> int:
        """Memory that nobody uses."""

    @abstractmethod
    def send(self, batch: Batch) -> Batch:
        """Start to copy a batch, beside whatever the device is doing; what is given to it from now on waits for it."""

    @abstractmethod
    def mark(self) -> Callable[[], None]:
        """Waits until the device has done all that it had been given by now."""


@dataclass(frozen=True, kw_only=True)
class Busy(Place):
    """A device that batches travel to while it works on earlier ones.

    queued: it is so many batches behind at most, so that they take a bounded part of its memory and of ours.
    """

    driver: Driver
    queued: int = _QUEUED
    _marks: deque[Callable[[], None]] = field(default_factory=deque, init=False, repr=False, compare=False)

    def gib(self) -> float:
        """A part of what is free."""
        return _SHARE * self.driver.free_bytes() / 2**30

    def bring(self, batch: Batch) -> Batch:
        """On its way."""
        self._marks.append(self.driver.mark())
        if len(self._marks) > self.queued:
            self._marks.popleft()()
        return self.driver.send(batch)


class Cuda(Driver):
    """A GPU of NVIDIA's, or of AMD's by the same names."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._way = device, torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def free_bytes(self) -> int:
        """What no process has, and what PyTorch keeps here for us to use again."""
        kept = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        return torch.cuda.mem_get_info(self._device)[0] + kept

    def send(self, batch: Batch) -> Batch:
        """From page-locked memory, on a stream of its own."""
        working = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._way):
            sent = {name: _pinned(value).to(self._device, non_blocking=True) for name, value in batch.items()}
        working.wait_stream(self._way)
        for value in sent.values():
            value.record_stream(working)  # or its memory would be taken again by a later batch too early
        return sent

    def mark(self) -> Callable[[], None]:
        """By an event on the stream that the work is on."""
        wait: Callable[[], None] = torch.cuda.current_stream(self._device).record_event().synchronize
        return wait


def _pinned(value: Tensor) -> Tensor:
    """In page-locked memory without gaps: a copy of a value with gaps would wait."""
    return torch.empty_like(value, pin_memory=True).copy_(value)


@cache
def place_of(device: torch.device) -> Place:
    """The place where tensors of this device are."""
    if device.type == "cuda":
        return Busy(driver=Cuda(device))
    return Direct(device=device, fits_gib=_CACHES_GIB if device.type == "cpu" else _UNMEASURED_GIB)
