"""Virtual clients over the processes of torchrun: rank 0 runs the program, every rank trains its share of a round.

Rank 0 tells the others what to do. A round: all ranks get the clipping and the parameters, each trains its own virtual
clients with an inner executor and adds up their clipped updates, and one reduction brings the sum to rank 0. Ledger,
noise and files are rank 0's alone. Ranks are trusted, and so is the network between them: they see who was drawn and
what these send.
"""

from __future__ import annotations

import heapq
import os
import re
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from fedemb.client.work import ClientWork
from fedemb.core import check
from fedemb.core.params import flatten
from fedemb.core.types import Cohort, Diagnostics, Params, VirtualClient
from fedemb.core.worker_process import DeadWorkerError
from fedemb.execution.executor import Executor, Load, refuse_following_the_clock
from fedemb.privacy.clipping import Clipping

Result = TypeVar("Result")
Shapes = dict[str, tuple[int, ...]]

_PATIENTLY = timedelta(days=1000)  # a rank above 0 waits for rank 0, which may be measuring; its end shows at once
_SECONDS_TO_JOIN = 300.0


def leads() -> bool:
    """Is this rank 0?"""
    return os.environ.get("RANK", "0") == "0"


def ranks() -> int:
    """How many processes work together; 1 for a process that was started alone."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@contextmanager
def joined() -> Iterator[None]:
    """Be one of the ranks. At a good end of rank 0 the others hear None; at any other they find that it is gone.

    Raises: ValueError in one line if the environment or PyTorch does not allow it; DeadWorkerError if some rank does
        not come.
    """
    if not dist.is_available():
        raise ValueError("this PyTorch is built without torch.distributed: install another, or start without torchrun")
    missing = {"MASTER_ADDR", "MASTER_PORT"} - os.environ.keys()
    if missing:
        raise ValueError(f"RANK and WORLD_SIZE are set, but not {', '.join(sorted(missing))}: start with torchrun")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    with _lost():
        store, rank, size = next(rendezvous("env://", timeout=timedelta(seconds=_SECONDS_TO_JOIN)))
        store = PrefixStore(f"attempt {_attempt()}", store)
        store.set(f"rank {rank}", "here")
        store.wait([f"rank {other}" for other in range(size)], timedelta(seconds=_SECONDS_TO_JOIN))
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=_PATIENTLY)
    try:
        with _dismissed_at_a_good_end():
            yield
    finally:
        _group.cache_clear()
        dist.destroy_process_group()


def _attempt() -> str:
    """Which start of the group this is: a store outlives the ranks of one machine, and holds addresses of dead ones.

    Machines count restarts each for itself, and meet in a new store every time.
    """
    alone = os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if alone else "0"


@contextmanager
def _dismissed_at_a_good_end() -> Iterator[None]:
    """Rank 0 tells the others that there is nothing more to do, unless something is raised; exit code 0 is good."""
    left: SystemExit | None = None
    try:
        yield
    except SystemExit as leaving:
        left = leaving
    if leads() and (left is None or not left.code):
        tell(None, _SECONDS_TO_JOIN)
    if left is not None:
        raise left


def tell(message: Any, seconds: float) -> None:
    """From rank 0 to the others, which must `hear` it within these seconds. Raises: DeadWorkerError."""
    _meet(seconds)
    with _lost():
        dist.broadcast_object_list([message], src=0)


def hear() -> Any:
    """What rank 0 tells next, however long it takes. Raises: DeadWorkerError if rank 0 is gone."""
    _meet(0.0)
    box: list[Any] = [None]
    with _lost():
        dist.broadcast_object_list(box, src=0)
    return box[0]


def together(action: Callable[[], Result], seconds: float) -> Result:
    """action() here, when it is done on every rank.

    seconds: that rank 0 waits for the others after its own.
    Raises: if it failed on some rank, on rank 0 its own error or else that of another, with the rank's number and
        host: ValueError for what a user or the machine can cause, RuntimeError for a defect. DeadWorkerError on the
        other ranks, and on rank 0 if a rank does not answer.
    """
    result, error = list[Result](), None
    try:
        result.append(action())
    except Exception as raised:
        error = raised
    _meet(seconds)
    told: list[_Failure | None] = [None] * dist.get_world_size()
    with _lost():
        dist.all_gather_object(told, None if error is None else _Failure.of(error))
    failures = [failure for failure in told if failure is not None]
    if failures and not leads():
        raise DeadWorkerError("the work failed on some rank; rank 0 says where and why")
    if error is not None:
        raise error
    if failures:
        raise failures[0].error()
    return result[0]


@dataclass(frozen=True, kw_only=True)
class _Failure:
    """An error on its way to rank 0."""

    place: str
    words: str
    expected: bool
    trace: str

    @classmethod
    def of(cls, error: Exception) -> _Failure:
        return cls(
            place=f"rank {dist.get_rank()} on {socket.gethostname()}",
            words=str(error) or type(error).__name__,
            expected=isinstance(error, ValueError | OSError | DeadWorkerError),
            trace="".join(traceback.format_exception(error)),
        )

    def error(self) -> Exception:
        kind = ValueError if self.expected else RuntimeError
        error = kind(f"{self.place}: {self.words}")
        error.add_note(f"there:\n{self.trace}")
        return error


def _meet(seconds: float) -> None:
    """Wait until all ranks are here: rank 0 for so long, the others as long as it takes."""
    with _lost():
        limit = timedelta(seconds=seconds) if leads() else _PATIENTLY
        dist.monitored_barrier(timeout=limit, wait_all_ranks=True)


@contextmanager
def _lost() -> Iterator[None]:
    """What a collective raises, as a DeadWorkerError in one line."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        late = re.search(r"Ranks? ([\d, ]+) failed to pass", str(error))
        who = f"rank {late[1]}" if late else "a rank"
        said = f" ({str(error).splitlines()[0]})" if isinstance(error, dist.DistBackendError) else ""
        raise DeadWorkerError(
            f"{who} did not answer: it died, or took longer than executor.timeout_seconds{said}; go on with resume=true"
        ) from error


