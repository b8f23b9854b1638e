"""The same round as one writes it in plain PyTorch: a module, torch.optim.SGD, one client after the other."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedemb.bench.workload import Workload

Share = Callable[[Sequence[Tensor], Sequence[int]], list[Tensor]]
"""(the model's parameters, users to train) -> the sum of their clipped updates."""


def trainer(workload: Workload) -> Share:
    """A model of its own that trains users in turn."""
    model = workload.model().to(workload.device)
    images, labels = (value.to(workload.device) for value in workload.data())
    trained: list[Tensor] = list(model.parameters())

    def run(start: Sequence[Tensor], users: Sequence[int]) -> list[Tensor]:
        total = [torch.zeros_like(value) for value in start]
        for user in users:
            with torch.no_grad():
                for value, first in zip(trained, start, strict=True):
                    value.copy_(first)
            optimizer = torch.optim.SGD(trained, lr=workload.learning_rate)
            for places in torch.split(torch.randperm(workload.images), workload.batch_size):
                optimizer.zero_grad()
                pixels = images[user, places].float() / 128 - 1
                cross_entropy(model(pixels), labels[user, places]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            with torch.no_grad():
                update = [value - first for value, first in zip(trained, start, strict=True)]
                norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(value) for value in update]))
                factor = torch.clamp(workload.clip_norm / norm, max=1.0)
                for entry, value in zip(total, update, strict=True):
                    entry.add_(value * factor)
        return total

    return run


@contextmanager
def plain_loop(workload: Workload, processes: int) -> Iterator[Callable[[], None]]:
    """A round: sample, train in this process and so many less one others, add noise, update."""
    torch.manual_seed(0)
    params = [value.detach().clone().to(workload.device) for value in workload.model().parameters()]
    train, std = trainer(workload), workload.noise_multiplier * workload.clip_norm
    others = [_another(workload) for _ in range(processes - 1)]

    def run() -> None:
        users = torch.randperm(workload.users)[: workload.clients].tolist()
        for place, pipe in enumerate(others, start=1):
            pipe.send(([value.cpu().numpy() for value in params], users[place::processes]))
        total = train(params, users[::processes])
        for pipe in others:
            for entry, value in zip(total, pipe.recv(), strict=True):
                entry.add_(torch.from_numpy(value).to(entry.device))
        for param, value in zip(params, total, strict=True):
            param.add_(value.add_(torch.randn_like(value), alpha=std), alpha=1.0 / workload.clients)
        params[-1].cpu()  # a GPU is done by then

    yield run
    for pipe in others:
        pipe.close()


def _another(workload: Workload) -> Connection:
    """A process that trains the users it is sent until its pipe ends."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    context.Process(target=_serve, args=(workload, theirs, torch.get_num_threads()), daemon=True).start()
    theirs.close()
    assert pipe.recv()  # it is ready
    return pipe


def _serve(workload: Workload, pipe: Connection, threads: int) -> None:
    torch.set_num_threads(threads)
    train = trainer(workload)
    pipe.send(True)
    while True:
        try:
            params, users = pipe.recv()
        except EOFError:
            return
        total = train([torch.from_numpy(value).to(workload.device) for value in params], users)
        pipe.send([value.cpu().numpy() for value in total])
