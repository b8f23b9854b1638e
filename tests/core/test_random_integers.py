"""Uniform integers: the words that would tip the balance are drawn again, to the last of them."""

import numpy as np
import pytest
from scipy import stats

from fedemb.core.random_integers import uniform_below
from fedemb.core.rng import SecretNoise, SeededNoise, generator

TOP = 2**64 - 1
BOUNDS = [1, 2, 3, 5, 7, 10, 2**32 - 1, 2**36, 2**63 - 1, 2**63, 2**63 + 1, TOP]


class Script:
    """A source that reads its words from a list."""

    def __init__(self, *words):
        self.left = list(words)

    def words(self, count):
        taken, self.left = self.left[:count], self.left[count:]
        assert len(taken) == count
        return np.array(taken, dtype=np.uint64)


@pytest.mark.parametrize("bound", BOUNDS)
def test_what_is_kept_falls_evenly_on_the_integers(bound):
    """The kept words spare .. 2^64 - 1 are a whole number of periods; the word below them is refused."""
    spare = 2**64 % bound
    assert (2**64 - spare) % bound == 0
    for word in (spare, TOP, 2**63):
        if word >= spare:
            assert uniform_below(bound, 1, Script(word)).tolist() == [word % bound]
    if spare:
        for word in (0, spare - 1):
            source = Script(word, spare - 1, TOP)  # refused twice
            assert uniform_below(bound, 1, source).tolist() == [TOP % bound]
            assert source.left == []


def test_only_refused_words_are_drawn_again():
    source = Script(5, 0, 7, 0, 0, 11, 4)  # 0 is the one word that 3 refuses
    assert uniform_below(3, 4, source).tolist() == [5 % 3, 4 % 3, 7 % 3, 11 % 3]
    assert source.left == []


def test_a_bound_near_the_word_is_uniform():
    """Remainders without a refusal would make the lowest third of 3 2^62 twice as likely as the rest."""
    draws = uniform_below(3 * 2**62, 30_000, SeededNoise(generator(1, "integers")))
    counts = np.bincount((draws >> np.uint64(62)).astype(int), minlength=3)
    assert stats.chisquare(counts).pvalue > 1e-6


@pytest.mark.parametrize("bound", [2, 3, 7, 64])
def test_small_bounds_are_uniform(bound):
    draws = uniform_below(bound, 50_000, SecretNoise())
    assert draws.dtype == np.uint64
    assert stats.chisquare(np.bincount(draws.astype(int), minlength=bound)).pvalue > 1e-6


def test_none_are_asked_for():
    assert uniform_below(5, 0, SecretNoise()).tolist() == []