def balanced(sizes: Sequence[int], ranks: int) -> list[list[int]]:
    """Positions of the clients that each rank trains, in order: the largest first, to the rank with the least so far.

    Equal sizes are dealt out in turn. Source: Graham 1969 ("longest processing time first").
    """
    shares: list[list[int]] = [[] for _ in range(ranks)]
    loads = [(0, 0, rank) for rank in range(ranks)]  # examples, clients, rank
    for position in sorted(range(len(sizes)), key=lambda position: -sizes[position]):
        examples, clients, rank = heapq.heappop(loads)
        shares[rank].append(position)
        heapq.heappush(loads, (examples + sizes[position], clients + 1, rank))
    return [sorted(share) for share in shares]


@dataclass(frozen=True, kw_only=True)
class _Round:
    """What all ranks need to know. shares: positions of each rank's clients; dtypes: their names' shapes, in order.

    seconds: that one rank waits for another.
    """

    cohort: Cohort
    shares: list[list[int]]
    clipping: Clipping
    backend: str
    seconds: float
    dtypes: dict[torch.dtype, Shapes]


def _send(flat: Tensor, task: _Round) -> Tensor:
    """Rank 0's values [n], on every rank."""
    with _lost():
        dist.broadcast(flat, src=0, group=_group(task.backend, task.seconds))
    return flat


@cache
def _group(backend: str, seconds: float) -> dist.ProcessGroup | None:
    """All ranks by this backend; made when it is first needed, on all ranks at once."""
    group: dist.ProcessGroup | None = dist.new_group(backend=backend, timeout=timedelta(seconds=seconds))
    return group


def _alike(client: VirtualClient) -> int:
    return 1


