"""Correlated noise as a mechanism: its distribution, its state over a restart, and what it says it costs."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from distribution import DRAWS, is_normal, right_scale, uncorrelated
from matrices import dense, prefix_errors

from fedemb.core.rng import SeededNoise, generator
from fedemb.privacy.banded import BandedToeplitz
from fedemb.privacy.correlated import CorrelatedGaussian
from fedemb.privacy.event_types import CorrelatedGaussianDpEvent
from fedemb.privacy.ledger import Ledger
from fedemb.privacy.mechanism import Gaussian
from fedemb.privacy.strategy import Tree
from fedemb.server import checkpoint
from fedemb.server.optimizer import ServerState
from fedemb.server.plan import RunState

STD, ROUNDS = 0.31, 6
STRATEGIES = [BandedToeplitz.optimal(rounds=ROUNDS, band=3), Tree(rounds_per_tree=4)]


def source(round):
    return SeededNoise(generator(7, "noise", round))


def noises(strategy, like, rounds=ROUNDS, state=None, first=0):
    """(the noise of each round in one vector [rounds, d], the state after them)."""
    mechanism = CorrelatedGaussian(std=STD, strategy=strategy)
    state = mechanism.init(like) if state is None else state
    rows = []
    for round in range(first, first + rounds):
        noisy, state = mechanism.release(like, state, source(round))
        rows.append(torch.cat([(noisy[name] - like[name]).flatten() for name in sorted(like)]))
    return torch.stack(rows).numpy(), state


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_noise_is_that_of_the_matrix(strategy):
    """C times the noise is independent N(0, std^2) in every round; prefix sums have the variance of A C^-1.

    With DRAWS entries an error of 2 % in either is rejected with probability above 0.999.
    """
    like = {"b": torch.full((DRAWS // 2,), 3.0), "a": torch.zeros(50, DRAWS // 100)}
    noise, _ = noises(strategy, like)
    white = dense(strategy, ROUNDS) @ noise
    assert all(is_normal(row, STD) for row in white)
    assert all(uncorrelated(one, other) for one, other in combinations(white, 2))
    errors = STD * np.sqrt(prefix_errors(strategy, ROUNDS))
    assert all(right_scale(row, error) for row, error in zip(noise.cumsum(0), errors, strict=True))
    assert not all(right_scale(row, 1.02 * error) for row, error in zip(noise.cumsum(0), errors, strict=True))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_noise_without_correlation_is_rejected(strategy):
    like = {"a": torch.zeros(DRAWS)}
    noise = np.stack([Gaussian(std=STD).release(like, {}, source(round))[0]["a"].numpy() for round in range(ROUNDS)])
    white = dense(strategy, ROUNDS) @ noise
    assert not all(is_normal(row, STD) for row in white)


def test_the_draws_are_those_of_independent_noise():
    """Band 1 is the Gaussian mechanism, draw by draw, in the order of the names."""
    like = {"b": torch.ones(3), "a": torch.zeros(2, 2), "c": torch.tensor(5.0)}
    mechanism = CorrelatedGaussian(std=STD, strategy=BandedToeplitz.optimal(rounds=9, band=1))
    one, _ = mechanism.release(dict(reversed(like.items())), mechanism.init(like), source(0))
    other, _ = Gaussian(std=STD).release(like, {}, source(0))
    assert all(torch.equal(one[name], other[name]) for name in like)
    assert all(value.dtype == torch.float64 for value in one.values())


def test_integer_answers_are_noised_in_float64():
    like = {"a": torch.arange(4)}
    mechanism = CorrelatedGaussian(std=STD, strategy=STRATEGIES[0])
    start = mechanism.init(like)
    assert all(value.dtype == torch.float64 for slot in start.values() for value in slot.values())
    _, state = mechanism.release(like, start, source(0))
    noisy, _ = mechanism.release(like, state, source(1))
    assert noisy["a"].dtype == torch.float64
    assert not torch.equal(noisy["a"], noisy["a"].round())


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("middle", [1, 3, 4, 5])
def test_a_resumed_run_goes_on_bit_by_bit(tmp_path, strategy, middle):
    """Through a checkpoint on disk: a state that lost precision or a slot would change the noise."""
    like = {"a": torch.zeros(5), "b": torch.zeros(2, 3)}
    whole, _ = noises(strategy, like)
    _, noise = noises(strategy, like, middle)
    server = ServerState(params=like, slots={}, average={}, updates=middle)
    state = RunState(round=middle, server=server, query={}, noise=noise, ledger=Ledger())
    checkpoint.save(tmp_path, state, {})
    loaded, _ = checkpoint.load(tmp_path, Ledger())
    rest, _ = noises(strategy, like, ROUNDS - middle, loaded.noise, middle)
    np.testing.assert_array_equal(rest, whole[middle:])


def test_the_event_holds_std_over_sensitivity_and_the_span():
    """z = std / B as for independent noise; the sensitivity is 2 B."""
    for strategy, shortest in zip(STRATEGIES, (1.0, 3**-0.5), strict=True):
        mechanism = CorrelatedGaussian.from_multiplier(noise_multiplier=0.62, bound=0.5, strategy=strategy)
        assert mechanism.std == pytest.approx(0.31)
        event = mechanism.event(2 * 0.5)
        assert event == CorrelatedGaussianDpEvent(mechanism.std, strategy.span, strategy.shortest)
        assert event.noise_multiplier == pytest.approx(0.31)
        assert event.shortest == pytest.approx(shortest)


@pytest.mark.parametrize("std", [-1.0, math.nan, math.inf])
def test_std_must_be_a_number(std):
    with pytest.raises(ValueError, match="std"):
        CorrelatedGaussian(std=std, strategy=STRATEGIES[0])


def test_unusable_multipliers_are_refused():
    for settings, words in (
        ({"noise_multiplier": -1, "bound": 1.0}, "noise_multiplier"),
        ({"noise_multiplier": 1, "bound": 0.0}, "bound"),
    ):
        with pytest.raises(ValueError, match=words):
            CorrelatedGaussian.from_multiplier(**settings, strategy=STRATEGIES[0])
    with pytest.raises(ValueError, match="sensitivity"):
        CorrelatedGaussian(std=1.0, strategy=STRATEGIES[0]).event(0.0)
