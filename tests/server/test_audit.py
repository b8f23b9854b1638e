"""Attacks on whole plans: correct ones pass, planted faults are caught, whatever the mechanism."""

import importlib.util
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from small import make_cohort, make_stream, make_task, make_work
from torch import nn

from fedemb.core.optim import SGD
from fedemb.core.rng import SeededNoise, generator
from fedemb.data.cyclic import CyclicSampler
from fedemb.data.sampling import FixedSizeSampler, PoissonSampler
from fedemb.execution.executor import Sequential
from fedemb.execution.given import sum_with_canaries
from fedemb.execution.vectorised import Vectorised
from fedemb.privacy.adaptive import AdaptiveClippedSum
from fedemb.privacy.banded import BandedToeplitz
from fedemb.privacy.clipping import FlatClipping, PerLayerClipping
from fedemb.privacy.correlated import CorrelatedGaussian
from fedemb.privacy.discrete import DiscreteGaussian, GridClipping
from fedemb.privacy.gaussian import gaussian_epsilon
from fedemb.privacy.mechanism import Gaussian
from fedemb.privacy.query import ClippedSum
from fedemb.privacy.strategy import Tree
from fedemb.privacy.verdict import Verdict, sampler_finding
from fedemb.server.audit import Attack, gather
from fedemb.server.optimizer import FedOpt
from fedemb.server.plan import Plan

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "audit_faults.py"
spec = importlib.util.spec_from_file_location("audit_faults", SCRIPT)
planted = sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))  # dataclasses look it up
spec.loader.exec_module(planted)

DELTA, C = 1e-5, 0.5


