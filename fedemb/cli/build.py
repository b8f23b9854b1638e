"""Configuration to objects: the one place where the values of a recipe meet."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from fedemb.cli.model import BuiltModel, build_model
from fedemb.cli.pricing import check_small
from fedemb.cli.release import check_size_is_given, released
from fedemb.cli.settings import check_settings
from fedemb.cli.sizes import following
from fedemb.client.work import ClientWork
from fedemb.core import check
from fedemb.core.rng import NoiseSource, SecretNoise, SeededNoise, generator
from fedemb.core.types import Batch, Cohort, Diagnostics, Params, VirtualClient
from fedemb.data.batching import Batcher
from fedemb.data.prefetch import Prefetch
from fedemb.data.sampling import CohortSampler
from fedemb.data.transforms import Compose, ScalePixels
from fedemb.data.users import UserDataset, share_images
from fedemb.evaluation.embedded import Measure
from fedemb.evaluation.users import embedded_users
from fedemb.execution.distributed import ranks
from fedemb.execution.executor import Executor, Load
from fedemb.models.exported import embed
from fedemb.models.functional import bring_constants
from fedemb.privacy.accounting import Events, PrivacySpend, check_delta, default_delta, epsilon, spend
from fedemb.privacy.clipping import Clipping
from fedemb.privacy.ledger import Ledger
from fedemb.privacy.query import Query, SumUpdates
from fedemb.server.optimizer import FedOpt
from fedemb.server.plan import Plan
from fedemb.tasks.backbone import backbone_params, check_images
from fedemb.tasks.start import Start
from fedemb.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that is ready to start: nothing has been written yet. `load` and `executor` are to be closed at the end."""

    plan: Plan
    task: Task
    model: BuiltModel
    work: ClientWork
    load: Prefetch
    executor: Executor
    start: Start
    users: UserDataset
    seed: int
    measure: Callable[[Params], dict[str, float | None]]
    device: torch.device
    delta: float

    def spend(self, ledger: Ledger) -> PrivacySpend:
        """The interval of epsilon after all that the ledger holds."""
        return spend(ledger.events, self.delta)

    def epsilon(self, events: Events) -> float:
        """The certified end alone, which is quicker."""
        return epsilon(events, self.delta)

    def rounds_charged(self, ledger: Ledger) -> int:
        """The ledger's entries without that of the start, if it has one."""
        return ledger.entries - (self.start.cost() is not None and ledger.entries > 0)


@dataclass(frozen=True, kw_only=True)
class ClientSide:
    """What trains virtual clients, wherever that happens. `load` has workers: close it at the end.

    examples: how many a virtual client trains on, known without reading them.
    """

    users: UserDataset
    task: Task
    model: BuiltModel
    work: ClientWork
    load: Prefetch
    examples: Callable[[VirtualClient], int]
    device: torch.device


def build(cfg: DictConfig) -> Job:
    """All objects of a run, each checked at birth."""
    _check_loop(cfg)
    start: Start = instantiate(cfg.init)
    seed = secrets.randbits(128) if is_secret(cfg) else seed_after(start, cfg.seed)
    side = client_side(cfg, seed)
    users, task, work, load = side.users, side.task, side.work, side.load
    executor = executor_for(cfg, side)
    return Job(
        plan=_plan(cfg, seed, users.num_users, _sum_updates(executor, work, load)),
        task=task,
        model=side.model,
        work=work,
        load=load,
        executor=executor,
        start=start,
        users=users,
        seed=seed,
        measure=_measure(cfg, side.model.backbone, users),
        device=side.device,
        delta=_delta(cfg, users.num_users),
    )


def client_side(cfg: DictConfig, seed: int) -> ClientSide:
    """Users, task, local work and loading. seed: of the parameters that the task starts with."""
    users = users_of(cfg)
    if cfg.get("provenance") == "dp":
        refuse_another_unit(Path(cfg.path), users.unit)
    _refuse_nobody(users)
    model = build_model(cfg, seed)
    task: Task = instantiate(cfg.task)(
        backbone=model.backbone,
        head=instantiate(cfg.head),
        trained=tuple(cfg.trained or ()),
        frozen=tuple(cfg.frozen or ()),
    )
    images = tuple(users.load([0])["image"].shape[1:])
    check_images(model.backbone, cfg.embedding_width, images)
    device = device_of(cfg.device)
    bring_constants(model.backbone, device)
    batcher = _batcher(cfg, users)
    return ClientSide(
        users=users,
        task=task,
        model=replace(model, images=images),
        work=instantiate(cfg.client)(task=task),
        load=_load(cfg, batcher),
        examples=batcher.num_examples,
        device=device,
    )


