"""The noise of every mechanism and query as a distribution, through the whole engine, with work that sends zeros.

Bounds and power are those of test_noise.py: 1e5 numbers a round, alpha = 1e-6 a check.
"""

from functools import partial

import numpy as np
import pytest
import torch
from distribution import DRAWS, Idle, is_normal, right_scale, seeded, uncorrelated

from fedemb.core.optim import SGD
from fedemb.data.cyclic import CyclicSampler
from fedemb.data.sampling import FixedSizeSampler
from fedemb.execution.executor import Sequential
from fedemb.execution.vectorised import Vectorised
from fedemb.privacy.adaptive import AdaptiveClippedSum
from fedemb.privacy.banded import BandedToeplitz
from fedemb.privacy.clipping import PerLayerClipping
from fedemb.privacy.correlated import CorrelatedGaussian
from fedemb.privacy.discrete import DiscreteGaussian, GridClipping
from fedemb.privacy.ledger import Ledger
from fedemb.privacy.mechanism import Gaussian
from fedemb.privacy.query import ClippedSum
from fedemb.privacy.strategy import Tree
from fedemb.server import checkpoint
from fedemb.server.optimizer import FedOpt
from fedemb.server.plan import Plan, RunState
from fedemb.server.round import run_round

Z, C, CLIENTS = 0.62, 0.5, 4
FIXED = FixedSizeSampler(num_users=32, users_per_round=8, users_per_client=2, seed=4)
IN_TURN = CyclicSampler(num_users=32, users_per_round=8, users_per_client=2, order=0, seed=4)
BAND = BandedToeplitz.optimal(rounds=8, band=4)


def correlated(strategy):
    return partial(CorrelatedGaussian.from_multiplier, noise_multiplier=Z, strategy=strategy)


def flat(**settings):
    return ClippedSum(clipping=PerLayerClipping(clip_norm=C), **settings)


def grid(**settings):
    clipping = GridClipping.from_multiplier(clip_norm=C, noise_multiplier=Z, bits=36)
    return ClippedSum(clipping=clipping, **settings)


def adaptive(**settings):
    return AdaptiveClippedSum(clip_norm=C, noise_multiplier=Z, count_noise=1.0, **settings)


KINDS = {
    "per layer": (FIXED, flat, partial(Gaussian.from_multiplier, noise_multiplier=Z)),
    "discrete": (FIXED, grid, partial(DiscreteGaussian.from_multiplier, noise_multiplier=Z)),
    "adaptive": (FIXED, adaptive, partial(Gaussian.from_multiplier, noise_multiplier=Z)),
    "tree": (IN_TURN, flat, correlated(Tree(rounds_per_tree=4))),
    "banded": (IN_TURN, flat, correlated(BAND)),
}


def make(kind, executor=None):
    """(plan, state before round 0): 1e5 numbers from zero, server learning rate 1."""
    sampler, make_query, make_mechanism = KINDS[kind]
    load = partial(map, lambda _: {"mask": torch.ones(1, 2)})
    query = make_query(
        planned_clients=CLIENTS,
        sum_updates=lambda clipping, shared, cohort: (executor or Sequential()).clipped_sum(
            Idle(), clipping, shared, cohort, load
        ),
    )
    plan = Plan(
        sampler=sampler,
        query=query,
        mechanism=make_mechanism(bound=query.bound),
        server=FedOpt(optimizer=SGD(), learning_rate=1.0, planned_clients=CLIENTS),
        noise_rng=seeded,
    )
    zero = {"a.weight": torch.zeros(DRAWS // 2), "b": torch.zeros(500, DRAWS // 1000)}
    zero = {name: value.double() for name, value in zero.items()}
    server, noise = plan.server.init(zero, zero), plan.mechanism.init(query.blank(zero))
    return plan, RunState(round=0, server=server, query=query.init(), noise=noise, ledger=Ledger())


def flattened(state):
    return torch.cat([value.flatten() for value in state.server.params.values()])


def prefixes(kind, rounds, executor=None):
    """The model after each round, [rounds, DRAWS]: what of the noise is left in the sum."""
    plan, state = make(kind, executor)
    seen, norms = [], []
    for _ in range(rounds):
        norms.append(plan.query.public(state.query).get("clip_norm", C))
        state, _ = run_round(plan, state)
        seen.append(flattened(state))
    return torch.stack(seen), norms


@pytest.mark.parametrize("executor", [Sequential(), Vectorised()])
@pytest.mark.parametrize("kind", ["per layer", "discrete"])
def test_independent_noise_has_std_z_times_c(kind, executor):
    seen, _ = prefixes(kind, 3, executor)
    steps = [seen[0], seen[1] - seen[0], seen[2] - seen[1]]
    assert all(is_normal(step, Z * C / CLIENTS) for step in steps)
    assert uncorrelated(steps[0], steps[1])
    assert uncorrelated(steps[1], steps[2])
    assert is_normal(seen[2], 3**0.5 * Z * C / CLIENTS)


def test_adaptive_noise_follows_the_clip_norm():
    """All updates are zero, so that the clip norm falls; the noise of a round is z_sum times the round's clip norm."""
    seen, norms = prefixes("adaptive", 3)
    z_sum = (Z**-2 - (2 * 1.0) ** -2) ** -0.5
    assert norms[0] == C
    assert norms[2] != norms[1] != norms[0]
    before = torch.zeros(DRAWS)
    for prefix, clip_norm in zip(seen, norms, strict=True):
        assert is_normal(prefix - before, z_sum * clip_norm / CLIENTS)
        before = prefix


@pytest.mark.parametrize("kind", ["tree", "banded"])
def test_correlated_noise_has_the_covariance_of_its_matrix(kind):
    """Prefix sums of C^-1 Z for C from the strategy's own columns, by dense algebra; a tree adds node by node."""
    rounds = 8
    seen, _ = prefixes(kind, rounds)
    strategy = KINDS[kind][2].keywords["strategy"]
    matrix = np.column_stack([strategy.column(round, rounds) for round in range(rounds)])
    wanted = np.linalg.norm(np.tril(np.ones((rounds, rounds))) @ np.linalg.inv(matrix), axis=1)
    assert all(is_normal(prefix, std * Z * C / CLIENTS) for prefix, std in zip(seen, wanted, strict=True))
    independent = np.sqrt(np.arange(1, rounds + 1))
    assert not right_scale(seen[-1], independent[-1] * Z * C / CLIENTS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_resumed_run_is_bit_equal(kind, stop, tmp_path):
    """The state of the noise and of the query goes through a checkpoint in the middle of a tree and of a band."""
    plan, through = make(kind)
    _, part = make(kind)
    for _ in range(6):
        through, _ = run_round(plan, through)
    for _ in range(stop):
        part, _ = run_round(plan, part)
    checkpoint.save(tmp_path, part, {})
    resumed, _ = checkpoint.load(tmp_path, part.ledger)
    other, _ = make(kind)
    for _ in range(6 - stop):
        resumed, _ = run_round(other, resumed)
    assert torch.equal(flattened(resumed), flattened(through))
    assert resumed.ledger.events == through.ledger.events
    assert {name: float(value) for name, value in resumed.query.items()} == {
        name: float(value) for name, value in through.query.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_holds_a_bounded_state(kind):
    plan, state = make(kind)
    sizes = []
    for _ in range(12):
        state, _ = run_round(plan, state)
        sizes.append(sum(value.numel() for slot in state.noise.values() for value in slot.values()))
    most = {"tree": 3, "banded": 3}.get(kind, 0)
    assert max(sizes) <= most * DRAWS + 1