@dataclass(frozen=True, kw_only=True)
class Distributed(Executor):
    """Each rank works through its share with the inner executor; alone, all of it.

    backend: moves parameters and sums, e.g. gloo or nccl; None for nccl where they are on a GPU and it exists, else
        gloo. Everything else goes by gloo.
    timeout_seconds: that rank 0 waits for the other ranks when its own share is done.
    examples: how many examples a virtual client trains on; clients are dealt out so that ranks have about equally
        many. It decides which rank trains a client and nothing else.
    """

    inner: Executor
    backend: str | None = None
    timeout_seconds: float = 1800.0
    examples: Callable[[VirtualClient], int] = _alike

    def __post_init__(self) -> None:
        check.positive("executor.timeout_seconds", self.timeout_seconds)
        if self.timeout_seconds > _PATIENTLY.total_seconds():
            raise ValueError(
                f"executor.timeout_seconds must be at most {_PATIENTLY.total_seconds():.3g}, "
                f"got executor.timeout_seconds={self.timeout_seconds:g}"
            )
        refuse_following_the_clock("executor/inner", self.inner)
        if self.backend is not None and not _exists(self.backend):
            raise ValueError(f"executor.backend={self.backend} does not exist in this PyTorch: take gloo")

    @property
    def leaves_no_trace(self) -> bool:
        """As the inner executor."""
        return self.inner.leaves_no_trace

    def close(self) -> None:
        """Close the inner executor."""
        self.inner.close()

    def clipped_sum(
        self, work: ClientWork, clipping: Clipping, shared: Params, cohort: Cohort, load: Load
    ) -> tuple[Params, Diagnostics]:
        """On rank 0, while the others `serve`: the same sum as `Sequential`, whatever the number of ranks.

        Raises: what a rank's clients raise, as `together` tells it; DeadWorkerError if a rank does not answer.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return self.inner.clipped_sum(work, clipping, shared, cohort, load)
        task = _Round(
            cohort=cohort,
            shares=balanced([self.examples(client) for client in cohort.clients], dist.get_world_size()),
            clipping=clipping,
            backend=self._backend_for(next(iter(shared.values())).device),
            seconds=self.timeout_seconds,
            dtypes=_dtypes(shared),
        )
        tell(task, self.timeout_seconds)
        for shapes in task.dtypes.values():
            _send(torch.cat([shared[name].reshape(-1) for name in shapes]), task)
        return self._share(task, work, shared, load)

    def record(self) -> dict[str, Any]:
        """That of rank 0's own inner executor."""
        return self.inner.record()

    def restore(self, record: Mapping[str, Any]) -> None:
        """For rank 0's own inner executor."""
        self.inner.restore(record)

    def serve(self, work: ClientWork, load: Load, device: torch.device) -> None:
        """On the other ranks: work through a share of every round, until rank 0 tells None.

        Raises: DeadWorkerError if the work failed on some rank, or rank 0 is gone.
        """
        with closing(self):
            self._serve(work, load, device)

    def _serve(self, work: ClientWork, load: Load, device: torch.device) -> None:
        while (task := hear()) is not None:
            shared: Params = {}
            for dtype, shapes in task.dtypes.items():
                size = sum(torch.Size(shape).numel() for shape in shapes.values())
                sent = _cut(_send(torch.empty(size, dtype=dtype, device=device), task), shapes)
                shared |= {name: value.clone() for name, value in sent.items()}  # aligned, as rank 0 has them
            self._share(task, work, shared, load)

    def _share(self, task: _Round, work: ClientWork, shared: Params, load: Load) -> tuple[Params, Diagnostics]:
        """This rank's part of the round; what it returns is the answer on rank 0 only."""
        clients = tuple(task.cohort.clients[position] for position in task.shares[dist.get_rank()])
        own = Cohort(round=task.cohort.round, clients=clients)
        total, diagnostics = together(
            lambda: self.inner.clipped_sum(work, task.clipping, shared, own, load), task.seconds
        )
        flat = flatten(total)
        parts: list[Any] | None = [None] * dist.get_world_size() if leads() else None
        with _lost():
            dist.reduce(flat, dst=0, group=_group(task.backend, task.seconds))
            dist.gather_object(diagnostics, parts, dst=0)
        if parts is not None:
            diagnostics = _in_order(parts, task.shares)
        return _cut(flat, {name: tuple(total[name].shape) for name in sorted(total)}), diagnostics

    def _backend_for(self, device: torch.device) -> str:
        """The backend for tensors on this device. Raises: ValueError if it cannot move them."""
        gpu = device.type == "cuda"
        backend = self.backend or ("nccl" if gpu and dist.is_nccl_available() else "gloo")
        here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
        if backend == "nccl" and not gpu:
            raise ValueError(f"executor.backend=nccl is for GPUs, got device={device}: take gloo, or leave it out")
        if backend == "nccl" and here > gpus and "CUDA_VISIBLE_DEVICES" not in os.environ:  # each may see its own
            raise ValueError(
                f"NCCL wants a GPU for each process, got {here} processes on a machine with {gpus}: lower "
                "--nproc-per-node, or take executor.backend=gloo"
            )
        return backend


def _exists(backend: str) -> bool:
    """By the very name that it has: PyTorch would take NCCL for nccl, and undefined for none."""
    known = dist.is_available() and dist.is_backend_available(backend)
    return known and backend == backend.lower() != dist.Backend.UNDEFINED


def _dtypes(params: Params) -> dict[torch.dtype, Shapes]:
    """dtype -> name -> shape, in the order of the names."""
    found: dict[torch.dtype, Shapes] = {}
    for name, value in params.items():
        found.setdefault(value.dtype, {})[name] = tuple(value.shape)
    return found


def _cut(flat: Tensor, shapes: Shapes) -> Params:
    """[n] to its named parts."""
    parts = torch.split(flat, [torch.Size(shape).numel() for shape in shapes.values()])
    return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def _in_order(parts: Sequence[Diagnostics], shares: Sequence[Sequence[int]]) -> Diagnostics:
    """The ranks' diagnostics, back in the order of the cohort."""
    place = torch.tensor([position for share in shares for position in share], dtype=torch.int64).argsort()
    columns = {name: torch.cat([vars(part)[name] for part in parts])[place] for name in vars(parts[0])}
    return Diagnostics(**columns)
