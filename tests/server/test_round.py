"""The round's order and its bookkeeping, with parts that write down when they were called."""

from dataclasses import replace

import pytest
import torch
from dp_accounting import GaussianDpEvent, NonPrivateDpEvent, PoissonSampledDpEvent, SampledWithoutReplacementDpEvent

from fedemb.core.optim import SGD
from fedemb.core.rng import SeededNoise, generator
from fedemb.core.types import Diagnostics
from fedemb.data.sampling import FixedSizeSampler, PoissonSampler
from fedemb.privacy.clipping import FlatClipping
from fedemb.privacy.ledger import Ledger
from fedemb.privacy.mechanism import Gaussian, NoNoise
from fedemb.privacy.query import ClippedSum
from fedemb.server.optimizer import FedOpt
from fedemb.server.plan import Plan, RunState
from fedemb.server.round import run_round
from fedemb.server.train import train

FIXED = FixedSizeSampler(num_users=100, users_per_round=8, users_per_client=2, seed=1)
NOTHING = Diagnostics(norms=torch.zeros(4), losses=torch.zeros(4), examples=torch.zeros(4))


def make_plan(answer, sampler=FIXED, mechanism=None):
    return Plan(
        sampler=sampler,
        query=ClippedSum(clipping=FlatClipping(clip_norm=0.5), planned_clients=4, sum_updates=answer),
        mechanism=mechanism or Gaussian.from_multiplier(noise_multiplier=2.0, bound=0.5),
        server=FedOpt(optimizer=SGD(), learning_rate=1.0, planned_clients=sampler.planned_clients),
        noise_rng=lambda round: SeededNoise(generator(0, "noise", round)),
    )


def make_state(plan, ledger=None):
    params = {"w": torch.zeros(2)}
    return RunState(round=0, server=plan.server.init(params, params), query={}, noise={}, ledger=ledger or Ledger())


def ones(clipping, shared, cohort):
    return {"w": torch.ones(2, dtype=torch.float64)}, NOTHING


def test_a_query_that_fails_is_charged_all_the_same(tmp_path):
    """A crash after the data were touched must not be free: the charge is on disk before the question is asked."""
    path = tmp_path / "ledger.jsonl"
    seen = []

    def fail(clipping, shared, cohort):
        seen.append(Ledger.read(path).entries)
        raise RuntimeError("power cut")

    plan = make_plan(fail)
    with pytest.raises(RuntimeError, match="power cut"):
        run_round(plan, make_state(plan, Ledger.create(path)))
    assert seen == [1]
    assert Ledger.resume(path).events == [(plan.event(0), 1)]


def test_no_question_is_asked_if_the_charge_cannot_be_written(tmp_path):
    asked = []
    plan = make_plan(lambda *args: asked.append(args))
    ledger = Ledger.create(tmp_path / "ledger.jsonl")
    (tmp_path / "ledger.jsonl").unlink()
    with pytest.raises(OSError, match="No such file"):
        run_round(plan, make_state(plan, ledger))
    assert not asked


@pytest.mark.parametrize(
    ("sampler", "mechanism", "event"),
    [
        # z = 2: noise std 1 on the sum, sensitivity 2 * 0.5 = 1, ratio 1 = z / 2. Rate 8/100, not 4/100.
        (FIXED, None, SampledWithoutReplacementDpEvent(100, 8, GaussianDpEvent(1.0))),
        (
            PoissonSampler(num_users=100, users_per_round=2.5, seed=1),
            None,
            PoissonSampledDpEvent(0.025, GaussianDpEvent(1.0)),
        ),
        (FIXED, NoNoise(), SampledWithoutReplacementDpEvent(100, 8, NonPrivateDpEvent())),
    ],
)
def test_round_event_joins_sampling_noise_and_sensitivity(sampler, mechanism, event):
    assert make_plan(ones, sampler, mechanism).event(0) == event


def test_rounds_use_their_own_cohort_and_noise():
    cohorts = []

    def answer(clipping, shared, cohort):
        cohorts.append(cohort)
        assert clipping == FlatClipping(clip_norm=0.5)
        return ones(clipping, shared, cohort)

    plan = make_plan(answer)
    state = make_state(plan)
    for _ in range(3):
        state, _ = run_round(plan, state)
    assert cohorts == [FIXED.cohort(0), FIXED.cohort(1), FIXED.cohort(2)]
    drawn = [SeededNoise(generator(0, "noise", round)).normal((2,)) for round in range(3)]
    wanted = sum((1 + draw) / 4 for draw in drawn)  # std z C = 1, m = 4
    torch.testing.assert_close(state.server.params["w"].double(), wanted, rtol=0, atol=1e-6)
    assert (state.round, state.server.updates, state.ledger.entries) == (3, 3, 3)


def test_a_round_leaves_the_state_before_it_alone():
    plan = make_plan(ones)
    before = make_state(plan)
    after, _ = run_round(plan, before)
    assert (before.round, before.ledger.entries) == (0, 0)
    assert before.server.params["w"].tolist() == [0, 0]
    assert after.server.params["w"].tolist() != [0, 0]


def test_a_resumed_round_is_the_round():
    """Round t from the state alone equals round t of a run that was never interrupted."""
    plan = make_plan(ones)
    through = make_state(plan)
    for _ in range(2):
        through, _ = run_round(plan, through)
    resumed = replace(through, ledger=Ledger(entries=17))
    one, other = run_round(make_plan(ones), resumed)[0], run_round(plan, through)[0]
    assert torch.equal(one.server.params["w"], other.server.params["w"])


def test_train_stops_at_the_last_round_or_when_asked_to():
    plan = make_plan(ones)
    seen = []
    hooks = [
        lambda state, _: seen.append(("first", state.round)),
        lambda state, _: seen.append(("second", state.round)),
    ]
    state = train(plan, make_state(plan), rounds=2, hooks=hooks)
    assert seen == [("first", 1), ("second", 1), ("first", 2), ("second", 2)]
    assert train(plan, state, rounds=2, hooks=hooks) is state
    later = train(plan, state, rounds=9, hooks=hooks, stopped=lambda: len(seen) >= 6)
    assert later.round == 3