def users_of(cfg: DictConfig) -> UserDataset:
    """Whoever the guarantee is for: the users of users=, or as unit=example has it, each of their images."""
    users: UserDataset = instantiate(cfg.unit)(instantiate(cfg.users))
    return users


def seed_after(start: Start, seed: int) -> int:
    """The seed itself, or after a start that was charged for, another one: its run has used the streams of this seed.

    The same noise in both runs would cancel, and the ledger adds them up as independent.
    """
    cost = start.cost()
    return seed if cost is None else int(generator(seed, f"after {cost}").integers(2**63))


def _check_loop(cfg: DictConfig) -> None:
    """The numbers that no constructor checks."""
    for name in ("rounds", "evaluate_every", "checkpoint_every"):
        check.at_least(name, cfg[name], 1)
    if not is_secret(cfg):
        check.at_least("seed", cfg.seed, 0)
    check_settings(cfg.users)
    check_settings(cfg.test_users)
    check_settings(cfg.evaluation)
    if is_secret(cfg):
        check_size_is_given(cfg.users)
    if is_secret(cfg) and cfg.get("provenance") == "dp":
        refuse_simulated(Path(cfg.path))
    if cfg.budget.epsilon is not None:
        check.positive("budget.epsilon", cfg.budget.epsilon)


def _refuse_nobody(users: UserDataset) -> None:
    """Raise ValueError if a guarantee for these users would be for nobody."""
    if not users.trainable:
        raise ValueError(
            f"users= holds no users to train on: one is {users.privacy_unit}, so epsilon would protect nobody; take "
            "another split, e.g. users.split=train"
        )


def _plan(cfg: DictConfig, seed: int, num_users: int, sum_updates: SumUpdates) -> Plan:
    """Sampler, query, mechanism, server and noise."""
    sampler: CohortSampler = instantiate(cfg.sampler)(num_users=num_users, seed=seed)
    query: Query = instantiate(cfg.query)(sum_updates=sum_updates, planned_clients=sampler.planned_clients)
    server = FedOpt(
        optimizer=instantiate(cfg.server.optimizer),
        learning_rate=cfg.server.learning_rate,
        schedule=instantiate(cfg.server.schedule),
        planned_clients=sampler.planned_clients,
        ema_decay=cfg.server.ema_decay,
    )
    return Plan(
        sampler=sampler,
        query=query,
        mechanism=instantiate(cfg.mechanism)(bound=query.bound),
        server=server,
        noise_rng=_secret_noise if is_secret(cfg) else partial(_seeded_noise, seed),
        ids_per_user=cfg.ids_per_user,
    )


def refuse_simulated(run: Path) -> None:
    """Raise ValueError if the run to start from was a simulation: whoever knows its seed knows its users' data."""
    config = run / "config.yaml"
    if not config.is_file() or OmegaConf.select(OmegaConf.load(config), "mode") != "release":
        raise ValueError(f"mode=release cannot start from {run} with provenance=dp: it is no run of mode=release")


def refuse_another_unit(run: Path, unit: str) -> None:
    """Raise ValueError if the ledger of the run to start from is not about units of this kind, "user" or "example"."""
    report = run / "report.json"
    try:
        other = json.loads(report.read_text(encoding="utf-8"))["privacy"]["unit"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"provenance=dp needs a finished run, whose report says what its ledger is about: {report}"
        ) from None
    if other != unit:
        raise ValueError(f"provenance=dp: the ledger of {run} is about every {other}, this run's about every {unit}")


def _delta(cfg: DictConfig, users: int) -> float:
    """delta=, or N^-1.1."""
    delta = default_delta(users) if cfg.delta is None else cfg.delta
    check.finite("delta", delta)
    check_delta(delta)
    check_small(delta, users, allowed=bool(cfg.allow_large_delta))
    return float(delta)


