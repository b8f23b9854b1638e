"""Processes that apply one function to what a pipe brings them, and end with the process that started them.

Each has a pipe of its own, so that a death shows as the end of that pipe, even in the middle of a result: nobody waits
for a lock or for bytes that a dead process has taken along.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

_SECONDS_TO_DIE = 10.0


class DeadWorkerError(RuntimeError):
    """A worker process died before its work was done; says how in one line."""


class WorkerProcesses:
    """A few worker processes with the same function, to be fed by twice as many threads.

    Two threads share a process, so that the next item is in its pipe when it has sent a result off.
    """

    def __init__(self, pickled: bytes, count: int) -> None:
        """pickled: the function."""
        self._pickled, self._count = pickled, count
        self._lock, self._stopped = threading.Lock(), False
        self._mine, self._feeders, self._all = threading.local(), 0, list[_WorkerProcess]()

    def apply(self, item: Any) -> Any:
        """function(item) by the calling thread's process, which is started at its first item.

        Raises: what the function raised, with the worker's traceback as a note; DeadWorkerError.
        """
        if not hasattr(self._mine, "process"):
            self._mine.process = self._assigned()
        process: _WorkerProcess = self._mine.process
        return process.apply(item)

    def stop(self) -> None:
        """End all processes, whatever they are doing, and start none any more."""
        with self._lock:
            self._stopped = True
            for process in self._all:
                process.stop()

    def _assigned(self) -> _WorkerProcess:
        """The first threads start a process each, the others share them."""
        with self._lock:
            if self._stopped:
                raise RuntimeError("the worker processes have been stopped")
            number = self._feeders % self._count
            self._feeders += 1
            if number == len(self._all):
                self._all.append(_WorkerProcess(self._pickled))
            return self._all[number]


class _WorkerProcess:
    def __init__(self, pickled: bytes) -> None:
        """Started from a thread that serves nothing else: it blocks Ctrl-C, and the process inherits that."""
        context = multiprocessing.get_context("spawn")
        resource_tracker.ensure_running()  # its start would unblock Ctrl-C again
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, pickled), name="fedemb-worker", daemon=True)
        self._process.start()
        theirs.close()
        self._sending, self._answered = threading.Lock(), threading.Event()
        self._answered.set()

    def apply(self, item: Any) -> Any:
        """Answers come in the order of the items: each thread waits for the answer to the item before its own."""
        sent = pickle.dumps(item)
        with self._sending:
            before, self._answered = self._answered, threading.Event()
            mine, failed = self._answered, self._send_off(sent)
        before.wait()
        try:
            head, buffers = _receive(self._pipe)
        except (EOFError, OSError) as error:
            raise DeadWorkerError(f"a worker process {self._end()}; if memory ran out, take fewer workers") from (
                failed or error
            )
        finally:
            mine.set()
        result, raised = pickle.loads(head, buffers=buffers)
        if raised is not None:
            raise raised
        return result

    def _send_off(self, sent: bytes) -> OSError | None:
        """Of a process that is dead, what sending raised; receiving will find it out, after what it still answered."""
        try:
            self._pipe.send_bytes(sent)
        except OSError as error:
            return error
        return None

    def stop(self) -> None:
        self._process.terminate()
        self._process.join()

    def _end(self) -> str:
        """How the process ended."""
        self._process.join(_SECONDS_TO_DIE)
        code = self._process.exitcode
        if code is None:
            return "closed its pipe"
        return f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code} ({_signal(-code)})"


def _signal(number: int) -> str:
    return signal.strsignal(number) or "unknown"


def _serve(pipe: Connection, pickled: bytes) -> None:
    """In the worker process: answer what the pipe brings until it ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        function = pickle.loads(pickled)
    except Exception as error:
        function = _raising(error)
    while True:
        try:
            message = pipe.recv_bytes()
        except EOFError:
            return
        _send(pipe, *_answer(function, message))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _raising(error: Exception) -> Callable[[Any], Any]:
    def function(item: Any) -> Any:
        raise error

    return function


def _answer(function: Callable[[Any], Any], message: bytes) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """(result, None) or (None, what was raised), pickled, and the large buffers that are in it."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        answer = function(pickle.loads(message)), None
        return pickle.dumps(answer, protocol=5, buffer_callback=buffers.append), buffers
    except Exception as error:
        return pickle.dumps((None, _portable(error))), []


def _portable(error: Exception) -> Exception:
    """The error with its traceback as a note; another one with its words if it does not survive pickling."""
    error.add_note("in a worker process:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _send(pipe: Connection, head: bytes, buffers: list[pickle.PickleBuffer]) -> None:
    """Large buffers go as they are, without a copy in a pickle."""
    views = [buffer.raw() for buffer in buffers]
    pipe.send((head, [view.nbytes for view in views]))
    for view in views:
        while view.nbytes:
            view = view[os.write(pipe.fileno(), view) :]


def _receive(pipe: Connection) -> tuple[bytes, list[bytearray]]:
    """What `_send` has sent. Raises: EOFError or OSError if the pipe ends before."""
    head, sizes = pipe.recv()
    buffers = [bytearray(size) for size in sizes]
    for buffer in buffers:
        view = memoryview(buffer)
        while view.nbytes:
            count = os.readv(pipe.fileno(), [view])
            if not count:
                raise EOFError("the pipe ended in the middle of a result")
            view = view[count:]
    return head, buffers