class Backbone(nn.Module):
    """Two linear layers, 64 -> 8 -> 4: 556 parameters."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 8), nn.Linear(8, 4)

    def forward(self, images):
        return self.second(self.first(images.flatten(1)).relu())


def unasked(clipping, shared, cohort):
    raise AssertionError("the audit brings its own sum")


def seeded(seed, round):
    return SeededNoise(generator(seed, "noise", round))


def make_plan(*, sampler=None, query=None, mechanism=Gaussian.from_multiplier, z=1.0, seed=0):
    sampler = sampler or FixedSizeSampler(num_users=12, users_per_round=8, users_per_client=2, seed=seed)
    query = query or partial(ClippedSum, clipping=FlatClipping(clip_norm=C))
    asked = query(sum_updates=unasked, planned_clients=sampler.planned_clients)
    return Plan(
        sampler=sampler,
        query=asked,
        mechanism=mechanism(noise_multiplier=z, bound=asked.bound),
        server=FedOpt(optimizer=SGD(), learning_rate=1.0, planned_clients=sampler.planned_clients),
        noise_rng=partial(seeded, seed),
    )


TASK = make_task(backbone=Backbone())


def make_attack(plan, *, rounds=2, per_round=4, seed=0, executor=None, train=False, task=TASK):
    load = make_stream()
    no_steps = {name: value[:0] for name, value in next(load(make_cohort((0,)).clients)).items()}

    def idle(clients):
        return (no_steps for _ in clients)

    return Attack(
        plan=plan,
        start=task.init(0),
        is_shared=task.is_shared,
        sum_with=lambda canaries, coins, seating: sum_with_canaries(
            executor or Sequential(),
            make_work(task=task),
            load if train else idle,
            no_steps=no_steps,
            canaries=canaries,
            coins=coins,
            seating=seating,
        ),
        rounds=rounds,
        seats_per_round=per_round,
        seed=seed,
    )


def verdict(plan, *, canaries=100, seed=0, **settings):
    attack = make_attack(plan, seed=seed, **settings)
    evidence = gather(attack, canaries=canaries, guesses=canaries // 5, delta=DELTA)
    cohorts = map(plan.sampler.cohort, range(60))
    sampling = sampler_finding(plan.event(0), cohorts, users=12)
    return evidence, Verdict(findings=(*evidence.findings(), sampling), confidence=0.95)


def caught(judged):
    return {finding.name for finding in judged.findings if judged.refutes(finding)}


FAULTS = {
    "none": set(),
    "noise at half": {"noise", "noise over signal"},
    "clipping off": {"clip", "noise over signal"},
    "C for 2C claimed": {"noise", "noise over signal"},
    "q = m/N claimed": {"sampling"},
    "noise reused": {"noise reused"},
    "no sampling": {"sampling"},
    "a user in two seats": {"sampling"},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_caught_by_the_check_that_is_for_them(fault):
    _, judged = verdict(planted.FAULTS[fault](make_plan()))
    assert judged.violated == (fault != "none")
    assert caught(judged) == FAULTS[fault]


def test_noise_at_four_fifths_needs_more_canaries():
    _, judged = verdict(planted.FAULTS["noise at 0.8"](make_plan()), canaries=400)
    assert "noise" in caught(judged)


def test_half_of_much_noise_is_caught_too():
    """At z = 20 no coin can be guessed."""
    evidence, judged = verdict(planted.FAULTS["noise at half"](make_plan(z=20.0)))
    assert evidence.lower_bound == 0
    assert caught(judged) == {"noise"}


def test_no_noise_at_all_is_caught():
    _, judged = verdict(planted.noise_at(0.0)(make_plan()), canaries=20)
    assert {"noise", "noise over signal", "noise reused"} <= caught(judged)


def test_a_correct_run_is_rarely_called_violated():
    """20 audits at 95 % confidence: 1 expected, more than 5 with a chance below 0.001."""
    assert sum(verdict(make_plan(seed=seed), canaries=40, seed=seed)[1].violated for seed in range(20)) <= 5


def cyclic(per_client=2):
    return CyclicSampler(num_users=12, users_per_round=4, users_per_client=per_client, order=3, seed=0)


BANDED = BandedToeplitz.of([3.0, 2.0, 1.0])
PLANS = {
    "adaptive": (
        lambda: make_plan(query=partial(AdaptiveClippedSum, clip_norm=C, noise_multiplier=1.0)),
        {"rounds": 4},
    ),
    "per layer": (
        lambda: make_plan(query=partial(ClippedSum, clipping=PerLayerClipping(clip_norm=C, weights={"first": 2.0}))),
        {},
    ),
    "poisson": (lambda: make_plan(sampler=PoissonSampler(num_users=12, users_per_round=6.0, seed=1)), {}),
    "discrete": (
        lambda: make_plan(
            query=partial(
                ClippedSum, clipping=GridClipping.from_multiplier(clip_norm=C, noise_multiplier=1.0, bits=40)
            ),
            mechanism=partial(DiscreteGaussian.from_multiplier, entries=556),
        ),
        {},
    ),
    "cyclic": (lambda: make_plan(sampler=cyclic()), {"rounds": 6, "per_round": 2}),
    "tree": (
        lambda: make_plan(
            sampler=cyclic(),
            mechanism=partial(CorrelatedGaussian.from_multiplier, strategy=Tree(rounds_per_tree=2)),
        ),
        {"rounds": 6, "per_round": 2},
    ),
    "banded": (
        lambda: make_plan(
            sampler=cyclic(per_client=1), mechanism=partial(CorrelatedGaussian.from_multiplier, strategy=BANDED)
        ),
        {"rounds": 6, "per_round": 4},
    ),
    "vectorised": (make_plan, {"executor": Vectorised()}),
}


@pytest.mark.parametrize("name", PLANS)
def test_every_mechanism_passes_and_its_epsilon_is_found(name):
    """The estimate is near what is certified: the attack uses all that the mechanism gives away."""
    make, settings = PLANS[name]
    evidence, judged = verdict(make(), canaries=300, **settings)
    assert caught(judged) == set()
    low, high = evidence.fit.interval(DELTA, 0.9999)
    assert high > 0.9 * evidence.epsilon
    assert low < evidence.epsilon
    assert evidence.lower_bound <= evidence.epsilon


@pytest.mark.parametrize("name", PLANS)
def test_half_of_the_noise_is_caught_in_every_mechanism(name):
    make, settings = PLANS[name]
    plan = make()
    less = replace(plan.mechanism, std=plan.mechanism.std / 2)
    if isinstance(plan.mechanism, CorrelatedGaussian):
        less = Understated(std=less.std, strategy=less.strategy)
    else:
        less = planted.Misstated(says=plan.mechanism, does=less)
    _, judged = verdict(replace(plan, mechanism=less), **settings)
    assert {"noise", "noise over signal"} <= caught(judged)


class Understated(CorrelatedGaussian):
    """Charges for twice the noise."""

    def event(self, sensitivity):
        return super().event(sensitivity / 2)


@pytest.mark.parametrize("rounds", [1, 3])
def test_the_claim_is_that_of_a_user_who_takes_part_for_certain(rounds):
    """s = z / (2 sqrt(T)), not the amplified price of the run."""
    evidence, _ = verdict(make_plan(z=2.0), rounds=rounds, canaries=12)
    assert evidence.epsilon == pytest.approx(gaussian_epsilon(1 / rounds**0.5, DELTA), rel=1e-6)


def test_others_train_for_real():
    """Their updates are in the sums, and the canaries are still found among them."""
    plan = make_plan(z=3.0)
    idle, training = (make_attack(plan, per_round=2, train=train) for train in (False, True))
    assert not np.allclose(idle.repeat(0).scores, training.repeat(0).scores)
    _, judged = verdict(plan, per_round=2, train=True)
    assert caught(judged) == set()


def test_repetitions_share_neither_coins_nor_noise():
    attack = make_attack(make_plan(), per_round=4)
    first, second = attack.repeat(0), attack.repeat(1)
    assert not np.array_equal(first.noise, second.noise)
    coins = np.stack([attack.repeat(number).coins for number in range(20)])
    assert 20 <= (coins > 0).sum() <= 60
    again = make_attack(make_plan(), per_round=4).repeat(1)
    assert np.array_equal(again.scores, second.scores)


def test_more_seats_than_virtual_clients():
    with pytest.raises(ValueError, match="seats_per_round must be at most the 4 virtual clients"):
        make_attack(make_plan(), per_round=5)


@pytest.mark.parametrize(
    ("canaries", "guesses", "words"),
    [(9, 2, "canaries must be an integer of at least 10"), (20, 0, "guesses"), (20, 21, "guesses must be at most")],
)
def test_counts_that_cannot_be(canaries, guesses, words):
    with pytest.raises(ValueError, match=words):
        gather(make_attack(make_plan()), canaries=canaries, guesses=guesses, delta=DELTA)


def test_nothing_to_refute():
    with pytest.raises(ValueError, match="epsilon = ∞ at delta=1e-05: nothing to audit"):
        verdict(make_plan(z=0.0))
    with pytest.raises(ValueError, match="epsilon = 0 at delta=1e-05"):
        verdict(make_plan(z=1e6))


def test_the_published_setting():
    """d about 2e4, 1000 canaries in one round, z = 1: theory 10.00, and no claim of 4.38 survives."""
    wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 300), nn.Linear(300, 4))
    plan = make_plan(sampler=FixedSizeSampler(num_users=1000, users_per_round=1000, seed=0))
    attack = make_attack(plan, rounds=1, per_round=1000, task=make_task(backbone=wide))
    evidence = gather(attack, canaries=1000, guesses=200, delta=DELTA)
    assert evidence.epsilon == pytest.approx(10.00, abs=0.005)
    assert evidence.fit.epsilon(DELTA) == pytest.approx(10.0, rel=0.15)
    assert evidence.fit.interval(DELTA)[0] > 4.38
    assert 0.25 * 10 < evidence.lower_bound < 10
