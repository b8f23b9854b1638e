"""Processes that work together as ranks: this one leads, others are started and serve whatever work it sends."""

import multiprocessing
import os
import signal
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch

from fedemb.client.work import ClientState, ClientWork
from fedemb.core.worker_process import DeadWorkerError
from fedemb.execution.distributed import Distributed, hear, joined, tell
from fedemb.execution.executor import Executor, Sequential

SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Sent(Executor):
    """Sends the work and the loading along with every round, so that the same ranks serve all kinds of them."""

    on: Distributed

    def clipped_sum(self, work, clipping, shared, cohort, load):
        tell((self.on.inner, work, load), SECONDS)
        answer = self.on.clipped_sum(work, clipping, shared, cohort, load)
        tell(None, SECONDS)
        return answer


def follow(environment):
    """A rank above 0."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    with joined():
        while (sent := hear()) is not None:
            inner, work, load = sent
            with suppress(DeadWorkerError):  # a failure; if it is rank 0's end, `hear` raises again
                Distributed(inner=inner).serve(work, load, torch.device("cpu"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def world(size):
    """Lead so many ranks; those above 0 are yielded. They must end well if this does."""
    place = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    spawn = multiprocessing.get_context("spawn")
    others = [
        spawn.Process(target=follow, args=({**place, "RANK": str(rank)},), daemon=True) for rank in range(1, size)
    ]
    for other in others:
        other.start()
    os.environ.update(place, RANK="0")
    try:
        with joined():
            yield others
        for other in others:
            other.join(SECONDS)
            assert other.exitcode == 0
    finally:
        for name in (*place, "RANK"):
            del os.environ[name]
        for other in others:
            other.kill()
            other.join()


def in_parts(executor=None, **settings):
    """An executor that trains by ranks of Sequential, or of another."""
    return Sent(on=Distributed(inner=executor or Sequential(), **settings))


class Mirror(ClientWork):
    """A client sends the parameters that it was given, in float64."""

    def begin(self, shared, client):
        zero = torch.zeros(())
        return ClientState({}, {}, zero, zero, zero, torch.ones(()))

    def step(self, shared, state, batch):
        return state

    def finish(self, shared, state):
        return {name: value.double() for name, value in shared.items()}


@dataclass(frozen=True, kw_only=True)
class Failing:
    """Loads by another function until the client with this seed: then raises, dies, or stalls."""

    load: object
    seed: int
    how: object

    def __call__(self, clients):
        for client in clients:
            if client.seed == self.seed:
                self.how()
            yield from self.load([client])


def missing():
    raise FileNotFoundError(2, "No such file or directory", "user7.png")


def defect():
    raise KeyError("imgae")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def stall():
    time.sleep(SECONDS)
