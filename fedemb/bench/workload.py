"""What is measured: random images of users, a model, the settings of a round, and fedemb's round on them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedemb.bench.images import draw
from fedemb.client.finetune import FineTune
from fedemb.client.precision import Full, Precision
from fedemb.client.work import ClientWork
from fedemb.core.optim import SGD
from fedemb.core.params import to
from fedemb.core.rng import NoiseSource, SeededNoise, generator
from fedemb.core.types import Cohort, Diagnostics, Params, VirtualClient
from fedemb.data import prefetch
from fedemb.data.batching import Batcher
from fedemb.data.prefetch import Prefetch
from fedemb.data.sampling import FixedSizeSampler
from fedemb.data.transforms import Compose, Transform
from fedemb.data.users import InMemoryUsers
from fedemb.execution.executor import Executor
from fedemb.execution.vectorised import Vectorised
from fedemb.privacy.clipping import Clipping, FlatClipping
from fedemb.privacy.ledger import Ledger
from fedemb.privacy.mechanism import Gaussian
from fedemb.privacy.query import ClippedSum
from fedemb.server.optimizer import FedOpt
from fedemb.server.plan import Plan, RunState
from fedemb.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A round: `clients` virtual clients of `users_per_client` users, each with `images` of a shape [Ch, H, W].

    task: of a model; says which labels mean what. transforms: of a client's images, which are uint8.
    users: N of the data set. momentum: of the clients' SGD. precision: of fedemb's ways alone. device: where clients
        train.
    """

    model: Callable[[], nn.Module]
    task: Callable[[nn.Module], Task]
    transforms: Sequence[Transform]
    users: int
    images: int
    shape: tuple[int, ...]
    classes: int
    clients: int
    users_per_client: int = 1
    batch_size: int
    learning_rate: float
    momentum: float = 0.0
    head_lr_scale: float = 1.0
    clip_norm: float
    noise_multiplier: float
    precision: Precision = Full()
    device: str = "cpu"

    @property
    def parameters(self) -> int:
        """How many numbers the model has."""
        return sum(value.numel() for value in self.model().parameters())

    def data(self) -> tuple[Tensor, Tensor]:
        """Pixels [users, images, Ch, H, W] uint8 and labels [users, images]."""
        pixels, labels = draw(self.users, self.images, self.shape, self.classes)
        return torch.from_numpy(pixels), torch.from_numpy(labels)

    def settings(self) -> dict[str, Any]:
        """The numbers, and where the model's class is, for a script that does the same work without fedemb."""
        numbers = {name: value for name, value in vars(self).items() if isinstance(value, int | float)}
        return {
            **numbers,
            "shape": self.shape,
            "model_file": inspect.getfile(self.model),
            "model_class": self.model.__name__,
        }


def vectorised(**settings: Any) -> Vectorised:
    """The executor as a simulation has it, told that all clients of a workload have equally many examples."""
    return Vectorised(examples=_equally_many, **settings)


def _equally_many(client: VirtualClient) -> int:
    return 1


@dataclass(frozen=True, kw_only=True)
class ClientSide:
    """What trains the clients of a workload."""

    task: Task
    work: ClientWork
    load: Prefetch


def client_side(workload: Workload) -> ClientSide:
    """Images in memory, loaded without workers."""
    users = InMemoryUsers([{"image": image, "label": label} for image, label in zip(*workload.data(), strict=True)])
    task = workload.task(workload.model())
    work = FineTune(
        task=task,
        optimizer=SGD(momentum=workload.momentum),
        learning_rate=workload.learning_rate,
        head_lr_scale=workload.head_lr_scale,
        precision=workload.precision,
    )
    transform = Compose(transforms=workload.transforms)
    batcher = Batcher(users=users, batch_size=workload.batch_size, transform=transform)
    return ClientSide(task=task, work=work, load=prefetch.none(batcher.load))


def start(workload: Workload, executor: Executor, ledger: Ledger) -> tuple[Plan, RunState]:
    """The plan of a run by this executor, and the state before round 0."""
    side = client_side(workload)

    def sum_updates(clipping: Clipping, shared: Params, cohort: Cohort) -> tuple[Params, Diagnostics]:
        return executor.clipped_sum(side.work, clipping, shared, cohort, side.load)

    sampler = FixedSizeSampler(
        num_users=workload.users,
        users_per_round=workload.clients * workload.users_per_client,
        users_per_client=workload.users_per_client,
        seed=0,
    )
    query = ClippedSum(
        sum_updates=sum_updates,
        planned_clients=sampler.planned_clients,
        clipping=FlatClipping(clip_norm=workload.clip_norm),
    )
    plan = Plan(
        sampler=sampler,
        query=query,
        mechanism=Gaussian.from_multiplier(noise_multiplier=workload.noise_multiplier, bound=query.bound),
        server=FedOpt(optimizer=SGD(), learning_rate=1.0, planned_clients=sampler.planned_clients),
        noise_rng=_noise,
    )
    params = to(side.task.init(0), workload.device)
    trained = {name: value for name, value in params.items() if side.task.is_shared(name)}
    server = plan.server.init(params, trained)
    state = RunState(
        round=0, server=server, query=query.init(), noise=plan.mechanism.init(query.blank(trained)), ledger=ledger
    )
    return plan, state


def _noise(round: int) -> NoiseSource:
    return SeededNoise(generator(0, "noise", round))
