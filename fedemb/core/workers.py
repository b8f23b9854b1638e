"""One function applied by workers: results in the order of the items, bounded memory, and a death that is told."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

from fedemb.core import check
from fedemb.core.worker_process import WorkerProcesses

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers(Generic[Item, Result]):
    """Workers that apply one function; to be closed, or used as a context.

    Made by `alone`, `threads` or `processes`, which give the same results in the same order. Threads and processes
    start with the first item.
    """

    def __init__(
        self, submit: Callable[[Item], Future[Result]], count: int, close: Callable[[], None] = lambda: None
    ) -> None:
        self._submit, self._count, self._close = submit, count, close

    @classmethod
    def alone(cls, function: Callable[[Item], Result]) -> Workers[Item, Result]:
        """No worker: each item is worked on when its result is asked for."""

        def submit(item: Item) -> Future[Result]:
            future: Future[Result] = Future()
            future.set_result(function(item))
            return future

        return cls(submit, 0)

    @classmethod
    def threads(cls, function: Callable[[Item], Result], count: int) -> Workers[Item, Result]:
        """`count` threads: for functions that spend their time outside of Python, and need no copying."""
        check.at_least("workers", count, 1)
        executor = ThreadPoolExecutor(count, thread_name_prefix="fedemb-worker")
        return cls(
            lambda item: executor.submit(function, item),
            count,
            lambda: executor.shutdown(wait=True, cancel_futures=True),
        )

    @classmethod
    def processes(cls, function: Callable[[Item], Result], count: int) -> Workers[Item, Result]:
        """`count` processes, started afresh; function, items and results are pickled, the function once a worker.

        Raises: ValueError in one line if the function cannot be pickled.
        """
        check.at_least("workers", count, 1)
        try:
            pickled = pickle.dumps(function)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise ValueError(f"worker processes cannot have what cannot be pickled: {error}; take threads") from error
        executor = ThreadPoolExecutor(2 * count, thread_name_prefix="fedemb-worker")  # two feed a process
        processes = WorkerProcesses(pickled, count)

        def close() -> None:
            executor.shutdown(wait=False, cancel_futures=True)
            processes.stop()
            executor.shutdown(wait=True)

        return cls(lambda item: executor.submit(processes.apply, item), count, close)

    def map(
        self,
        items: Iterable[Item],
        *,
        ahead: int = 0,
        size: Callable[[Item], int] = lambda item: 0,
        bytes_ahead: int = 0,
    ) -> Iterator[Result]:
        """function(item) for every item, in order, while `ahead` more than there are workers wait to be taken.

        size: of an item's result in bytes, about; those that are worked on or wait to be taken have at most
            `bytes_ahead` together, or there is only one.
        Raises: what the function raised, when it is that item's turn; DeadWorkerError if a worker process died.
        """
        waiting: deque[Future[Result]] = deque()
        sizes: deque[int] = deque()
        most = self._count + ahead if self._count else 0  # without workers, nobody works ahead

        def taken() -> Result:
            sizes.popleft()
            return waiting.popleft().result()

        try:
            for item in items:
                own = size(item)
                while waiting and sum(sizes) + own > bytes_ahead:
                    yield taken()
                sizes.append(own)
                waiting.append(self._submit(item))
                if len(waiting) > most:
                    yield taken()
            while waiting:
                yield taken()
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """Let go of the workers: a thread finishes what it is working on, a process is ended, results are dropped."""
        self._close()

    def __enter__(self) -> Workers[Item, Result]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
