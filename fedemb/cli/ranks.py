"""Under torchrun: rank 0 runs the command, the other ranks serve its rounds."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import cast

from omegaconf import DictConfig

from fedemb.cli.build import ClientSide, Job, build, client_side, executor_for, executor_of
from fedemb.cli.errors import MISTAKES, one_line, reported
from fedemb.cli.stopping import asked_to_stop
from fedemb.core.allocator import keep_freed_memory
from fedemb.core.worker_process import DeadWorkerError
from fedemb.data.users import UserDataset, digest_of
from fedemb.execution.distributed import Distributed, hear, joined, leads, ranks, tell, together

_SECONDS_BEHIND = 2.0  # torchrun reports the first rank that fails, and ends the others
_LOST = 1  # exit code of a rank above 0 that cannot go on; rank 0 has said why, or torchrun does


def lead_or_follow(verb: str, command: Callable[[], None]) -> None:
    """Run the command on rank 0, with the other ranks at its service if it trains; other verbs do without."""
    if verb != "train":
        if leads():
            command()
        return
    with joined(), reported():  # the line is printed before the others see that rank 0 goes
        (command if leads() else _follow)()


@contextmanager
def everywhere(cfg: DictConfig) -> Iterator[Job]:
    """The run, ready to start here and on all other ranks, if there are any.

    Raises: ValueError in one line for what does not fit the ranks, or fails on one of them.
    """
    _refuse_restarts_from_scratch(cfg)
    if ranks() == 1:
        yield build(cfg)
        return
    executor = executor_of(cfg)
    if not isinstance(executor, Distributed):
        raise ValueError(
            f"torchrun started {ranks()} processes, but one is enough for this executor: take executor=distributed"
        )
    tell(cfg, executor.timeout_seconds)
    job = together(partial(build, cfg), executor.timeout_seconds)
    tell(digest_of(job.users), executor.timeout_seconds)
    together(lambda: None, executor.timeout_seconds)  # the others compare
    idle = ranks() - job.plan.sampler.planned_clients
    if idle > 0:
        print(
            f"fedemb: {ranks()} ranks for {job.plan.sampler.planned_clients:g} virtual clients a round: {idle:g} have "
            "nothing to do; lower --nproc-per-node",
            file=sys.stderr,
        )
    yield job
    tell(None, executor.timeout_seconds)


def _refuse_restarts_from_scratch(cfg: DictConfig) -> None:
    """Raise ValueError if torchrun would restart the ranks and they would not go on with the run."""
    if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) and (cfg.run is None or not cfg.resume):
        raise ValueError("torchrun --max-restarts goes on with a run only if it is named: add run=FOLDER resume=true")


def _follow() -> None:
    """A rank above 0: make what rank 0 asks for, and serve its rounds, until there are no more."""
    try:
        with asked_to_stop():  # the first signal is for rank 0, which finishes the round with everybody's help
            while (cfg := hear()) is not None:
                _serve(cfg)
    except DeadWorkerError:
        with suppress(DeadWorkerError):
            hear()  # until rank 0 has gone
        time.sleep(_SECONDS_BEHIND)
        raise SystemExit(_LOST) from None


def _serve(cfg: DictConfig) -> None:
    keep_freed_memory()
    seconds = cast(Distributed, executor_of(cfg)).timeout_seconds  # or rank 0 would not have asked
    side = together(partial(_client_side, cfg), seconds)
    with side.load:
        told = hear()
        together(partial(_refuse_other_users, side.users, told), seconds)
        cast(Distributed, executor_for(cfg, side)).serve(side.work, side.load, side.device)


def _client_side(cfg: DictConfig) -> ClientSide:
    """A mistake becomes a ValueError in the line that rank 0 would say. The parameters come from rank 0: any seed."""
    try:
        return client_side(cfg, seed=0)
    except MISTAKES as error:
        raise ValueError(one_line(error)) from error


def _refuse_other_users(users: UserDataset, told: str) -> None:
    """Raise ValueError if these are not rank 0's: a number would be one person here and another one there."""
    if digest_of(users) != told:
        raise ValueError("users= are others here than on rank 0: give all machines the same data set")
