"""The next virtual clients are read and decoded by workers while the current ones train.

What is loaded, and in which order, does not depend on the workers: none, threads or processes, few or many.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import TracebackType

import numpy as np
import torch

from fedemb.core import check
from fedemb.core.types import Batch, VirtualClient
from fedemb.core.workers import Workers

LoadOne = Callable[[VirtualClient], Batch]
"""A virtual client -> its batches; a pure function, called from any thread."""

Packed = dict[str, tuple[torch.dtype, tuple[int, ...], np.ndarray]]
"""A Batch as dtype, shape and bytes [k] uint8: arrays leave a process without a copy on the way, tensors do not."""


class Prefetch:
    """Virtual clients -> their batches, in the order asked for. Its workers last over the rounds; to be closed.

    Made by `none`, `threads` or `processes`. Pickled, it arrives as it was made: with workers of its own, not started.
    waited: seconds for which a caller has waited for batches so far, all calls together; None before it asks for any.
    """

    waited: float | None

    def __init__(
        self,
        stream: Callable[[Sequence[VirtualClient]], Iterator[Batch]],
        close: Callable[[], None],
        again: Callable[[], Prefetch],
    ) -> None:
        """again: makes another one like this."""
        self._stream, self._close, self._again, self.waited = stream, close, again, None

    def __reduce__(self) -> tuple[Callable[[], Prefetch], tuple[()]]:
        return self._again, ()

    def __call__(self, clients: Sequence[VirtualClient]) -> Iterator[Batch]:
        """The batches of one client after the other.

        Raises: what loading a client raises, at its turn; DeadWorkerError if a worker process died.
        """
        stream = self._stream(clients)
        for _ in clients:
            started = time.perf_counter()
            batches = next(stream)
            self.waited = (self.waited or 0.0) + time.perf_counter() - started
            yield batches

    def close(self) -> None:
        """Let go of the workers."""
        self._close()

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def none(load: LoadOne) -> Prefetch:
    """Each client is loaded when its turn has come: the least memory."""
    workers = Workers.alone(load)
    return Prefetch(workers.map, workers.close, partial(none, load))


def threads(load: LoadOne, *, workers: int, ahead: int) -> Prefetch:
    """Loaded by threads: for data whose reading and decoding happens outside of Python, as in most libraries.

    ahead: so many clients wait in memory, beside those that train and one for each worker.
    """
    check.at_least("ahead", ahead, 0)
    torch.get_num_threads()  # fixes the caller's own number before a worker's first call can lower the default
    pool = Workers.threads(_OneThread(load), workers)
    again = partial(threads, load, workers=workers, ahead=ahead)
    return Prefetch(lambda clients: pool.map(clients, ahead=ahead), pool.close, again)


def processes(load: LoadOne, *, workers: int, ahead: int) -> Prefetch:
    """Loaded by processes, each with its own copy of the data set: for data whose reading or decoding is Python code.

    ahead: so many clients wait in memory, beside those that train and one for each worker.
    Raises: ValueError in one line if the data set or a transform cannot be pickled.
    """
    check.at_least("ahead", ahead, 0)
    pool = Workers.processes(_Packing(_OneThread(load)), workers)
    again = partial(processes, load, workers=workers, ahead=ahead)
    return Prefetch(lambda clients: map(_unpack, pool.map(clients, ahead=ahead)), pool.close, again)


class _OneThread:
    """Loads with a single thread of PyTorch's in the calling worker: the cores belong to the training."""

    def __init__(self, load: LoadOne) -> None:
        self._load = load

    def __call__(self, client: VirtualClient) -> Batch:
        if torch.get_num_threads() != 1:
            torch.set_num_threads(1)  # of this thread alone
        return self._load(client)


class _Packing:
    """Loads and packs, in a worker process."""

    def __init__(self, load: LoadOne) -> None:
        self._load = load

    def __call__(self, client: VirtualClient) -> Packed:
        return {
            name: (value.dtype, tuple(value.shape), value.contiguous().reshape(-1).view(torch.uint8).numpy())
            for name, value in self._load(client).items()
        }


def _unpack(packed: Packed) -> Batch:
    """The same values, over the bytes that arrived."""
    return {
        name: torch.from_numpy(content).view(dtype).reshape(shape) for name, (dtype, shape, content) in packed.items()
    }
