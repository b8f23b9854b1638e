"""Given updates go through the executor's own path, and leave the other clients as they are."""

import numpy as np
import pytest
import torch
from small import RAGGED, make_cohort, make_stream, make_task, make_work

from fedemb.core.params import add, norm, scale, sub
from fedemb.execution.executor import Sequential
from fedemb.execution.given import sum_with_canaries
from fedemb.execution.vectorised import Vectorised
from fedemb.privacy.canaries import Canaries
from fedemb.privacy.clipping import FlatClipping

C = 0.5
CLIPPING = FlatClipping(clip_norm=C)
WORK = make_work()
SHARED = make_task().init(0)
COINS = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)


@pytest.fixture
def canaries():
    return Canaries.draw(clipping=CLIPPING, like=SHARED, count=3, rng=np.random.default_rng(0))


def summed(executor, canaries, cohort, seats):
    no_steps = {name: value[:0] for name, value in next(make_stream()([RAGGED.clients[0]])).items()}
    sum_updates = sum_with_canaries(
        executor,
        WORK,
        make_stream(),
        no_steps=no_steps,
        canaries=canaries,
        coins=COINS,
        seating=lambda cohort: seats,
    )
    return sum_updates(CLIPPING, SHARED, cohort)


def without(cohort, *slots):
    clients = tuple(client for slot, client in enumerate(cohort.clients) if slot not in slots)
    return type(cohort)(round=cohort.round, clients=clients)


@pytest.mark.parametrize("executor", [Sequential(), Vectorised()], ids=["sequential", "vectorised"])
def test_canaries_replace_their_client_and_no_other(executor, canaries):
    total, diagnostics = summed(executor, canaries, RAGGED, [(0,), (), (1,)])
    others, _ = Sequential().clipped_sum(WORK, CLIPPING, SHARED, without(RAGGED, 0, 2), make_stream())
    sent = [scale(canaries.update([canary], COINS, C), 1 / 10) for canary in (0, 1)]
    expected = add(others, add(*sent))
    assert float(norm(sub(total, expected))) < 1e-5
    assert diagnostics.norms[[0, 2]].tolist() == pytest.approx([5.0, 5.0], rel=1e-5)  # before the clip
    assert diagnostics.examples.tolist() == [0, 0, 0, 16, 11]


def test_seats_beyond_the_cohort_are_further_clients(canaries):
    total, diagnostics = summed(Sequential(), canaries, make_cohort(), [(0,), (1,), (2,)])
    assert len(diagnostics.norms) == 3
    assert canaries.project(total).tolist() == pytest.approx([C, -C, C], rel=1e-5)


def test_canaries_who_share_a_virtual_client_share_one_clip_norm(canaries):
    total, _ = summed(Sequential(), canaries, make_cohort((0, 1)), [(0, 1)])
    assert float(norm(total)) == pytest.approx(C, rel=1e-5)
