"""What an attack on canaries proves, or makes likely, about epsilon. Pure functions of scores and guesses.

A canary is a user who sends one of two opposite updates, by a fair coin that the attack must guess: the two worlds of
substitute-one. Its score is what the attack saw of its update, in units of the clip norm, times the coin.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq

from fedemb.core import check
from fedemb.privacy.gaussian import gaussian_epsilon

Array = NDArray[np.float64]

_QUANTILES = 5_000  # of the chi-square distribution, for the noncentral t
_LEAST_NOISE = 1e-9  # clip norms: what no noise is taken for
_LARGEST_EPSILON = 1e3  # no count of guesses proves more


def one_run_p_value(*, canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """The most likely that so many guesses are right if the mechanism is (epsilon, delta)-DP.

    Args: canaries: m coins. guesses: r of them were guessed, a number fixed in advance. correct: v of these were right.
    Source: Steinke, Nasr and Jagielski 2023, Theorem 5.2, arXiv:2305.08846.
    """
    check.at_least("guesses", guesses, 1)
    check.at_least("canaries", canaries, guesses)
    check.at_least("correct", correct, 0)
    check.non_negative("epsilon", epsilon)
    guess_right = 1 / (1 + math.exp(-epsilon))
    beta = stats.binom.sf(correct - 1, guesses, guess_right)
    fewer = np.arange(1, correct + 1)
    between = np.cumsum(stats.binom.pmf(correct - fewer, guesses, guess_right))  # Pr[v - i <= Bin < v]
    alpha = float((between / fewer).max(initial=0.0))
    return float(min(1.0, beta + 2 * canaries * delta * alpha))


def one_run_lower_bound(*, canaries: int, guesses: int, correct: int, delta: float, confidence: float = 0.95) -> float:
    """The largest epsilon that so many right guesses refute with this confidence; 0 if they refute none."""
    check.fraction("confidence", confidence)

    def excess(epsilon: float) -> float:
        chance = one_run_p_value(canaries=canaries, guesses=guesses, correct=correct, epsilon=epsilon, delta=delta)
        return chance - (1 - confidence)

    if excess(0.0) > 0:
        return 0.0
    high = 1.0
    while high < _LARGEST_EPSILON and excess(high) <= 0:
        high *= 2
    return float(brentq(excess, 0.0, high, xtol=1e-9)) if excess(high) > 0 else high


@dataclass(frozen=True, kw_only=True)
class GaussianFit:
    """Scores w_i mu + N(0, sigma^2): mu is the part of the clip norm that comes through, w_i >= 0 a canary's weight.

    signal: mu. noise: sigma. length: root of the sum of the w_i^2. freedom: degrees of freedom of sigma.
    strongest: the largest w_i, that of a user whom the noise protects least.
    """

    signal: float
    noise: float
    length: float
    freedom: int
    strongest: float

    @classmethod
    def of(cls, scores: Array, weights: Array) -> GaussianFit:
        """Least squares. Args: scores, weights: [n], n >= 2; not all weights 0."""
        length = float(np.linalg.norm(weights))
        signal = float(scores @ weights) / length**2
        freedom = len(scores) - 1
        noise = max(_LEAST_NOISE, float(np.linalg.norm(scores - signal * weights)) / math.sqrt(freedom))
        return cls(signal=signal, noise=noise, length=length, freedom=freedom, strongest=float(np.max(weights)))

    def epsilon(self, delta: float) -> float:
        """Epsilon of a Gaussian mechanism with this noise between -mu and mu: an estimate, not a bound."""
        return self._epsilon(self.signal / self.noise, delta)

    def interval(self, delta: float, confidence: float = 0.95) -> tuple[float, float]:
        """The confidence interval of that estimate, from the noncentral t distribution."""
        tail = (1 - confidence) / 2
        return self._epsilon(self._quotient(tail), delta), self._epsilon(self._quotient(1 - tail), delta)

    def p_value(self, noise_ratio: float) -> float:
        """How likely so large a signal over noise is if noise std / sensitivity is at least `noise_ratio`."""
        return self._tail(1 / (2 * noise_ratio * self.strongest))

    def noise_p_value(self, noise_ratio: float) -> float:
        """How likely so little noise is if noise std / sensitivity is at least that for updates of one clip norm."""
        claimed = 2 * noise_ratio * self.strongest
        return float(stats.chi2.cdf(self.freedom * (self.noise / claimed) ** 2, self.freedom))

    def clip_p_value(self) -> float:
        """How likely so large a signal is if no update exceeds the clip norm."""
        return float(stats.t.sf((self.signal - 1) * self.length / self.noise, self.freedom))

    def _epsilon(self, quotient: float, delta: float) -> float:
        """Epsilon where mu / sigma is `quotient`."""
        return gaussian_epsilon(1 / (2 * quotient * self.strongest), delta) if quotient > 0 else 0.0

    def _tail(self, quotient: float) -> float:
        """Pr[mu / sigma is found as large as it was | it is `quotient`]."""
        found = self.signal / self.noise * _spread(self.freedom)
        return float(stats.norm.sf(self.length * (found - quotient)).mean())

    def _quotient(self, tail: float) -> float:
        """The mu / sigma under which this tail is as likely as given."""
        return _root(lambda quotient: self._tail(quotient) - tail, self.signal / self.noise)


@cache
def _spread(freedom: int) -> Array:
    """Quantiles of an estimate of a std of 1."""
    middles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    quantiles: Array = np.sqrt(stats.chi2.ppf(middles, freedom) / freedom)
    return quantiles


def noise_ratio_of(epsilon: float, delta: float) -> float:
    """Noise std / sensitivity of one Gaussian release with this epsilon > 0: the inverse of `gaussian_epsilon`."""
    check.positive("epsilon", epsilon)
    return math.exp(_root(lambda log_ratio: epsilon - gaussian_epsilon(math.exp(log_ratio), delta), 0.0))


def two_gaussians_epsilon(first: tuple[float, float], second: tuple[float, float], delta: float) -> float:
    """The least epsilon >= 0 that joins two normal distributions at `delta`, in both directions.

    Args: first, second: (mean, std > 0).
    """
    for _, std in (first, second):
        check.positive("std", std)

    def excess(epsilon: float) -> float:
        return max(_hockey_stick(first, second, epsilon), _hockey_stick(second, first, epsilon)) - delta

    if excess(0.0) <= 0:
        return 0.0
    high = 1.0
    while excess(high) > 0:
        if high > _LARGEST_EPSILON**2:
            return math.inf
        high *= 2
    return float(brentq(excess, 0.0, high, xtol=1e-12))


def one_shot_epsilon(cosines: Array, dimension: int, delta: float) -> float:
    """An estimate of epsilon from cosines between the model's change and canaries that are in or out.

    Args: cosines: [n] of the canaries that took part. dimension: d; the cosine of one that did not is N(0, 1/d).
    Source: Andrew et al. 2023, arXiv:2302.03098.
    """
    seen = (float(np.mean(cosines)), float(np.std(cosines, ddof=1)))
    return two_gaussians_epsilon((0.0, dimension**-0.5), seen, delta)


def paired_one_shot_epsilon(cosines: Array, delta: float) -> float:
    """The same for canaries that send one of two opposite updates; cosines [n]: times the coin, so N(-mu) or N(mu)."""
    return GaussianFit.of(cosines, np.ones_like(cosines)).epsilon(delta)


def _hockey_stick(first: tuple[float, float], second: tuple[float, float], epsilon: float) -> float:
    """Pr_first[A] - e^epsilon Pr_second[A] on the set A where the densities' log ratio exceeds epsilon.

    The log ratio is a quadratic a x^2 + b x + c, so that A lies between, or beyond, its two roots.
    """
    (mean, std), (other, spread) = first, second
    a = 0.5 * (spread**-2 - std**-2)
    b = mean / std**2 - other / spread**2
    c = 0.5 * (other**2 / spread**2 - mean**2 / std**2) + math.log(spread / std) - epsilon
    if abs(a) * std**2 < 1e-12:
        if b == 0:
            return 0.0
        edges = (-c / b, math.inf) if b > 0 else (-math.inf, -c / b)
        return _mass(first, edges) - _times(epsilon, second, edges)
    square = b * b - 4 * a * c
    if square <= 0:
        return 0.0 if a < 0 else 1.0 - math.exp(min(epsilon, 700.0))
    low, high = sorted(((-b - math.sqrt(square)) / (2 * a), (-b + math.sqrt(square)) / (2 * a)))
    inside = [(low, high)] if a < 0 else [(-math.inf, low), (high, math.inf)]
    return sum(_mass(first, edges) - _times(epsilon, second, edges) for edges in inside)


def _mass(normal: tuple[float, float], edges: tuple[float, float]) -> float:
    """Probability between two edges."""
    return math.exp(_log_mass(normal, edges))


def _times(epsilon: float, normal: tuple[float, float], edges: tuple[float, float]) -> float:
    """e^epsilon times the probability between two edges."""
    return math.exp(min(epsilon + _log_mass(normal, edges), 700.0))


def _log_mass(normal: tuple[float, float], edges: tuple[float, float]) -> float:
    low, high = ((edge - normal[0]) / normal[1] for edge in edges)
    if low > 0:
        low, high = -high, -low  # the tail that keeps its digits
    upper, lower = stats.norm.logcdf(high), stats.norm.logcdf(low)
    return float(upper + np.log1p(-np.exp(lower - upper))) if upper > lower else -math.inf


def _root(rising: Callable[[float], float], start: float) -> float:
    """Where a rising function is 0."""
    step = max(1.0, abs(start)) / 8
    low, high = start - step, start + step
    while rising(low) > 0:
        low, step = low - step, 2 * step
    while rising(high) < 0:
        high, step = high + step, 2 * step
    return float(brentq(rising, low, high, xtol=1e-13, rtol=1e-13))
