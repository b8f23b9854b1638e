"""The exact sampler, without statistics: its coins by enumeration, its arithmetic by type. Laws: tests/statistical."""

import ast
import inspect
import math
from fractions import Fraction

import numpy as np
import pytest

from fedemb.core import random_integers
from fedemb.core.rng import SecretNoise, SeededNoise, generator
from fedemb.privacy import discrete_gaussian
from fedemb.privacy.discrete_gaussian import coins_of_exp, sample


class MoreDraws(Exception):
    """The script of draws ended where one of this bound was asked for."""

    def __init__(self, bound):
        self.bound = bound


def outcomes(monkeypatch, toss, most_draws):
    """Result -> its exact probability over all possible draws, None for those that need more than `most_draws`."""
    total, open_paths = {}, [((), Fraction(1))]
    while open_paths:
        path, chance = open_paths.pop()
        script = list(path)

        def draw(bound, count, source, script=script):
            if not script:
                raise MoreDraws(bound)
            assert count == 1
            return np.array([script.pop(0)], dtype=np.uint64)

        monkeypatch.setattr(discrete_gaussian, "uniform_below", draw)
        try:
            result = bool(toss())
        except MoreDraws as more:
            if len(path) < most_draws:
                open_paths += [((*path, value), chance / more.bound) for value in range(more.bound)]
                continue
            result = None
        total[result] = total.get(result, Fraction(0)) + chance
    return total


COINS = [  # numerators over sigma, sigma, divisor, trials
    ((), 1, 1, 6),
    ((), 1, 2, 5),
    ((), 5, 3, 4),
    ((0,), 4, 1, 3),
    ((3,), 4, 1, 4),
    ((4,), 4, 1, 3),
    ((2,), 3, 2, 3),
    ((2, 2), 3, 2, 3),
    ((1, 2), 2, 1, 3),
]


@pytest.mark.parametrize(("numerators", "sigma", "divisor", "trials"), COINS)
def test_the_chance_of_a_coin_is_the_series_of_exp(monkeypatch, numerators, sigma, divisor, trials):
    """Over every possible draw: after K trials exactly the K-th partial sums, and x^K / K! is undecided."""
    x = math.prod((Fraction(n, sigma) for n in numerators), start=Fraction(1, divisor))
    arrays = tuple(np.array([n], dtype=np.uint64) for n in numerators)
    chances = outcomes(
        monkeypatch,
        lambda: coins_of_exp(arrays, sigma, divisor, 1, None)[0],
        trials * (1 + len(numerators)),
    )
    runs = [x**j / math.factorial(j) for j in range(trials + 1)]  # chance of at least j successes
    exactly = [runs[j] - runs[j + 1] for j in range(trials)]
    assert chances.get(True, 0) == sum(exactly[::2])
    assert chances.get(False, 0) == sum(exactly[1::2])
    assert chances.get(None, 0) == runs[trials]
    assert abs(float(chances.get(True, 0)) - math.exp(-x)) <= float(runs[trials]) + 1e-15


def test_coins_of_many_runs_keep_their_own_numerators():
    """x = 0 is always true, whatever its neighbours do."""
    numerators = np.tile(np.array([0, 7], dtype=np.uint64), 1000)
    coins = coins_of_exp((numerators,), 7, 1, 2000, SecretNoise())
    assert coins[::2].all()
    assert not coins[1::2].all()


class Whole(np.ndarray):
    """An array that no floating-point operation may touch."""

    used = 0

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        plain = [np.asarray(value) for value in inputs]
        assert "out" not in kwargs or ufunc is np.bitwise_and
        kwargs = {k: tuple(np.asarray(v) for v in given) if k == "out" else given for k, given in kwargs.items()}
        result = getattr(ufunc, method)(*plain, **kwargs)
        assert {array.dtype.kind for array in [*plain, result]} <= set("iub"), ufunc
        Whole.used += 1
        return result.view(Whole)


@pytest.mark.parametrize("sigma", [1, 2, 3, 2**36, 2**56])
def test_every_operation_is_on_integers(monkeypatch, sigma):
    """A uint64 next to an int64 becomes a float64 in NumPy, without a word."""
    plain = random_integers.uniform_below
    monkeypatch.setattr(discrete_gaussian, "uniform_below", lambda *args: plain(*args).view(Whole))
    Whole.used = 0
    assert sample(sigma, 3000, SeededNoise(generator(0, "whole"))).dtype == np.int64
    assert Whole.used > 50


@pytest.mark.parametrize("module", [discrete_gaussian, random_integers])
def test_the_source_text_has_no_floats(module):
    nodes = list(ast.walk(ast.parse(inspect.getsource(module))))
    assert not [node for node in nodes if isinstance(node, ast.Div)]
    assert not [node for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, float)]
    names = {getattr(node, "attr", getattr(node, "id", "")) for node in nodes}
    assert not [name for name in names if "float" in name or name in {"math", "exp", "log", "sqrt", "random"}]


@pytest.mark.parametrize("count", [0, 1, 2, 17, 1000])
def test_as_many_draws_as_asked_for(count):
    draws = sample(2**36, count, SecretNoise())
    assert draws.shape == (count,)
    assert draws.dtype == np.int64


def test_more_draws_than_a_chunk_of_proposals():
    draws = sample(2**36, 2**17 + 5, SeededNoise(generator(2, "chunks")))
    assert draws.size == len(set(draws.tolist())) == 2**17 + 5  # of 2^37 likely values, two coincide with chance 0.06


def test_draws_repeat_with_the_seed_and_not_without():
    one, other = (sample(2**36, 9, SeededNoise(generator(3, "noise"))).tolist() for _ in range(2))
    assert one == other
    assert sample(2**36, 9, SecretNoise()).tolist() != sample(2**36, 9, SecretNoise()).tolist()
