"""The engine, round after round, against the bare loops: catches a wrong sign, scale, denominator or order."""

import ast
import importlib.util
from functools import partial
from pathlib import Path

import pytest
import torch

from fedemb.client.finetune import FineTune
from fedemb.core.optim import SGD
from fedemb.core.params import to
from fedemb.core.rng import SeededNoise, generator
from fedemb.data.batching import Batcher
from fedemb.data.sampling import FixedSizeSampler
from fedemb.data.synthetic import SyntheticUsers
from fedemb.data.transforms import Compose, LocalLabels, ScalePixels
from fedemb.execution.executor import Sequential
from fedemb.models.lenet import LeNet
from fedemb.privacy.clipping import FlatClipping
from fedemb.privacy.ledger import Ledger
from fedemb.privacy.mechanism import Gaussian
from fedemb.privacy.query import ClippedSum
from fedemb.server.optimizer import FedOpt
from fedemb.server.plan import Plan, RunState
from fedemb.server.round import run_round
from fedemb.tasks.embedding import EmbeddingTask
from fedemb.tasks.heads import SoftmaxHead

_spec = importlib.util.spec_from_file_location("reference", Path(__file__).with_name("dp_fedemb.py"))
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)

SEED, LR, HEAD_SCALE, SERVER_LR = 5, 0.02, 10.0, 0.7


def noise_source(round):
    return SeededNoise(generator(SEED, "noise", round))


def imported(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield node.module


def test_reference_imports_nothing_from_fedemb():
    text = Path(__file__).with_name("dp_fedemb.py").read_text()
    names = {n.split(".")[0] for n in imported(text)}
    assert names == {"math", "torch"}


@pytest.mark.parametrize(("clip_norm", "noise_multiplier"), [(1e9, 0.0), (0.05, 0.01)])
@pytest.mark.parametrize(("dtype", "rounds", "tolerance"), [(torch.float32, 1, 1e-6), (torch.float64, 3, 1e-8)])
def test_engine_equals_bare_loops(clip_norm, noise_multiplier, dtype, rounds, tolerance):
    def cast(batch, rng):
        return {**batch, "image": batch["image"].to(dtype), "mask": batch["mask"].to(dtype)}

    users = SyntheticUsers(num_users=24, examples_per_user=7, min_examples=3, classes=24, seed=2)
    task = EmbeddingTask(backbone=LeNet(), head=SoftmaxHead(), embedding_width=128, local_classes=3)
    work = FineTune(task=task, optimizer=SGD(momentum=0.9), learning_rate=LR, head_lr_scale=HEAD_SCALE)
    batcher = Batcher(
        users=users,
        batch_size=8,
        epochs=2,
        transform=Compose(transforms=[LocalLabels(max_classes=3), ScalePixels(), cast]),
    )
    sampler = FixedSizeSampler(num_users=24, users_per_round=12, users_per_client=3, seed=SEED)
    load = partial(map, batcher.load)
    plan = Plan(
        sampler=sampler,
        query=ClippedSum(
            clipping=FlatClipping(clip_norm=clip_norm),
            planned_clients=sampler.planned_clients,
            sum_updates=lambda c, shared, cohort: Sequential().clipped_sum(work, c, shared, cohort, load),
        ),
        mechanism=Gaussian.from_multiplier(noise_multiplier=noise_multiplier, bound=clip_norm),
        server=FedOpt(optimizer=SGD(momentum=0.9), learning_rate=SERVER_LR, planned_clients=sampler.planned_clients),
        noise_rng=noise_source,
    )
    theta = start = to(task.init(SEED), dtype=dtype)
    velocity = {name: torch.zeros_like(value) for name, value in theta.items()}
    state = RunState(round=0, server=plan.server.init(theta, theta), query={}, noise={}, ledger=Ledger())
    for round in range(rounds):
        state, _ = run_round(plan, state)
        theta, velocity = reference.one_round(
            theta,
            velocity,
            [plain_client(task, batcher, client, dtype) for client in sampler.cohort(round).clients],
            plain_noise(theta, round),
            clip_norm=clip_norm,
            noise_multiplier=noise_multiplier,
            server_lr=SERVER_LR,
            server_momentum=0.9,
            lr=LR,
            head_lr_scale=HEAD_SCALE,
            momentum=0.9,
        )
    moved = max(float((theta[name] - start[name]).abs().max()) for name in theta)
    assert moved > 1e-4  # otherwise the next line proves nothing
    for name, value in theta.items():
        torch.testing.assert_close(state.server.params[name], value, rtol=0, atol=tolerance)


def plain_client(task, batcher, client, dtype):
    """(head [K, D], [(images, labels), ...]) without padding."""
    batches = batcher.load(client)
    head = task.init_local(client.seed)["head.weight"].to(dtype)
    real = [mask.bool() for mask in batches["mask"]]
    return head, [
        (images[keep], labels[keep])
        for images, labels, keep in zip(batches["image"], batches["label"], real, strict=True)
    ]


def plain_noise(theta, round):
    source = noise_source(round)
    return {name: source.normal(theta[name].shape) for name in sorted(theta)}
