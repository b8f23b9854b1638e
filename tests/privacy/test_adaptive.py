"""Adaptive clipping: what it costs, that a client's part stays bounded, and that the norm follows the quantile."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from dp_accounting import GaussianDpEvent, NeighboringRelation
from hypothesis import given
from hypothesis import strategies as st

from fedemb.core.rng import SeededNoise, generator
from fedemb.core.types import Cohort, Diagnostics
from fedemb.privacy.adaptive import COUNT, AdaptiveClippedSum
from fedemb.privacy.mechanism import Gaussian

SUBSTITUTE_ONE = NeighboringRelation.REPLACE_ONE
NOBODY = Cohort(round=0, clients=())


def of_updates(updates, clipping, shared, cohort):
    """The sum of given updates [m, d]."""
    clipped = [clipping({"w": update}) for update in updates]
    total = torch.stack([update["w"] for update, _ in clipped]).sum(0) if clipped else torch.zeros(3).double()
    norms = torch.stack([norm for _, norm in clipped]) if clipped else torch.zeros(0)
    nothing = torch.zeros(len(clipped))
    return {"w": total}, Diagnostics(norms=norms, losses=nothing, examples=nothing)


def query(updates=(), *, z=1.0, clip_norm=0.5, clients=32, **settings):
    return AdaptiveClippedSum(
        sum_updates=partial(of_updates, updates),
        planned_clients=clients,
        clip_norm=clip_norm,
        noise_multiplier=z,
        **settings,
    )


@pytest.mark.parametrize(("z", "clients", "count_noise", "z_sum"), [(1.0, 32, 1.6, 1.052723), (0.5, 4, None, None)])
def test_noise_on_the_sum_and_on_the_count(z, clients, count_noise, z_sum):
    """Andrew et al. 2021, Theorem 1; 1.052723 is TFF's adaptive_clip_noise_params(1.0, 32, 1.6)."""
    asked = query(z=z, clients=clients, count_noise=count_noise)
    std = Gaussian.from_multiplier(noise_multiplier=z, bound=asked.bound).std
    count_noise = count_noise or max(clients / 20, z)
    assert std == pytest.approx(z_sum or (z**-2 - (2 * count_noise) ** -2) ** -0.5, rel=1e-6)
    weight = 2 * math.sqrt(asked.bound**2 - 1)
    assert std / weight == pytest.approx(count_noise)


@pytest.mark.parametrize("count_noise", [0.6, 1.0, 5.0])
def test_it_costs_what_the_sum_alone_would_cost(count_noise):
    asked = query(z=1.0, count_noise=count_noise)
    mechanism = Gaussian.from_multiplier(noise_multiplier=1.0, bound=asked.bound)
    event = mechanism.event(asked.sensitivity(SUBSTITUTE_ONE))
    assert isinstance(event, GaussianDpEvent)
    assert event.noise_multiplier == pytest.approx(0.5, rel=1e-12)
    split = 1 / math.sqrt((2 / mechanism.std) ** 2 + (1 / count_noise) ** 2)  # two Gaussians: sensitivity 2 and 1
    assert split == pytest.approx(0.5, rel=1e-9)


VECTORS = st.lists(st.floats(-1e6, 1e6, width=32) | st.sampled_from([math.nan, math.inf, 0.0]), min_size=3, max_size=3)


@given(VECTORS, VECTORS, st.floats(1e-3, 1e3))
def test_two_clients_differ_by_the_sensitivity_at_most_at_every_clip_norm(one, other, clip_norm):
    vectors = [torch.tensor(update) for update in (one, other)]
    left, right = (query([vector], clip_norm=clip_norm) for vector in vectors)
    state = left.init()
    a, b = left.answer(state, {}, NOBODY)[0], right.answer(state, {}, NOBODY)[0]
    moved = math.hypot(*(a["w"] - b["w"]).tolist(), float(a[COUNT] - b[COUNT]))
    assert moved <= left.sensitivity(SUBSTITUTE_ONE)
    assert math.hypot(*a["w"].tolist(), float(a[COUNT])) <= left.bound  # an empty slot is zero under Poisson sampling


def test_opposite_clients_attain_the_sensitivity():
    """One just within the clip norm and one far beyond it, in opposite directions."""
    inside, beyond = torch.tensor([0.4999999, 0, 0]), torch.tensor([-9.0, 0, 0])
    a, b = (query([vector]).answer(query().init(), {}, NOBODY)[0] for vector in (inside, beyond))
    moved = math.hypot(*(a["w"] - b["w"]).tolist(), float(a[COUNT] - b[COUNT]))
    assert moved == pytest.approx(query().sensitivity(SUBSTITUTE_ONE), rel=1e-6)


@pytest.mark.parametrize(("quantile", "z"), [(0.1, 0.0), (0.9, 0.0), (0.5, 0.5)])
def test_the_clip_norm_finds_the_quantile(quantile, z):
    norms = np.random.default_rng(0).lognormal(1.0, 0.7, size=200)
    asked = query([torch.tensor([norm, 0, 0]) for norm in norms], z=z, clients=200, quantile=quantile)
    mechanism = Gaussian.from_multiplier(noise_multiplier=z, bound=asked.bound)
    state, seen = asked.init(), []
    for round in range(150):
        answer, _ = asked.answer(state, {}, NOBODY)
        release, _ = mechanism.release(answer, {}, SeededNoise(generator(0, "noise", round)))
        update, state = asked.interpret(release, state)
        seen.append(asked.public(state)["clip_norm"])
    found = float(np.mean(norms <= np.median(seen[-50:])))
    assert found == pytest.approx(quantile, abs=0.06)
    assert update["w"].shape == (3,)


def test_without_noise_the_release_is_the_clipped_sum():
    updates = [torch.tensor([3.0, 0, 0]), torch.tensor([0, 0.1, 0])]
    asked = query(updates, z=0.0, clients=2)
    answer, _ = asked.answer(asked.init(), {}, NOBODY)
    update, state = asked.interpret(answer, asked.init())
    torch.testing.assert_close(update["w"], torch.tensor([0.5, 0.1, 0]).double(), rtol=1e-6, atol=1e-9)
    assert set(update) == {"w"}
    assert float(state["clip_norm"]) == pytest.approx(0.5 * math.exp(-0.2 * (0.5 - 0.5)))


def test_blank_has_the_names_of_an_answer():
    asked = query([torch.zeros(3)])
    answer, _ = asked.answer(asked.init(), {}, NOBODY)
    blank = asked.blank({"w": torch.ones(3)})
    assert {name: value.shape for name, value in blank.items()} == {n: v.shape for n, v in answer.items()}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"quantile": 1.0}, "quantile"),
        ({"rate": 0.0}, "rate"),
        ({"count_noise": -1.0}, "count_noise"),
        ({"count_noise": 0.5}, "above noise_multiplier / 2"),
        ({"z": -1.0}, "noise_multiplier"),
        ({"clients": 0}, "planned_clients"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        query(**settings)