def device_of(name: str) -> torch.device:
    """auto is the GPU if there is one. From then on it is the current one, and gives the same numbers on every call.

    Raises: ValueError if the device does not exist here, or cannot hold the float64 of sums and norms.
    """
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    try:
        probe = torch.zeros((), dtype=torch.float64, device=chosen)
        probe.item()
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"device={name} cannot be used here: {str(error).splitlines()[0]}; take auto or cpu"
        ) from error
    if probe.device.type == "cuda":
        if torch.device(chosen).index is not None and ranks() > 1:
            raise ValueError(f"device={name} would be the GPU of every rank: take device=cuda, and each has its own")
        torch.cuda.set_device(probe.device)  # streams and recordings are made on the current one
    _make_repeatable()
    return probe.device


def _make_repeatable() -> None:
    """The same kernels on every call, and float32 that is float32."""
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False  # the default, but for environment variables
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False  # sums over bfloat16 are in float32


def is_secret(cfg: DictConfig) -> bool:
    """Does all randomness come from the operating system, with no seed kept?"""
    modes = {"simulate": False, "release": True}
    if cfg.mode not in modes:
        raise ValueError(f"mode must be one of {', '.join(modes)}, got mode={cfg.mode}")
    return modes[cfg.mode]


def _seeded_noise(seed: int, round: int) -> NoiseSource:
    return SeededNoise(generator(seed, "noise", round))


def _secret_noise(round: int) -> NoiseSource:
    return SecretNoise()


def _batcher(cfg: DictConfig, users: UserDataset) -> Batcher:
    """A virtual client -> its batches."""
    transforms = [instantiate(cfg.labels), ScalePixels(), instantiate(cfg.augment)]
    return Batcher(users=users, transform=Compose(transforms=transforms), **cfg.batching)


def _load(cfg: DictConfig, batcher: Batcher) -> Prefetch:
    """Virtual clients -> their batches; the workers start with the first of them."""
    load = _Discreet(load=batcher.load) if is_secret(cfg) else batcher.load
    prefetch: Prefetch = instantiate(cfg.prefetch)(load)
    return prefetch


@dataclass(frozen=True, kw_only=True)
class _Discreet:
    """Loads; an error does not say whose data it was, as that would tell who was drawn."""

    load: Callable[[VirtualClient], Batch]

    def __call__(self, client: VirtualClient) -> Batch:
        try:
            return self.load(client)
        except Exception:  # a data set's own words, whatever their type, may name a user
            raise ValueError(
                "some user's images cannot be read; mode=release does not say whose: check the data set, e.g. by "
                "preparing it again, and go on with resume=true"
            ) from None


def executor_for(cfg: DictConfig, side: ClientSide) -> Executor:
    """The executor; who trains what, and beside whom, follows the sizes of users' data only where exact private values
    may be kept."""
    return executor_of(cfg) if is_secret(cfg) else following(side.examples, executor_of(cfg))


def executor_of(cfg: DictConfig) -> Executor:
    """The executor before it knows any data. Raises: ValueError in one line for one that a release cannot have."""
    executor: Executor = instantiate(cfg.executor)
    return released(executor) if is_secret(cfg) else executor


def _sum_updates(executor: Executor, work: ClientWork, load: Load) -> SumUpdates:
    """The sum by this client work on this executor."""

    def sum_updates(clipping: Clipping, shared: Params, cohort: Cohort) -> tuple[Params, Diagnostics]:
        return executor.clipped_sum(work, clipping, shared, cohort, load)

    return sum_updates


def _measure(cfg: DictConfig, backbone: nn.Module, users: UserDataset) -> Callable[[Params], dict[str, float | None]]:
    """Parameters -> metrics of the test users; nothing without test users.

    Raises: ValueError if a release would measure on the users that it trains on: metrics are exact functions of images.
    """
    if cfg.test_users is None:
        return lambda params: {}
    test: UserDataset = instantiate(cfg.test_users)
    if is_secret(cfg) and share_images(users, test):
        raise ValueError(
            "mode=release cannot measure on the images that it trains on, as the guarantee does not cover what is "
            "measured: test_users= shares images with users=; take other test users, or test_users=none"
        )
    check_images(backbone, cfg.embedding_width, test.load([0])["image"].shape[1:])
    evaluation: Measure = instantiate(cfg.evaluation)
    if not evaluation.test_users_only:
        raise ValueError(
            "fedemb train measures on test users alone, as its report says, and evaluation= brings other images: take "
            "another one, and this one afterwards: fedemb evaluate run=RUN evaluation=NAME"
        )

    def measure(params: Params) -> dict[str, float | None]:
        forward = partial(embed, backbone, backbone_params(backbone, params))
        device = next(iter(params.values())).device
        return evaluation.metrics(embedded_users(forward, test, device))

    return measure
