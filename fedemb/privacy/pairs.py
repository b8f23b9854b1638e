"""What one round can reveal about one user: pairs of output distributions that dominate every neighbouring pair.

Everything is in units of the noise: q is the sampling rate, s = (noise std) / (L2 sensitivity under substitute-one),
mu = 1 / s. Losses are natural logarithms of likelihood ratios; log-probabilities keep tails of 1e-300 exact.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, log_ndtr

from fedemb.core import check

Array: TypeAlias = NDArray[np.float64]

_ROUND_OFF = 8 * np.finfo(np.float64).eps


@dataclass(frozen=True, kw_only=True)
class Round(ABC):
    """One round's sampling and noise.

    sampling_rate: q in (0, 1], the chance that a given user takes part.
    noise_ratio: s >= 0, noise std / L2 sensitivity under substitute-one.
    """

    sampling_rate: float
    noise_ratio: float

    def __post_init__(self) -> None:
        check.positive("sampling_rate", self.sampling_rate)
        check.non_negative("noise_ratio", self.noise_ratio)
        if self.sampling_rate > 1:
            raise ValueError(f"sampling_rate must be at most 1, got sampling_rate={self.sampling_rate}")

    @abstractmethod
    def log_delta(self, epsilon: Array) -> Array:
        """log of the privacy profile at `epsilon` >= 0 [n], rounded up by the arithmetic's own error.

        The profile is symmetric: it bounds both orders of every neighbouring pair.
        """

    @property
    @abstractmethod
    def severity(self) -> float:
        """Of two rounds of one kind, that with no less severity and no more noise has no smaller profile anywhere.

        Profiles that are no smaller anywhere stay so when they compose (Zhu, Dong and Wang 2022, arXiv:2106.08567).
        """

    @classmethod
    @abstractmethod
    def rate_at(cls, severity: Array, mu: Array) -> Array:
        """The sampling rates [n] of the rounds with these severities and these mu = 1 / s."""

    @abstractmethod
    def attack_log_masses(self, edges: Array) -> tuple[Array, Array]:
        """Log-masses of the loss buckets between increasing `edges` [n] for one concrete pair of neighbours.

        Returns: (under the first, under the second neighbour), each [n + 1], -inf for none; the outer two are open.
        """


@dataclass(frozen=True, kw_only=True)
class FixedSizeRound(Round):
    """M of N users without replacement, q = M / N, plus Gaussian noise; q = 1 is the Gaussian mechanism.

    Over all updates u, u' of the substituted user and v of whoever takes the slot otherwise, in a ball of diameter 1/s,
    the profile of ((1-q) N(v) + q N(u), (1-q) N(v) + q N(u')) is at most q H_{1+(e^eps-1)/q}(N(0) || N(mu)) for
    eps >= 0, attained at v = u', and follows for eps < 0 by swapping the two: the maximum over both orders is taken
    inside the round, because the maximum after composition is no bound under substitution.
    Source: advanced joint convexity, Balle, Barthe and Gaboardi 2018 (arXiv:1807.01647, Theorem 2); the profile of a
    dominating pair, Zhu, Dong and Wang 2022 (arXiv:2106.08567).
    """

    def log_delta(self, epsilon: Array) -> Array:
        """See `Round.log_delta`."""
        mu = 1 / self.noise_ratio
        inner = _inner_epsilon(epsilon, self.sampling_rate)
        upper, lower = log_ndtr(mu / 2 - inner / mu), log_ndtr(-mu / 2 - inner / mu)
        return _log_difference(np.log(self.sampling_rate) + upper, inner + lower - upper, np.abs(upper) + inner)

    @property
    def severity(self) -> float:
        """The profile at epsilon = 0: q TV(mu), with TV(mu) the distance in total variation of N(0) and N(mu).

        Proof of what `Round.severity` says. Let mu' >= mu and q' TV(mu') = q TV(mu). As a function of u = e^eps - 1 the
        profile has the slope -Phi(-mu/2 - log(1 + u/q) / mu), so the second minus the first, D(u), rises where
        A(u) = log(1 + u/q) / mu - log(1 + u/q') / mu' is below (mu' - mu) / 2. A' has the sign of
        (mu' - mu) u + mu' q' - mu q: A starts at 0 and increases, or first falls and then increases, and exceeds
        (mu' - mu) / 2 from some point on, or never. So D rises first and then, if ever, falls; it is 0 at u = 0 and
        tends to 0, hence is nowhere negative. A larger q' adds to the profile: whoever sees that round can replace the
        output by fresh noise with some chance and has the pair of a smaller rate.
        """
        return self.sampling_rate * float(_total_variation(np.array(1 / self.noise_ratio)))

    @classmethod
    def rate_at(cls, severity: Array, mu: Array) -> Array:
        """See `Round.rate_at`."""
        return np.minimum(severity / _total_variation(mu), 1.0)

    def attack_log_masses(self, edges: Array) -> tuple[Array, Array]:
        """The pair that attains the profile: (1-q) N(0) + q N(mu) against N(0)."""
        mu, q = 1 / self.noise_ratio, self.sampling_rate
        visible = edges > np.log1p(-q) if q < 1 else np.ones_like(edges, dtype=bool)  # a loss is never below log(1-q)
        cuts = np.full_like(edges, -np.inf)
        cuts[visible] = _inner_epsilon(edges[visible], q) / mu + mu / 2
        background = _log_masses(cuts)
        return _mixture(q, background, _log_masses(cuts - mu)), background


@dataclass(frozen=True, kw_only=True)
class PoissonRound(Round):
    """Each user independently with chance q, one user a virtual client, plus Gaussian noise.

    The slot of an absent user is empty (v = 0), so the dominating pair is (1-q) N(0) + q N(mu/2) against
    (1-q) N(0) + q N(-mu/2): its own mirror image, and a concrete pair of neighbours, hence tight.
    Source: Lebeda, Regehr, Kamath and Steinke 2024, "Avoiding pitfalls for privacy accounting of subsampled mechanisms
    under composition" (arXiv:2405.20769).
    """

    def log_delta(self, epsilon: Array) -> Array:
        """See `Round.log_delta`."""
        q, shift, cut = self.sampling_rate, 0.5 / self.noise_ratio, self._cut(epsilon)
        taken, empty, other = log_ndtr(shift - cut), log_ndtr(-cut), log_ndtr(-shift - cut)
        with np.errstate(divide="ignore"):  # log(0) at epsilon = 0 and at q = 1
            excess = epsilon + np.log(-np.expm1(-epsilon)) + np.log1p(-q) - np.log(q)
        removed = np.logaddexp(excess + empty - taken, epsilon + other - taken)
        return _log_difference(np.log(q) + taken, removed, np.abs(taken) + epsilon)

    @property
    def severity(self) -> float:
        """q: whoever sees a round can make it one of a smaller rate and more noise, by replacing and adding noise."""
        return self.sampling_rate

    @classmethod
    def rate_at(cls, severity: Array, mu: Array) -> Array:
        """See `Round.rate_at`."""
        return severity

    def attack_log_masses(self, edges: Array) -> tuple[Array, Array]:
        """The dominating pair itself."""
        q, shift = self.sampling_rate, 0.5 / self.noise_ratio
        cuts = np.sign(edges) * self._cut(np.abs(edges))
        background = _log_masses(cuts)
        return _mixture(q, background, _log_masses(cuts - shift)), _mixture(q, background, _log_masses(cuts + shift))

    def _cut(self, epsilon: Array) -> Array:
        """Where the loss reaches `epsilon` >= 0: the root of a quadratic in exp(shift * output)."""
        q, shift = self.sampling_rate, 0.5 / self.noise_ratio
        with np.errstate(divide="ignore"):
            log_b = epsilon / 2 + np.log(-np.expm1(-epsilon) / 2) + np.log1p(-q) - np.log(q) + shift**2 / 2
        arsinh = np.logaddexp(log_b, np.logaddexp(2 * log_b, 0) / 2)
        return np.asarray((epsilon / 2 + arsinh) / shift)


def _total_variation(mu: Array) -> Array:
    """The distance of N(0) and N(mu): 2 Phi(mu / 2) - 1."""
    return np.asarray(erf(mu / np.sqrt(8)))


def _inner_epsilon(epsilon: Array, q: float) -> Array:
    """log(1 + (e^epsilon - 1) / q), for epsilon > log(1 - q)."""
    return np.asarray(epsilon + np.log1p(-(1 - q) * np.expm1(-epsilon) / q))


def _log_difference(log_value: Any, log_share: Array, magnitude: Array) -> Array:
    """log(value * (1 - share)), rounded up by the error that logarithms of this magnitude carry."""
    error = _ROUND_OFF * (1 + magnitude)
    return np.asarray(log_value + np.log(np.maximum(-np.expm1(np.minimum(log_share, 0)), 0) + error))


def _mixture(q: float, log_left: Array, log_right: Array) -> Array:
    """log((1 - q) * left + q * right)."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.logaddexp(np.log1p(-q) + log_left, np.log(q) + log_right))


def _log_masses(cuts: Array) -> Array:
    """Log of the standard normal masses between increasing cuts [n], as [n + 1]; each from its nearer tail."""
    low, high = np.concatenate([[-np.inf], cuts]), np.concatenate([cuts, [np.inf]])
    upper = low > 0
    near, far = np.where(upper, log_ndtr(-low), log_ndtr(high)), np.where(upper, log_ndtr(-high), log_ndtr(low))
    masses = np.full_like(near, -np.inf)
    some = near > far
    masses[some] = near[some] + np.log(-np.expm1(far[some] - near[some]))
    return np.asarray(masses, dtype=np.float64)
