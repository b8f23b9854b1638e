"""What a mechanism adds and what it says that costs. The noise's distribution is in tests/statistical."""

import math

import pytest
import torch
from dp_accounting import GaussianDpEvent, NonPrivateDpEvent

from fedemb.core.rng import SeededNoise, generator
from fedemb.privacy.accounting import spend
from fedemb.privacy.mechanism import Gaussian, NoNoise


class Counting:
    """A source that hands out 1, 2, 3, ...: every number names the draw that it came from."""

    def __init__(self):
        self.drawn = 0

    def normal(self, shape):
        count = math.prod(shape)
        values = torch.arange(self.drawn + 1, self.drawn + count + 1, dtype=torch.float64)
        self.drawn += count
        return values.reshape(shape)


def test_every_entry_gets_its_own_draw_times_std():
    """Noise shared between two names or entries cancels in their difference."""
    value = {"b": torch.zeros(2, 2), "a": torch.tensor([10.0, 20.0, 30.0]), "c": torch.tensor(5.0)}
    source = Counting()
    noisy, state = Gaussian(std=0.5).release(value, {}, source)
    assert source.drawn == 8
    assert state == {}
    assert noisy["a"].tolist() == [10.5, 21.0, 31.5]
    assert noisy["b"].tolist() == [[2.0, 2.5], [3.0, 3.5]]
    assert noisy["c"].item() == 9.0
    assert all(tensor.dtype == torch.float64 for tensor in noisy.values())


def test_noise_does_not_depend_on_the_order_of_the_names():
    """A sum that comes from another executor or worker may list its names in another order."""
    value = {"a": torch.zeros(3), "b": torch.zeros(2)}
    one, other = (
        Gaussian(std=1.0).release(v, {}, SeededNoise(generator(0, "noise", 0)))[0]
        for v in (value, dict(reversed(value.items())))
    )
    assert all(torch.equal(one[name], other[name]) for name in value)


def test_multiplier_is_relative_to_the_clip_norm_and_the_event_to_the_sensitivity():
    """z = std / C, so that with the sensitivity 2C the event says z / 2."""
    mechanism = Gaussian.from_multiplier(noise_multiplier=0.62, bound=0.5)
    assert mechanism.std == pytest.approx(0.31)
    event = mechanism.event(2 * 0.5)
    assert isinstance(event, GaussianDpEvent)
    assert event.noise_multiplier == pytest.approx(0.31)


def test_no_noise_costs_everything():
    value = {"a": torch.tensor([1.0])}
    assert NoNoise().release(value, {}, Counting())[0]["a"].tolist() == [1.0]
    assert isinstance(NoNoise().event(1.0), NonPrivateDpEvent)
    for mechanism in (NoNoise(), Gaussian(std=0.0)):
        assert math.isinf(spend([(mechanism.event(1.0), 1)], 1e-5).epsilon)


def test_neither_carries_state():
    like = {"a": torch.zeros(2)}
    assert Gaussian(std=1.0).init(like) == NoNoise().init(like) == {}


@pytest.mark.parametrize("std", [-1.0, math.nan, math.inf])
def test_std_must_be_a_number(std):
    with pytest.raises(ValueError, match="std"):
        Gaussian(std=std)


@pytest.mark.parametrize("sensitivity", [0.0, -1.0, math.inf])
def test_sensitivity_must_be_positive(sensitivity):
    with pytest.raises(ValueError, match="sensitivity"):
        Gaussian(std=1.0).event(sensitivity)
