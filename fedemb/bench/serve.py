"""python -m fedemb.bench.serve: one of fedemb's ways, or the plain loop, at the service of a suite."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version

import torch

from fedemb.bench.lines import Rounds
from fedemb.bench.plain_loop import plain_loop
from fedemb.bench.workload import Workload, client_side, start, vectorised
from fedemb.bench.workloads import WORKLOADS
from fedemb.client.precision import Bfloat16
from fedemb.core.allocator import keep_freed_memory
from fedemb.execution.distributed import Distributed, joined
from fedemb.execution.executor import Executor, Sequential
from fedemb.execution.launch import Compiled, CudaGraphs
from fedemb.privacy.ledger import Ledger
from fedemb.server.round import run_round

Way = Callable[[Workload], AbstractContextManager[Callable[[], None]]]
"""A workload -> what runs its next round."""


@contextmanager
def by(executor: Callable[[], Executor], workload: Workload) -> Iterator[Callable[[], None]]:
    """fedemb's round, as `fedemb train` runs it, with a ledger in memory."""
    keep_freed_memory()
    plan, state = start(workload, executor(), Ledger())

    def run() -> None:
        nonlocal state
        state, _ = run_round(plan, state)

    yield run


def in_bfloat16(executor: Callable[[], Executor], workload: Workload) -> AbstractContextManager[Callable[[], None]]:
    """The same with local steps in bfloat16."""
    return by(executor, replace(workload, precision=Bfloat16()))


@contextmanager
def ranks(inner: Callable[[], Executor], size: int, workload: Workload) -> Iterator[Callable[[], None]]:
    """The same by `Distributed`: this process leads, the others serve, as torchrun would have started them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    place |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(size))
    workload = replace(workload, device=torch.device(workload.device).type)  # each rank has a GPU of its own
    spawn, threads = multiprocessing.get_context("spawn"), torch.get_num_threads()
    for rank in range(1, size):
        environment = {**place, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        spawn.Process(target=_follow, args=(inner, workload, environment, threads), daemon=True).start()
    os.environ.update(place, RANK="0", LOCAL_RANK="0")
    with joined(), by(partial(_over, inner), workload) as run:
        yield run


def _over(inner: Callable[[], Executor]) -> Executor:
    return Distributed(inner=inner())


def _follow(inner: Callable[[], Executor], workload: Workload, environment: Mapping[str, str], threads: int) -> None:
    os.environ.update(environment)
    torch.set_num_threads(threads)
    keep_freed_memory()
    side = client_side(workload)
    with joined():
        Distributed(inner=inner()).serve(side.work, side.load, torch.device(workload.device))


WAYS: dict[str, Way] = {
    "plain": partial(plain_loop, processes=1),
    "plain_2": partial(plain_loop, processes=2),
    "sequential": partial(by, Sequential),
    "vectorised": partial(by, vectorised),
    "vectorised_compiled": partial(by, partial(vectorised, kernels=Compiled())),
    "vectorised_bfloat16": partial(in_bfloat16, vectorised),
    "vectorised_cuda_graphs": partial(by, partial(vectorised, kernels=CudaGraphs())),
    "distributed_2": partial(ranks, vectorised, 2),
}


def main() -> None:
    """Serve rounds until stdin ends."""
    rounds = Rounds()
    torch.set_num_threads(rounds.settings["threads"])
    workload = replace(WORKLOADS[rounds.settings["workload"]], device=rounds.settings["device"])
    with WAYS[rounds.settings["way"]](workload) as run:
        rounds.ready(fedemb=version("fedemb"), torch=torch.__version__)
        for _ in rounds.each():
            run()


if __name__ == "__main__":
    main()
